"""What the routes share: engine, tokenizer, encoder, and what is allowed at the moment."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from serving.encoder import SentenceEncoder
from serving.engine import Engine
from serving.sequence import SamplingParams
from serving.server.engine_loop import EngineFailed, EngineLoop, Generation, Overloaded, Work
from serving.server.errors import APIError, unfinished
from serving.server.metrics import Metrics
from serving.server.protocol import GREEDY_BELOW, Generate
from serving.server.rollouts import CanaryControl
from serving.server.text import Tokenizer

RETRY_SECONDS = 1
EMBEDDING_MODEL = "all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Settings:
    """What serve.py's options say.

    queue_limit: requests that may wait beyond those the engine runs side by side. default_tokens: how
    long a chat answer gets that says nothing about it. admin_token: None closes the admin routes.
    admin_folder: where files of adapters and weights must lie. max_body: bytes of a request.
    """

    model_name: str
    queue_limit: int = 64
    default_tokens: int = 256
    admin_token: str | None = field(default=None, repr=False)
    admin_folder: Path = Path("runs/served")
    max_body: int = 4_000_000


class Service:
    """One server's state. Made anywhere; `start` on the event loop that serves."""

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, settings: Settings,
        encoder: SentenceEncoder | None = None,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.tokenizer = tokenizer
        self.settings = settings
        self.encoder = encoder
        self.metrics = Metrics()
        most = engine.config.max_sequences + settings.queue_limit
        self.loop = EngineLoop(engine, most, self.metrics)
        self.metrics.watch(self.loop)
        self.canary = CanaryControl(self.loop)
        self.draining = False
        self._encoding = 0
        self._one_encodes = asyncio.Lock()

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters that new requests may use."""
        bank = self.engine.bank
        return [use.name for use in list(bank.use) if use and not use.leaving] if bank else []

    @property
    def positions(self) -> int:
        """How many tokens a prompt and its answer may have together."""
        config = self.engine.config
        # The last token of an answer is never computed, so it needs no room in the pool.
        return min(self.engine.sizes.max_positions, config.num_blocks * config.block_size + 1)

    def check_open(self) -> None:
        """503 while draining or after the engine failed."""
        if self.loop.failure is not None:
            raise APIError(500, self.loop.failure, code="engine_failed")
        if self.draining:
            raise APIError(503, "the server is shutting down; ask another one", code="draining",
                           retry_after=RETRY_SECONDS)  # fmt: skip

    def adapter_of(self, model: str) -> str | None:
        """The adapter that a request's `model` names; None for the model itself. 404 else."""
        if model == self.settings.model_name:
            return None
        if model in self.adapters:
            return model
        known = ", ".join([self.settings.model_name, *self.adapters])
        raise APIError(404, f"the model {model!r} does not exist; there are: {known}",
                       param="model", code="model_not_found")  # fmt: skip

    def sampling_of(self, request: Generate, prompt_tokens: int) -> SamplingParams:
        """The engine's parameters. 400 where prompt and answer do not fit."""
        room = self.positions - prompt_tokens
        wanted = request.wanted_tokens
        if room < 1 or (wanted or 1) > room:
            asked = f" and {wanted} for the answer" if wanted else ""
            raise APIError(
                400, f"this model's maximum context length is {self.positions} tokens; the prompt "
                f"has {prompt_tokens}{asked}", code="context_length_exceeded",
                param="messages" if hasattr(request, "messages") else "prompt",
            )  # fmt: skip
        temperature = 1.0 if request.temperature is None else request.temperature
        return SamplingParams(
            max_new_tokens=wanted or min(room, self.settings.default_tokens),
            temperature=0.0 if temperature < GREEDY_BELOW else temperature,
            top_k=request.top_k or 0,
            top_p=1.0 if request.top_p is None else request.top_p,
            seed=request.seed,
            stop_ids=() if request.ignore_eos else tuple(self.tokenizer.stop_ids),
        )

    async def begin(self, request: Generate, prompt: list[int]) -> Generation:
        """Give a request to the engine; returns when the engine has taken it. Raises APIError."""
        self.check_open()
        adapter = self.adapter_of(request.model)
        sampling = self.sampling_of(request, len(prompt))
        version = self.canary.route(request.key or secrets.token_hex(8))
        try:
            return await self._submit(Work(prompt, sampling, adapter, version))
        except KeyError:
            # The adapter or the canary went away since they were looked up.
            self.adapter_of(request.model)
        try:
            return await self._submit(Work(prompt, sampling, adapter))
        except KeyError as error:
            raise APIError(404, str(error.args[0]), param="model", code="model_not_found") from None

    async def _submit(self, work: Work) -> Generation:
        try:
            generation = self.loop.submit(work)
        except Overloaded as error:
            raise APIError(429, f"{error}; try again later", code="rate_limit_exceeded",
                           retry_after=RETRY_SECONDS) from None  # fmt: skip
        except EngineFailed as error:
            raise APIError(500, str(error), code="engine_failed") from None
        try:
            await generation.accepted
        except ValueError as error:
            raise APIError(400, str(error)) from None
        except NotImplementedError as error:
            raise unfinished(error) from None
        except EngineFailed as error:
            raise APIError(500, str(error), code="engine_failed") from None
        except asyncio.CancelledError:
            generation.abort()
            raise
        return generation

    async def encode(self, texts: list[str] | list[list[int]]) -> tuple[Tensor, int]:
        """Unit vectors of texts (or of their ids), and how many tokens they had. Raises APIError."""
        encoder = self.encoder
        if encoder is None:
            raise APIError(503, "this server has no encoder: run `make fetch`, then start it again",
                           code="no_encoder")  # fmt: skip
        self.check_open()
        if self._encoding >= self.loop.max_requests:
            raise APIError(429, f"{self._encoding} embedding requests wait; try again later",
                           code="rate_limit_exceeded", retry_after=RETRY_SECONDS)  # fmt: skip
        self._encoding += 1
        try:
            async with self._one_encodes:
                return await asyncio.to_thread(_encode, encoder, texts)
        except ValueError as error:
            raise APIError(400, str(error), param="input") from None
        finally:
            self._encoding -= 1


def _encode(encoder: SentenceEncoder, texts: list[str] | list[list[int]]) -> tuple[Tensor, int]:
    ids = [encoder.tokenize([item])[0] if isinstance(item, str) else item for item in texts]
    return encoder.encode_ids(ids), sum(len(row) for row in ids)
