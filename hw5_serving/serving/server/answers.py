"""A request's way from the engine's tokens to the API's objects, whole or as a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from serving.server.engine_loop import ABORTED, FAILED, STOP, Generation
from serving.server.errors import APIError
from serving.server.protocol import ChatRequest, Generate
from serving.server.service import Service
from serving.server.text import AnswerText


class Reply:
    """One answer in the making. `pieces` runs it; the other attributes are whole afterwards."""

    def __init__(self, service: Service, request: Generate, generation: Generation) -> None:
        self.service, self.request, self.generation = service, request, generation
        end_ids = service.tokenizer.stop_ids
        self.text = AnswerText(service.tokenizer.stream(), request.stops, end_ids)
        self.chat = isinstance(request, ChatRequest)
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.finish: str | None = None
        self.version = ""

    async def pieces(self) -> AsyncIterator[str]:
        """Pieces of text as they become certain. Raises APIError where the engine fails."""
        canary, generation = self.service.canary, self.generation
        async for event in generation:
            self.version = event.version or self.version
            piece = self.text.push(event.tokens)
            if event.finish == FAILED:
                await canary.record(self.version, True, generation.seconds_to_first)
                raise APIError(500, event.error, code="engine_failed")
            if event.finish == ABORTED:
                return
            if event.finish:
                piece += self.text.finish()
                self.finish = event.finish
            if self.text.matcher.stopped:
                self.finish = STOP
                generation.abort()
            if self.finish:
                await canary.record(self.version, False, generation.seconds_to_first)
            if piece:
                yield piece
            if self.finish:
                return

    def usage(self) -> dict[str, Any]:
        """Tokens of prompt and answer, the token that ended it included."""
        prompt = len(self.generation.work.prompt)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.text.tokens,
            "total_tokens": prompt + self.text.tokens,
            "prompt_tokens_details": {"cached_tokens": self.generation.cached_tokens},
        }

    def envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """What all of the API's answers have; system_fingerprint is the version of the weights."""
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.request.model,
            "system_fingerprint": self.version or None, "choices": choices,
        }  # fmt: skip

    async def whole(self) -> dict[str, Any]:
        """The answer in one object."""
        text = "".join([piece async for piece in self.pieces()])
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": self.finish}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self.envelope(kind, [choice]), "usage": self.usage()}

    async def events(self) -> AsyncIterator[str]:
        """The answer as server-sent events; an error in the middle is an event, then it ends."""
        options = self.request.stream_options
        with_usage = options is not None and options.include_usage
        try:
            first = True
            async for piece in self.pieces():
                if first and self.chat:
                    yield self._chunk({"role": "assistant", "content": ""}, with_usage)
                first = False
                yield self._chunk({"content": piece} if self.chat else piece, with_usage)
            if first and self.chat:
                yield self._chunk({"role": "assistant", "content": ""}, with_usage)
            yield self._chunk({} if self.chat else "", with_usage, self.finish)
        except APIError as error:
            yield sent_event(error.body())
            return
        if with_usage:
            kind = "chat.completion.chunk" if self.chat else "text_completion"
            yield sent_event({**self.envelope(kind, []), "usage": self.usage()})
        yield "data: [DONE]\n\n"

    def _chunk(
        self, content: dict[str, str] | str, with_usage: bool, finish: str | None = None
    ) -> str:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
        choice["delta" if self.chat else "text"] = content
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        body = self.envelope(kind, [choice])
        return sent_event({**body, "usage": None} if with_usage else body)


def sent_event(body: dict[str, Any]) -> str:
    """One server-sent event. JSON has no line breaks of its own, so one data line holds it."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
