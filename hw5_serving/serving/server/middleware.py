"""Around all routes: a limit on what a client may send, and a count of the answers."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.server.errors import APIError
from serving.server.metrics import Metrics


class BodyLimit:
    """413 for a body of more than `most` bytes, announced or not, without keeping it in memory."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise APIError(413, f"the body has more than {self.most} bytes")
            return message

        await self.app(scope, counted, send)


class CountAnswers:
    """Counts answers by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Paths that no route knows are one label: anybody can invent more of them.
                route = getattr(scope.get("route"), "path", "unknown")
                self.metrics.answered(route, message["status"])
            await send(message)

        await self.app(scope, receive, counted)
