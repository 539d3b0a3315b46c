"""Errors as the API's clients know them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

FORM = re.compile(r"body|str|.*\[.*\]")  # names of pydantic's, in a place, that are no argument
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class APIError(HTTPException):
    """An error that a client sees. A HTTPException, so that no layer in between rewrites it."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        retry_after: int | None = None,
    ) -> None:  # fmt: skip
        headers = None if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(status, message, headers)
        self.param, self.code = param, code

    def body(self) -> dict[str, Any]:
        """The error object."""
        kind = KINDS.get(self.status_code, "invalid_request_error")
        if self.status_code >= 500:
            kind = "server_error"
        error = {"message": self.detail, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def unfinished(error: NotImplementedError) -> APIError:
    """501 for a task of the homework that is not written yet; other such errors are raised on."""
    if not str(error).startswith("task "):
        raise error
    return APIError(501, f"this needs {error}, which is not written yet", code="task_unfinished")


def _respond(error: APIError) -> JSONResponse:
    return JSONResponse(error.body(), error.status_code, headers=error.headers)


def _from_validation(error: RequestValidationError) -> APIError:
    """One complaint, as a sentence that names the argument.

    Where several forms are allowed (a text, a list of parts) each has its own; the one that came
    deepest into the argument is about the form that was meant.
    """
    first = max(error.errors(), key=lambda complaint: len(complaint["loc"]))
    place = [str(part) for part in first["loc"] if not FORM.fullmatch(str(part))]
    kind, param = first["type"], ".".join(place) or None
    if kind == "json_invalid":
        return APIError(400, f"the body is no JSON: {first.get('ctx', {}).get('error', '')}")
    if kind == "extra_forbidden":
        return APIError(400, f"Unrecognized request argument supplied: {param}", param=param,
                        code="unknown_parameter")  # fmt: skip
    message = first["msg"].removeprefix("Value error, ")
    if kind == "missing":
        message = "you must provide this argument"
    return APIError(400, f"{param or 'body'}: {message}", param=param)


def install(app: FastAPI) -> None:
    """Let every error of `app`, its own and the framework's, leave as an error object."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _respond(_from_validation(error))

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> JSONResponse:
        if not isinstance(error, APIError):
            message = str(error.detail)
            if error.status_code in (404, 405):
                message = f"{request.method} {request.url.path}: {message}"
            headers = error.headers
            error = APIError(error.status_code, message)
            error.headers = headers
        return _respond(error)

    @app.exception_handler(Exception)
    async def unknown(_request: Request, _error: Exception) -> JSONResponse:
        # The traceback is in the log; what it says is nobody's business outside.
        return _respond(APIError(500, "the server met an error of its own", code="internal_error"))
