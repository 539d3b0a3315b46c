"""Drivers of task 3.1: words, merges, and tokenizers made from plain lists or from a GGUF file."""

from __future__ import annotations

from typing import Any

import numpy as np
from peers_bpe import unpacked_words


def pre_tokenized(texts: list[str]) -> list[list[str]]:
    """The words of each text."""
    from language_model.bpe import pre_tokenize

    return [list(pre_tokenize(text)) for text in texts]


def counted(texts: list[str], special: list[str], as_one: bool = False) -> list[list[Any]]:
    """[word in hexadecimal, how often] in the order of words. The texts come from a generator."""
    from language_model.bpe import count_words

    counts = count_words(texts[0] if as_one else (text for text in texts), special)
    return [[bytes(word).hex(), int(amount)] for word, amount in sorted(counts.items())]


def merges_of(words: list[list[Any]], count: int) -> list[list[int]]:
    """`learn_merges` for [[word in hexadecimal, how often], …]."""
    from language_model.bpe import learn_merges

    found = learn_merges({bytes.fromhex(word): amount for word, amount in words}, count)
    return [[int(left), int(right)] for left, right in found]


def many_merges(cases: list[dict[str, Any]]) -> list[list[list[int]]]:
    """`merges_of` for several."""
    return [merges_of(**case) for case in cases]


def packed_merges(
    data: np.ndarray, ends: np.ndarray, amounts: np.ndarray, count: int
) -> list[list[int]]:
    """`learn_merges` on words sent as arrays, for the race."""
    from language_model.bpe import learn_merges

    found = learn_merges(unpacked_words(data, ends, amounts), count)
    return [[int(left), int(right)] for left, right in found]


def pairs_merged(cases: list[list[Any]]) -> list[list[int]]:
    """`merge_pair` for [ids, pair, made]."""
    from language_model.bpe import merge_pair

    return [list(merge_pair(ids, tuple(pair), made)) for ids, pair, made in cases]


def trained(texts: list[str], vocab_size: int, special: list[str]) -> dict[str, Any]:
    """The three parts of what `train_bpe` gives; bytes in hexadecimal."""
    from language_model.bpe import train_bpe

    result = train_bpe((text for text in texts), vocab_size, special)
    return {
        "vocabulary": [bytes(token).hex() for token in result.vocabulary],
        "merges": [[left.hex(), right.hex()] for left, right in result.merges],
        "special": dict(result.special_tokens),
    }


def _text(text: str | list[int]) -> str:
    """A text, or code points (lone surrogates don't cross the wire as text)."""
    return text if isinstance(text, str) else "".join(map(chr, text))


class Text:
    """A tokenizer behind its methods; made from lists, from a GGUF file's bytes or its path."""

    def __init__(
        self, vocabulary: list[str] | None = None, merges: list[list[str]] | None = None,
        special: dict[str, int] | None = None, file: np.ndarray | None = None, path: str = "",
    ) -> None:  # fmt: skip
        from language_model.tokenizer import Tokenizer

        if vocabulary is not None:
            pairs = [(bytes.fromhex(left), bytes.fromhex(right)) for left, right in merges or []]
            self.tokenizer = Tokenizer(list(map(bytes.fromhex, vocabulary)), pairs, special)
            return
        if file is not None:
            import os
            import tempfile

            path = os.path.join(tempfile.mkdtemp(), "tokenizer.gguf")
            with open(path, "wb") as out:
                out.write(file.tobytes())
        self.tokenizer = Tokenizer.from_gguf(path)

    def encode(self, texts: list[Any], allowed: list[str] | str = ()) -> list[list[int]]:
        """Ids of each text."""
        return [list(map(int, self.tokenizer.encode(_text(text), allowed))) for text in texts]

    def encode_bytes(self, data: np.ndarray) -> np.ndarray:
        """Ids of one long text, sent as UTF-8."""
        return np.array(self.tokenizer.encode(data.tobytes().decode("utf-8")), np.int32)

    def encode_lengths(self, data: np.ndarray, size: int) -> list[int]:
        """How many ids each word of `size` letters of `data` has; one call of encode a word."""
        text = data.tobytes().decode("ascii")
        words = [text[start : start + size] for start in range(0, len(text), size)]
        return [len(self.tokenizer.encode(word)) for word in words]

    def decode(self, ids: list[list[int]]) -> list[str]:
        """The text of each list of ids."""
        return [self.tokenizer.decode(row) for row in ids]

    def decode_array(self, ids: np.ndarray) -> np.ndarray:
        """The text of many ids, as UTF-8."""
        text = self.tokenizer.decode(ids.tolist())
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)

    def stream(self, ids: list[list[int]]) -> list[list[str]]:
        """For each list of ids what every `push` gave, then `finish`; two streams run in turns."""
        decoders = [self.tokenizer.stream() for _ in ids]
        given: list[list[str]] = [[] for _ in ids]
        for place in range(max(map(len, ids))):
            for row, decoder, out in zip(ids, decoders, given, strict=True):
                if place < len(row):
                    out.append(decoder.push(row[place]))
        for decoder, out in zip(decoders, given, strict=True):
            out.append(decoder.finish())
        return given

    def chat(self, messages: list[dict[str, str]], prompt: bool = True) -> list[int]:
        """Ids of a conversation."""
        return list(map(int, self.tokenizer.encode_chat(messages, add_generation_prompt=prompt)))

    def special_tokens(self) -> dict[str, int]:
        """Text and id of each."""
        return dict(self.tokenizer.special_tokens)


def encoded_once(text: str, allowed: list[str] | str, **parts: Any) -> list[list[int]]:
    """`Text(**parts).encode([text], allowed)`, for calls that are to raise."""
    return Text(**parts).encode([text], allowed)


def decoded_once(ids: list[int], **parts: Any) -> list[str]:
    """`Text(**parts).decode([ids])`, for calls that are to raise."""
    return Text(**parts).decode([ids])


def chatted_once(messages: list[dict[str, str]], **parts: Any) -> list[int]:
    """`Text(**parts).chat(messages)`, for calls that are to raise."""
    return Text(**parts).chat(messages)


def byte_alphabet() -> list[str]:
    """The character of each byte in turn."""
    from language_model.tokenizer import byte_characters

    found = byte_characters()
    return [found[byte] for byte in range(256)]
