"""Given: SmolLM2's tokenizer, built by the `tokenizers` package from what the GGUF file says.

    tokenizer = Tokenizer.from_gguf(path)
    prompt = tokenizer.chat([{"role": "user", "content": "Why is the sky blue?"}])

What people type is only ever text: `encode` knows no special tokens, and `chat` puts those of the
template around contents that were encoded apart. Else a user could end their turn and go on as the
system.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import models, pre_tokenizers

from serving.gguf_loader import Metadata

ROLES = ("system", "user", "assistant")
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CONTROL_TYPE = 3  # in tokenizer.ggml.token_type
TURN_BEGINS, TURN_ENDS, TEXT_ENDS = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


class Tokenizer:
    """Byte-level BPE. tokens: each id's text in GPT-2's byte alphabet, control tokens as they are;
    merges: (left, right), most urgent first; control: the ids never made from text; eos: the id
    that ends an answer. stop_ids: those with which an answer may end."""

    def __init__(
        self, tokens: Sequence[str], merges: Sequence[tuple[str, str]], control: Iterable[int], eos: int
    ) -> None:  # fmt: skip
        self.control = frozenset(control)
        places = {token: place for place, token in enumerate(tokens)}
        self._bpe = tokenizers.Tokenizer(models.BPE(places, list(merges)))
        # Each digit is a word of its own; then GPT-2's pattern cuts what is between them.
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True),
             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        )  # fmt: skip
        values = _byte_values()
        self._bytes = [
            token.encode() if place in self.control else bytes(values[letter] for letter in token)
            for place, token in enumerate(tokens)
        ]
        named = (places.get(TURN_ENDS), places.get(TEXT_ENDS))
        self.stop_ids = tuple(dict.fromkeys([eos, *(n for n in named if n in self.control)]))
        self._places = places

    @classmethod
    def from_gguf(cls, path: str | Path) -> Tokenizer:
        """The file's tokenizer. Raises OSError; ValueError for a damaged file or another kind."""
        fields = Metadata(path)
        kind = f"{fields['tokenizer.ggml.model']}/{fields['tokenizer.ggml.pre']}"
        if kind != "gpt2/smollm":
            raise ValueError(f"{fields.path.name} cuts text as {kind}; gpt2/smollm is supported")
        types = fields["tokenizer.ggml.token_type"]
        pairs = [tuple(entry.split(" ", 1)) for entry in fields["tokenizer.ggml.merges"]]
        control = [place for place, number in enumerate(types) if number == CONTROL_TYPE]
        eos = int(fields["tokenizer.ggml.eos_token_id"])
        return cls(fields["tokenizer.ggml.tokens"], pairs, control, eos)

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them a control token. A byte that no token holds is left out; half
        a surrogate pair, which JSON can carry and UTF-8 can't, becomes U+FFFD."""
        if not text.isascii():
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return self._bpe.encode(text, add_special_tokens=False).ids

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Ids of a conversation as SmolLM2 was taught it (ChatML), up to where it answers.

        messages: {"role": one of ROLES, "content": text}; without a first one from the system, the
        model's own stands there. Raises ValueError for another role or content, and for none.
        """
        if not messages:
            raise ValueError("a conversation needs a message")
        opens, closes = self._places[TURN_BEGINS], self._places[TURN_ENDS]
        line = self.encode("\n")
        ids: list[int] = []
        if messages[0].get("role") != "system":
            ids = [opens, *self.encode(f"system\n{DEFAULT_SYSTEM}"), closes, *line]
        for place, message in enumerate(messages):
            role, content = message.get("role"), message.get("content")
            if role not in ROLES:
                raise ValueError(
                    f"message {place}: the role {role!r} is none of {', '.join(ROLES)}"
                )
            if not isinstance(content, str):
                raise ValueError(f"message {place}: the content is no text")
            ids.extend((opens, *self.encode(f"{role}\n{content}"), closes, *line))
        return [*ids, opens, *self.encode("assistant\n")]

    def bytes_of(self, token: int) -> bytes:
        """An id's bytes, b"" for a control token. Raises ValueError outside the vocabulary."""
        if not 0 <= token < len(self._bytes):
            raise ValueError(f"there is no id {token}; they end at {len(self._bytes) - 1}")
        return b"" if token in self.control else self._bytes[token]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, control tokens left out, U+FFFD for bytes that are no character."""
        return b"".join([self.bytes_of(token) for token in ids]).decode(errors="replace")

    def stream(self) -> TextStream:
        """A decoder for one answer, token by token."""
        return TextStream(self)


class TextStream:
    """Text of ids as they come. All that it gives, put together, is `decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._of = tokenizer.bytes_of
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """What is certain with this token: "" while a character lacks bytes."""
        return self._utf8.decode(self._of(token))

    def flush(self) -> str:
        """The end of the answer: U+FFFD for a character that stayed half, else ""."""
        return self._utf8.decode(b"", True)


def _byte_values() -> dict[str, int]:
    """The byte that each letter of GPT-2's alphabet stands for.

    Printable bytes of Latin-1 are their own letters; the others follow U+00FF in their order.
    """
    shown = [byte for byte in range(256) if chr(byte).isprintable() and byte not in (0x20, 0xAD)]
    hidden = sorted(set(range(256)) - set(shown))
    letters = [*map(chr, shown), *(chr(256 + n) for n in range(len(hidden)))]
    return dict(zip(letters, [*shown, *hidden], strict=True))
