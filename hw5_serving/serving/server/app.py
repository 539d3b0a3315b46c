"""The routes: OpenAI's, and those that whoever runs a server needs."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from serving.server import admin, errors
from serving.server.answers import Reply
from serving.server.errors import APIError
from serving.server.middleware import BodyLimit, CountAnswers
from serving.server.protocol import ChatRequest, CompletionRequest, EmbeddingRequest, Generate
from serving.server.service import EMBEDDING_MODEL, Service


class EventStream(StreamingResponse):
    """Server-sent events; `at_end` is called however it ends, a client that left included."""

    def __init__(self, content: AsyncIterator[str], at_end: Callable[[], None]) -> None:
        super().__init__(content, media_type="text/event-stream")
        self.headers["Cache-Control"] = "no-cache"
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._at_end()


def create_app(service: Service) -> FastAPI:
    """The application around a service, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.loop.start()
        yield
        await service.loop.stop()

    app = FastAPI(title="Homework 5: serving a real model", lifespan=lifespan)
    errors.install(app)
    app.add_middleware(BodyLimit, most=service.settings.max_body)
    app.add_middleware(CountAnswers, metrics=service.metrics)
    _generation_routes(app, service)
    _model_routes(app, service)
    _operator_routes(app, service)
    if service.settings.admin_token is not None:
        app.include_router(admin.make_router(service, service.settings.admin_token))
    return app


async def _answer(
    service: Service, request: Request, body: Generate, prompt: list[int]
) -> Response:
    """Run one request; a client that leaves takes it along."""
    generation = await service.begin(body, prompt)
    reply = Reply(service, body, generation)
    if body.stream:
        return EventStream(reply.events(), generation.abort)
    gone = asyncio.create_task(_until_gone(request))
    whole = asyncio.create_task(reply.whole())
    try:
        await asyncio.wait({gone, whole}, return_when=asyncio.FIRST_COMPLETED)
        if not whole.done():
            return Response(status_code=499)  # nobody reads it; the number is nginx's, for the log
        return JSONResponse(whole.result())
    finally:
        gone.cancel()
        whole.cancel()
        generation.abort()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _generation_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions")
    async def chat(request: Request, body: ChatRequest) -> Response:
        messages = [message.as_dict() for message in body.messages]
        # Long texts take long: meanwhile the event loop serves others.
        prompt = await asyncio.to_thread(service.tokenizer.chat, messages)
        return await _answer(service, request, body, prompt)

    @app.post("/v1/completions")
    async def complete(request: Request, body: CompletionRequest) -> Response:
        prompt = body.prompt
        if isinstance(prompt, str):
            prompt = await asyncio.to_thread(service.tokenizer.encode, prompt)
        return await _answer(service, request, body, prompt)

    @app.post("/v1/embeddings")
    async def embed(body: EmbeddingRequest) -> dict[str, Any]:
        if body.model != EMBEDDING_MODEL:
            raise APIError(404, f"the model {body.model!r} does not exist; embeddings are made by "
                           f"{EMBEDDING_MODEL}", param="model", code="model_not_found")  # fmt: skip
        one = isinstance(body.input, str) or isinstance(body.input[0], int)
        vectors, tokens = await service.encode([body.input] if one else body.input)
        if body.dimensions not in (None, vectors.shape[1]):
            raise APIError(400, f"dimensions: this model's vectors have {vectors.shape[1]}",
                           param="dimensions")  # fmt: skip
        rows = vectors.numpy().astype("<f4")
        data = [
            {"object": "embedding", "index": i, "embedding": _packed(row, body.encoding_format)}
            for i, row in enumerate(rows)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": body.model, "usage": usage}


def _packed(row: np.ndarray, encoding: str) -> list[float] | str:
    return base64.b64encode(row.tobytes()).decode() if encoding == "base64" else row.tolist()


def _model_routes(app: FastAPI, service: Service) -> None:
    started = int(time.time())

    def models() -> list[dict[str, Any]]:
        base = service.settings.model_name
        found = [(base, None), *((name, base) for name in service.adapters)]
        if service.encoder is not None:
            found.append((EMBEDDING_MODEL, None))
        return [
            {"id": name, "object": "model", "created": started, "owned_by": "serving", "parent": of}
            for name, of in found
        ]

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": models()}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        for model in models():
            if model["id"] == name:
                return model
        raise APIError(404, f"the model {name!r} does not exist", param="model",
                       code="model_not_found")  # fmt: skip


def _operator_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> JSONResponse:
        if service.loop.failure is not None:
            return JSONResponse({"status": service.loop.failure}, 503)
        if service.draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        text = service.metrics.text(service.engine.weights.active)
        return Response(text, media_type=CONTENT_TYPE_LATEST)
