"""Golden values of the sentence encoder: `python make_minilm.py FOLDER`, with transformers installed.

FOLDER is what `make fetch` brought. Writes minilm.npz: the vectors that transformers' BertModel gives
for SENTENCES, one at a time (no padding), averaged and normalised here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

SENTENCES = [
    "A cat sits on the mat.",
    "There is a kitten on the carpet.",
    "The block table maps positions to cache blocks.",
    "",
    "Zürich, naïve café, 東京 and [SEP] in one line\n\tof text!",
    "word " * 200,
]


def main() -> None:
    """Run the peer and write the file."""
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModel.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    vectors = []
    for sentence in SENTENCES:
        inputs = tokenizer(sentence, return_tensors="pt", padding=False, truncation=False)
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].double().mean(0)
        vectors.append((mean / mean.norm()).float().numpy())
    target = Path(__file__).with_name("minilm.npz")
    np.savez_compressed(target, sentences=np.array(SENTENCES), vectors=np.stack(vectors))


if __name__ == "__main__":
    main()
