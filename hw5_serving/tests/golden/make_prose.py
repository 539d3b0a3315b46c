"""Token ids of the prose in this folder and in hidden/: `python make_prose.py FILE.gguf`.

The texts were written for this course. Each prose_X.txt gives prose_X.npy beside it, int64, cut by
the `tokenizers` package with the vocabulary and merges of the file's metadata: GPT-2's byte-level
BPE, each digit by itself, as SmolLM2's own tokenizer does it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

FOLDER = Path(__file__).resolve().parent
HIDDEN = FOLDER.parents[1] / "hidden"


def tokenizer_of(path: Path) -> Tokenizer:
    """The tokenizer of a GGUF file whose model is gpt2 and whose pre-tokenizer is smollm."""
    fields = gguf.GGUFReader(str(path)).fields
    tokens, merges, model, pre = (
        fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges", "model", "pre")
    )
    if f"{model}, {pre}" != "gpt2, smollm":
        raise SystemExit(f"{path.name}: tokenizer {model}, {pre}; this script reads gpt2, smollm")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    return made


def main(path: Path) -> None:
    """Write the ids of every text."""
    made = tokenizer_of(path)
    for text in sorted([*FOLDER.glob("prose_*.txt"), *HIDDEN.glob("prose_*.txt")]):
        ids = np.array(made.encode(text.read_text(encoding="utf-8")).ids)
        np.save(text.with_suffix(".npy"), ids)
        print(text.name, len(ids), "tokens")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
