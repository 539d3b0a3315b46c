"""The tokenizer that a prepared corpus was made with, saved beside it. Given."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

END_OF_TEXT = "<|endoftext|>"


class ByteTokenizer:
    """Every byte is a token; 256 ends a document. Needs no other task."""

    def __init__(self) -> None:
        self.vocabulary = [*(bytes([byte]) for byte in range(256)), END_OF_TEXT.encode()]
        self.special_tokens = {END_OF_TEXT: 256}

    def encode(self, text: str) -> list[int]:
        """The bytes of the text in UTF-8."""
        return list(text.encode("utf-8", "replace"))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; U+FFFD for what is no UTF-8."""
        return b"".join(self.vocabulary[token] for token in ids).decode("utf-8", "replace")


@dataclass(frozen=True)
class CorpusTokenizer:
    """A tokenizer with `encode` and `decode`, its number of ids, and the id that ends a document.

    description: what `load_tokenizer` needs to make it again, plain values.
    """

    tokenizer: Any
    vocab_size: int
    end_id: int
    description: dict[str, Any]

    def encode_document(self, text: str) -> list[int]:
        """The ids of a whole document, its end included."""
        return [*self.tokenizer.encode(text), self.end_id]


def of_bytes() -> CorpusTokenizer:
    """Bytes."""
    return CorpusTokenizer(ByteTokenizer(), 257, 256, {"kind": "bytes"})


def of_gguf(path: str | Path) -> CorpusTokenizer:
    """The tokenizer of a GGUF file, by your `Tokenizer.from_gguf` (task 3.1)."""
    from language_model.tokenizer import Tokenizer

    made = Tokenizer.from_gguf(path)
    end = made.special_tokens[END_OF_TEXT]
    description = {"kind": "gguf", "path": str(Path(path).resolve())}
    return CorpusTokenizer(made, len(made.vocabulary), end, description)


def trained(texts: Iterable[str], vocab_size: int) -> CorpusTokenizer:
    """A byte-level BPE learned from texts, by your `train_bpe` and `Tokenizer` (task 3.1)."""
    from language_model.bpe import train_bpe

    found = train_bpe(texts, vocab_size, [END_OF_TEXT])
    return _of_parts({
        "kind": "bpe", "vocabulary": [token.hex() for token in found.vocabulary],
        "merges": [[left.hex(), right.hex()] for left, right in found.merges],
    })  # fmt: skip


def _of_parts(description: dict[str, Any]) -> CorpusTokenizer:
    from language_model.tokenizer import Tokenizer

    vocabulary = [bytes.fromhex(token) for token in description["vocabulary"]]
    merges = [(bytes.fromhex(left), bytes.fromhex(right)) for left, right in description["merges"]]
    end = vocabulary.index(END_OF_TEXT.encode())
    made = Tokenizer(vocabulary, merges, {END_OF_TEXT: end})
    return CorpusTokenizer(made, len(vocabulary), end, description)


def save_tokenizer(folder: str | Path, tokenizer: CorpusTokenizer) -> None:
    """Write what `load_tokenizer` needs into `folder`/tokenizer.json."""
    text = json.dumps(tokenizer.description)
    (Path(folder) / "tokenizer.json").write_text(text + "\n", encoding="utf-8")


def load_tokenizer(folder: str | Path) -> CorpusTokenizer:
    """The tokenizer that the corpus in `folder` was made with."""
    path = Path(folder) / "tokenizer.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    if description["kind"] == "bytes":
        return of_bytes()
    if description["kind"] == "gguf":
        return of_gguf(description["path"])
    return _of_parts(description)
