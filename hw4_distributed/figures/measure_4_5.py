"""Measures what the figure of task 4.5 shows, with the reference where it is there.

`OMP_NUM_THREADS=1 python figures/measure_4_5.py` prints the bytes that one rank sends in a step of a
divided model, by piece, counted by the switch as in the tests; with `--write` they also go into
measured_4_5.json, from which the figure is drawn.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from measure_4_1_to_4_4 import FOLDER, run_ranks

from distributed_training.model import Llama, ModelConfig
from distributed_training.tensor_parallel import parallelize, vocab_parallel_cross_entropy

ROWS, TIME = 4, 32
CONFIG = ModelConfig(vocab_size=4096, hidden_size=64, num_layers=2, num_heads=8,
                     intermediate_size=160)  # fmt: skip


def step(ranks: Any) -> int:
    """Embedding, then each half of each block, then the loss, then back; a barrier after each."""
    model = parallelize(Llama(CONFIG).initialize(1), ranks)
    ids = torch.randint(0, CONFIG.vocab_size, (2, ROWS, TIME), generator=torch.Generator())
    x = model.embedding(ids[0])
    ranks.barrier()
    for block in model.blocks:
        x = x + block.attention(block.attention_norm(x))
        ranks.barrier()
        x = x + block.ffn(block.ffn_norm(x))
        ranks.barrier()
    logits = model.head(model.norm(x)).flatten(0, 1)
    loss = vocab_parallel_cross_entropy(logits, ids[1].flatten(), ranks, CONFIG.vocab_size)
    ranks.barrier()
    loss.backward()
    ranks.barrier()
    return ranks.rank


def main() -> None:
    """By world: bytes that rank 0 sends in each piece."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into figures/measured_4_5.json")
    asked = parser.parse_args()
    names = ["embedding"]
    names += [f"{half} {i}" for i in range(CONFIG.num_layers) for half in ("attention", "ffn")]
    names += ["loss", "backward"]
    found = {}
    for size in (2, 4, 8):
        _, traffic = run_ranks(size, step)
        sent = dict.fromkeys(names, 0)
        place = 0
        for event in traffic.events:
            if event.rank == 0 and event.kind == "barrier":
                place += 1
            elif event.rank == 0 and event.kind == "send":
                sent[names[place]] += event.size
        found[size] = sent
    tokens = ROWS * TIME
    record = {"tokens": tokens, "hidden_size": CONFIG.hidden_size, "vocab_size": CONFIG.vocab_size,
              "layers": CONFIG.num_layers, "sent": found}  # fmt: skip
    print(f"{'bytes sent by rank 0':20}" + "".join(f"{size:>9} ranks" for size in found))
    for name in names:
        print(f"{name:20}" + "".join(f"{sent[name]:15,}" for sent in found.values()))
    if asked.write:
        text = json.dumps(record, indent=1) + "\n"
        (FOLDER / "measured_4_5.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
