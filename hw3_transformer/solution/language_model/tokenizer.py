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
    # BEGIN SOLUTION 3.1
    plain = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in plain)
    moved = {byte: chr(0x100 + place) for place, byte in enumerate(others)}
    return {byte: moved.get(byte, chr(byte)) for byte in range(256)}
    # END SOLUTION


def merge_word(
    ids: Sequence[int], merges: Mapping[tuple[int, int], tuple[int, int]]
) -> list[int]:
    """One word's ids after all merges that apply. merges: pair of ids -> (rank, id it makes).

    Always the pair of the lowest rank is merged next, the leftmost of equals, until none is left.
    Cost: O(n log n) for a word of n ids; a word of 100 kB (base64, a run of spaces, a language that
    writes no spaces) must not cost n².
    """
    # BEGIN SOLUTION 3.1
    symbols: list[int | None] = list(ids)
    size = len(symbols)
    following = list(range(1, size + 1))
    previous = list(range(-1, size - 1))
    heap = []
    for place in range(size - 1):
        found = merges.get((ids[place], ids[place + 1]))
        if found is not None:
            heap.append((found[0], place, found[1], ids[place], ids[place + 1]))
    heapq.heapify(heap)
    while heap:
        _, place, made, left, right = heapq.heappop(heap)
        behind = following[place]
        if symbols[place] != left or behind >= size or symbols[behind] != right:
            continue  # one of the two was merged meanwhile
        symbols[place], symbols[behind] = made, None
        after = following[place] = following[behind]
        if after < size:
            previous[after] = place
        before = previous[place]
        for first, second in ((before, place), (place, after)):
            if first < 0 or second >= size:
                continue
            pair = symbols[first], symbols[second]
            found = merges.get(pair)  # type: ignore[arg-type]
            if found is not None:
                heapq.heappush(heap, (found[0], first, found[1], *pair))  # type: ignore[arg-type]
    return [symbol for symbol in symbols if symbol is not None]
    # END SOLUTION


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
        # BEGIN SOLUTION 3.1
        special = set(self.special_tokens.values())
        self._ids = {
            token: place for place, token in enumerate(self.vocabulary) if place not in special
        }
        self._merges = {
            (self._ids[left], self._ids[right]): (rank, self._ids[left + right])
            for rank, (left, right) in enumerate(merges)
        }
        self._byte_ids = [self._ids.get(bytes([byte])) for byte in range(256)]
        self._cache: dict[str, list[int]] = {}
        # END SOLUTION

    @classmethod
    def from_gguf(cls, path: str | Path) -> Tokenizer:
        """The tokenizer that a GGUF file holds (given: `read_tokenizer_metadata`).

        Fields, all named tokenizer.ggml.…: `tokens` (text of each id, written with
        `byte_characters`, special tokens as they are), `token_type` (CONTROL marks special tokens),
        `merges` ("left right", written the same way, in order of rank), `model` and `pre`. Raises
        ValueError for another `model` than "gpt2" or another `pre` than "smollm", whose text is cut
        into words in another way.
        """
        # BEGIN SOLUTION 3.1
        fields = read_tokenizer_metadata(path)
        model, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
        if (model, pre) != ("gpt2", "smollm"):
            raise ValueError(f"a tokenizer of model {model!r}, pre {pre!r}; this reads gpt2, smollm")
        bytes_of = {character: byte for byte, character in byte_characters().items()}

        def decoded(text: str) -> bytes:
            return bytes([bytes_of[character] for character in text])

        vocabulary: list[bytes] = []
        special: dict[str, int] = {}
        tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
        for place, (text, kind) in enumerate(zip(tokens, types, strict=True)):
            if kind == CONTROL:
                special[text] = place
            vocabulary.append(text.encode() if kind == CONTROL else decoded(text))
        pairs = (merge.split(" ") for merge in fields["tokenizer.ggml.merges"])
        return cls(vocabulary, [(decoded(left), decoded(right)) for left, right in pairs], special)
        # END SOLUTION

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
        # BEGIN SOLUTION 3.1
        allowed = self.special_tokens if allowed_special == "all" else allowed_special
        for name in allowed:
            if name not in self.special_tokens:
                raise ValueError(f"{name!r} is no special token")
        ids: list[int] = []
        for place, part in enumerate(split_at_special_tokens(valid_text(text), allowed)):
            if place % 2:
                ids.append(self.special_tokens[part])
                continue
            for word in pre_tokenize(part):
                found = self._cache.get(word)
                if found is None:
                    known = map(self._byte_ids.__getitem__, word.encode())
                    found = merge_word([own for own in known if own is not None], self._merges)
                    if len(word) <= LONGEST_CACHED:
                        if len(self._cache) >= CACHED_WORDS:
                            self._cache.clear()
                        self._cache[word] = found
                ids += found
        return ids
        # END SOLUTION

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id. Raises ValueError outside the vocabulary, for a negative id too."""
        # BEGIN SOLUTION 3.1
        if not 0 <= token < len(self.vocabulary):
            raise ValueError(f"id {token} is not in a vocabulary of {len(self.vocabulary)} tokens")
        return self.vocabulary[token]
        # END SOLUTION

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens as their text; U+FFFD for what is no UTF-8.

        Tokens hold bytes, not characters: join first, decode then. Raises ValueError as
        `token_bytes` does.
        """
        # BEGIN SOLUTION 3.1
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")
        # END SOLUTION

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
        # BEGIN SOLUTION 3.1
        start, end = self.special_tokens[START], self.special_tokens[END]
        whole = list(messages)
        if not whole or whole[0]["role"] != "system":
            whole.insert(0, {"role": "system", "content": SYSTEM_PROMPT})
        ids: list[int] = []
        for message in whole:
            if message["role"] not in ("system", "user", "assistant"):
                raise ValueError(f"{message['role']!r} is no role")
            ids += [start, *self.encode(f"{message['role']}\n{message['content']}"), end]
            ids += self.encode("\n")
        return [*ids, start, *self.encode("assistant\n")] if add_generation_prompt else ids
        # END SOLUTION


class StreamDecoder:
    """Text from ids that come one by one; what it gave so far never has to be taken back.

    All that `push` gave and what `finish` gives are together `decode` of all ids. A character is
    held back until its last byte is there, and not longer; bytes that can't become one any more
    come out as U+FFFD at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # BEGIN SOLUTION 3.1
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # END SOLUTION

    def push(self, token: int) -> str:
        """The text that is certain now and was not before: "" in the middle of a character."""
        # BEGIN SOLUTION 3.1
        return self._decoder.decode(self._tokenizer.token_bytes(token))
        # END SOLUTION

    def finish(self) -> str:
        """What is left: U+FFFD if the stream ended within a character, else "". Starts anew."""
        # BEGIN SOLUTION 3.1
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
        # END SOLUTION
