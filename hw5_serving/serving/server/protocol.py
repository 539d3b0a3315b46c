"""What requests may hold: the arguments of OpenAI's API that this server knows, checked.

What it does not support is refused by name rather than ignored; unknown arguments as well.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

MAX_STOPS = 4
GREEDY_BELOW = 1e-4  # lower temperatures overflow in the division, and are greedy anyway


def _unicode(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("the text holds half a surrogate pair, which is no Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_unicode)]
TokenIds = list[Annotated[int, Field(ge=0)]]


def _one(value: int | None, info: ValidationInfo) -> int | None:
    if value not in (None, 1):
        raise ValueError(f"this server gives one answer to a request: {info.field_name} must be 1")
    return value


def _unsupported(value: Any) -> Any:
    if value:
        raise ValueError("this server does not support it; leave it out")
    return value


One = Annotated[int | None, AfterValidator(_one)]


class Strict(BaseModel):
    """Types are not converted, nan and inf are no numbers, unknown arguments are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class StreamOptions(Strict):
    """stream_options: whether a last chunk tells the usage."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Ignored(Strict):
    """Arguments that clients send and that change no answer here."""

    user: Text | None = None
    safety_identifier: Text | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: Text | None = None

    @property
    def key(self) -> str | None:
        """Who asks, for sticky routing."""
        return self.user or self.safety_identifier or None


class Generate(Ignored):
    """What chat and plain completions share."""

    model: Text
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)  # as in vLLM; 0: all
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Text | list[Text] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False  # as in vLLM: go on to max_tokens
    max_tokens: int | None = Field(None, ge=1)
    n: One = None
    logprobs: Annotated[bool | int | None, AfterValidator(_unsupported)] = None
    logit_bias: Annotated[dict[str, float] | None, AfterValidator(_unsupported)] = None
    frequency_penalty: Annotated[float | None, AfterValidator(_unsupported)] = None
    presence_penalty: Annotated[float | None, AfterValidator(_unsupported)] = None

    @field_validator("stop")
    @classmethod
    def _stops(cls, value: str | list[str] | None) -> str | list[str] | None:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > MAX_STOPS:
            raise ValueError(f"{len(stops)} stop strings; at most {MAX_STOPS} are allowed")
        if "" in stops:
            raise ValueError("an empty stop string would stop before the first character")
        return value

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Generate:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def wanted_tokens(self) -> int | None:
        """How many tokens the answer may have, if the request says so."""
        return self.max_tokens


class Part(Strict):
    """A part of a message. Others than text are refused."""

    type: Literal["text"]
    text: Text


class Message(Strict):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Part]
    name: Text | None = None

    def as_dict(self) -> dict[str, str]:
        """What the tokenizer takes: role and one text."""
        role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return {"role": role, "content": self.content}
        return {"role": role, "content": "".join(part.text for part in self.content)}


class ChatRequest(Generate):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def wanted_tokens(self) -> int | None:
        """The newer argument goes first."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Generate):
    """POST /v1/completions."""

    prompt: Text | TokenIds | list[Text] | list[TokenIds]
    echo: Annotated[bool | None, AfterValidator(_unsupported)] = None
    best_of: One = None
    suffix: Annotated[Text | None, AfterValidator(_unsupported)] = None

    @field_validator("prompt")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        if isinstance(value, list) and value and not isinstance(value[0], int):
            if len(value) > 1:
                raise ValueError(
                    f"{len(value)} prompts; this server takes one a request: send requests side "
                    "by side, they are batched"
                )
            value = value[0]
        if not value:
            raise ValueError("an empty prompt has nothing to go on from")
        return value

    @property
    def wanted_tokens(self) -> int:
        """The API's default is 16."""
        return self.max_tokens or 16


class EmbeddingRequest(Ignored):
    """POST /v1/embeddings."""

    model: Text
    input: Text | list[Text] | TokenIds | list[TokenIds]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @field_validator("input")
    @classmethod
    def _something(cls, value: Any) -> Any:
        if not value or (isinstance(value, list) and any(item in ("", []) for item in value)):
            raise ValueError("it is empty, or holds an empty text")
        if isinstance(value, list) and len(value) > 2048:
            raise ValueError(f"{len(value)} items; at most 2048 are allowed")
        return value
