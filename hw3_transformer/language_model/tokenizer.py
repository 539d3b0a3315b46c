"""Task 3.1: text to token ids and back, whole or as a stream, and SmolLM2's tokenizer from GGUF."""

from __future__ import annotations

import codecs
import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from language_model.bpe import pre_tokenize, split_at_special_tokens, valid_text
from language_model.tokenizer_metadata import read_tokenizer_metadata

SYSTEM_PROMPT = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
START, END = "<|im_start|>", "<|im_end|>"
CONTROL = 3  # a GGUF token's type: never made from text
CACHED_WORDS = 1 << 16
LONGEST_CACHED = 64


def byte_characters() -> dict[int, str]:
    """GPT-2's character for each byte: how vocabulary files write tokens that are not text.

    Bytes that print by themselves in Latin-1 (! to ~, ¡ to ¬, ® to ÿ) stand for themselves; the
    others, in order, for U+0100, U+0101 and so on: byte 0 is Ā, the space is Ġ, newline is Ċ.
    """
    raise NotImplementedError("task 3.1: byte_characters")


def merge_word(
    ids: Sequence[int], merges: Mapping[tuple[int, int], tuple[int, int]]
) -> list[int]:
    """One word's ids after all merges that apply. merges: pair of ids -> (rank, id it makes).

    Always the pair of the lowest rank is merged next, the leftmost of equals, until none is left.
    Cost: O(n log n) for a word of n ids; a word of 100 kB (base64, a run of spaces, a language that
    writes no spaces) must not cost n².
    """
    raise NotImplementedError("task 3.1: merge_word")


class Tokenizer:
    """Byte-level BPE with special tokens.

    vocabulary: the bytes of every id. merges: (left, right) in order of rank; a merge makes the
    token whose bytes are left + right. special_tokens: text -> id; their ids are never made from
    ordinary text.
    """

    def __init__(
        self,
        vocabulary: Sequence[bytes],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        self.vocabulary = list(vocabulary)
        self.special_tokens = dict(special_tokens or {})
        raise NotImplementedError("task 3.1: Tokenizer.__init__")

    @classmethod
    def from_gguf(cls, path: str | Path) -> Tokenizer:
        """The tokenizer that a GGUF file holds (given: `read_tokenizer_metadata`).

        Fields, all named tokenizer.ggml.…: `tokens` (text of each id, written with
        `byte_characters`, special tokens as they are), `token_type` (CONTROL marks special tokens),
        `merges` ("left right", written the same way, in order of rank), `model` and `pre`. Raises
        ValueError for another `model` than "gpt2" or another `pre` than "smollm", whose text is cut
        into words in another way.
        """
        raise NotImplementedError("task 3.1: Tokenizer.from_gguf")

    def encode(self, text: str, allowed_special: Collection[str] | str = ()) -> list[int]:
        """Ids of `text`.

        allowed_special: the special tokens that `text` may hold, or "all"; any other one is
        ordinary text, cut and merged like it. What a user typed is encoded with none allowed, or
        they could end their turn and speak as the system. Raises ValueError for a name in
        allowed_special that is no special token.

        A byte that the vocabulary lacks is left out before merging (SmolLM2 lacks 21 bytes: a few
        control characters, and bytes that hardly occur in UTF-8). Text goes through `valid_text`.
        Words of up to LONGEST_CACHED characters are merged once and then looked up; CACHED_WORDS of
        them are kept at most.
        """
        raise NotImplementedError("task 3.1: Tokenizer.encode")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id. Raises ValueError outside the vocabulary, for a negative id too."""
        raise NotImplementedError("task 3.1: Tokenizer.token_bytes")

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens as their text; U+FFFD for what is no UTF-8.

        Tokens hold bytes, not characters: join first, decode then. Raises ValueError as
        `token_bytes` does.
        """
        raise NotImplementedError("task 3.1: Tokenizer.decode")

    def stream(self) -> StreamDecoder:
        """A decoder for ids that come one by one."""
        return StreamDecoder(self)

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> list[int]:
        """Ids of a conversation in ChatML, as SmolLM2's own template writes it.

        messages: {"role": "system" | "user" | "assistant", "content": text}. Each becomes START,
        "role\\ncontent", END, "\\n", where START and END are special tokens. If the first one is
        not from the system, a system message with SYSTEM_PROMPT stands before it. With
        add_generation_prompt, START and "assistant\\n" follow. A content that spells a special
        token stays ordinary text. Raises ValueError for another role.
        """
        raise NotImplementedError("task 3.1: Tokenizer.encode_chat")


class StreamDecoder:
    """Text from ids that come one by one; what it gave so far never has to be taken back.

    All that `push` gave and what `finish` gives are together `decode` of all ids. A character is
    held back until its last byte is there, and not longer; bytes that can't become one any more
    come out as U+FFFD at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        raise NotImplementedError("task 3.1: StreamDecoder.__init__")

    def push(self, token: int) -> str:
        """The text that is certain now and was not before: "" in the middle of a character."""
        raise NotImplementedError("task 3.1: StreamDecoder.push")

    def finish(self) -> str:
        """What is left: U+FFFD if the stream ended within a character, else "". Starts anew."""
        raise NotImplementedError("task 3.1: StreamDecoder.finish")
