"""Routes that change what is served: adapters, versions of the weights, canaries (5.11, 5.12).

Only there where serve.py was given a token, and only for who sends it: Authorization: Bearer TOKEN.
Files are named relative to the server's admin folder and never leave it.
"""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from serving.engine import Engine
from serving.server.engine_loop import EngineFailed
from serving.server.errors import APIError, unfinished
from serving.server.files import inside, read_adapter
from serving.server.protocol import Strict
from serving.server.rollouts import Plan
from serving.server.service import EMBEDDING_MODEL, Service
from serving.tensor_file import read_tensors
from serving.versions import VersionedWeights

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
FileName = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class AdapterFile(Strict):
    """scale: needed where the file does not tell it."""

    name: Name
    file: FileName
    scale: float | None = None


class WeightsFile(Strict):
    """checksum: `state_checksum` of the state; by default the one written in the file."""

    version: Name
    file: FileName
    checksum: str | None = None


class Version(Strict):
    """A loaded version."""

    version: Name


class RolloutPlan(Strict):
    """promise: seconds within which an answer's first token should come; a later one counts as bad."""

    version: Name
    name: Name | None = None
    steps: list[float] = Field([0.01, 0.05, 0.25, 0.5], min_length=1)
    requests_per_step: int = Field(500, ge=1)
    promise: float | None = Field(None, gt=0)


def make_router(service: Service, token: str) -> APIRouter:
    """The routes below /admin."""
    expected = f"Bearer {token}".encode()

    async def check_token(request: Request) -> None:
        sent = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(sent, expected):  # takes as long however much of it is right
            raise APIError(401, "the admin routes need the server's admin token", code="wrong_token")

    router = APIRouter(prefix="/admin", dependencies=[Depends(check_token)])

    @router.get("")
    async def status() -> dict[str, Any]:
        return _status(service)

    _adapter_routes(router, service)
    _weight_routes(router, service)
    _rollout_routes(router, service)
    return router


def _status(service: Service) -> dict[str, Any]:
    weights = service.engine.weights
    found: dict[str, Any] = {"active": weights.active, "adapters": service.adapters}
    if isinstance(weights, VersionedWeights):
        found |= {"previous": weights.previous, "versions": weights.versions}
    return {**found, "rollout": service.canary.status(), "draining": service.draining}


@asynccontextmanager
async def _as_api_errors() -> AsyncIterator[None]:
    """What the parts below raise, as answers."""
    try:
        yield
    except FileNotFoundError as error:
        raise APIError(404, str(error), code="no_such_file") from None
    except (ValueError, OSError) as error:
        raise APIError(400, str(error)) from None
    except KeyError as error:
        raise APIError(404, str(error.args[0])) from None
    except NotImplementedError as error:
        raise unfinished(error) from None
    except EngineFailed as error:
        raise APIError(500, str(error), code="engine_failed") from None
    except RuntimeError as error:
        raise APIError(409, str(error)) from None


def _adapter_routes(router: APIRouter, service: Service) -> None:
    @router.post("/adapters")
    async def load(body: AdapterFile) -> dict[str, Any]:
        bank = service.engine.bank
        if bank is None:
            raise APIError(409, "this server was started without slots for adapters")
        if body.name in (service.settings.model_name, EMBEDDING_MODEL):
            raise APIError(400, f"{body.name!r} is the name of a model", param="name")
        dtype = service.engine.weights.model(service.engine.weights.active).norm.weight.dtype
        async with _as_api_errors():
            path = inside(service.settings.admin_folder, body.file)
            adapter, scale = await asyncio.to_thread(read_adapter, path, dtype)
            scale = scale if body.scale is None else body.scale
            if scale is None or not math.isfinite(scale):
                raise ValueError(f"{body.file} does not tell its scale: name it")
            await service.loop.call(lambda _: bank.load(body.name, adapter, scale))
        return _status(service)

    @router.delete("/adapters/{name}")
    async def remove(name: str) -> dict[str, Any]:
        bank = service.engine.bank
        if bank is None:
            raise APIError(409, "this server was started without slots for adapters")
        async with _as_api_errors():
            await service.loop.call(lambda _: bank.remove(name))
        return _status(service)


def _versioned(service: Service) -> VersionedWeights:
    weights = service.engine.weights
    if not isinstance(weights, VersionedWeights):
        raise APIError(409, "this server has one model for ever: it was started with --quantise, "
                       "or task 5.11 is not written yet")  # fmt: skip
    return weights


def _weight_routes(router: APIRouter, service: Service) -> None:
    @router.post("/weights")
    async def stage(body: WeightsFile) -> dict[str, Any]:
        weights = _versioned(service)
        async with _as_api_errors():
            path = inside(service.settings.admin_folder, body.file)
            state, notes = read_tensors(path)
            checksum = body.checksum or notes.get("checksum")
            if checksum is None:
                raise ValueError(f"{body.file} has no checksum in it: name it")
            # It takes long, and runs beside the engine: 5.11 allows this for `stage` alone.
            await asyncio.to_thread(weights.stage, body.version, state, checksum)
        return _status(service)

    @router.post("/weights/activate")
    async def activate(body: Version) -> dict[str, Any]:
        _versioned(service)
        return await _change(service, lambda engine: engine.activate(body.version))

    @router.post("/weights/rollback")
    async def rollback() -> dict[str, Any]:
        _versioned(service)
        return await _change(service, lambda engine: engine.rollback())

    @router.delete("/weights/{version}")
    async def drop(version: str) -> dict[str, Any]:
        weights = _versioned(service)
        if service.canary.running and service.canary.plan.version == version:
            raise APIError(409, f"version {version!r} is a canary: end its rollout instead")
        async with _as_api_errors():
            await service.loop.call(lambda _: weights.drop(version))
        return _status(service)


async def _change(service: Service, change: Callable[[Engine], object]) -> dict[str, Any]:
    """Another version becomes active; a rollout that compares with the old one ends first."""
    if service.canary.running:
        raise APIError(409, "a rollout runs: end it before you activate or roll back weights")
    async with _as_api_errors():
        await service.loop.call(change)
    return _status(service)


def _rollout_routes(router: APIRouter, service: Service) -> None:
    @router.post("/rollout")
    async def start(body: RolloutPlan) -> dict[str, Any]:
        _versioned(service)
        name = body.name or body.version
        plan = Plan(body.version, name, body.steps, body.requests_per_step, body.promise)
        async with _as_api_errors():
            await service.canary.start(plan)
        return _status(service)

    @router.delete("/rollout")
    async def end() -> dict[str, Any]:
        async with _as_api_errors():
            await service.canary.abandon("by hand")
        return _status(service)
