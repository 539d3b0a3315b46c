"""Measures what make_3_6.py draws, into measured_3_6.json: `python figures/measure_3_6.py GGUF`.

Runs from hw3_transformer with task 3.1 to 3.6 done; the file is SmolLM2-135M-Instruct's.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(Path.cwd()))

from language_model.cache import KVCache  # noqa: E402
from language_model.gguf_loader import load_gguf  # noqa: E402
from language_model.tokenizer import Tokenizer  # noqa: E402

PROMPT = "The opposite of hot is"


@torch.no_grad()
def main() -> None:
    """CPU milliseconds of the next token by length, with and without a cache; probabilities."""
    torch.set_num_threads(1)
    path = sys.argv[1]
    model, tokenizer = load_gguf(path), Tokenizer.from_gguf(path)
    steps = {}
    for length in (32, 64, 128, 256, 512):
        ids = torch.randint(0, model.config.vocab_size, (1, length))
        cache = KVCache(model.config, 1, length + 4)
        hidden = model.hidden_states(ids[:, :-1], cache=cache)
        cached, again = [], []
        for _ in range(3):
            cache.truncate([length - 1])
            started = time.process_time()
            hidden = model.hidden_states(ids[:, -1:], cache=cache)
            model.logits(hidden[:, -1])
            cached.append(time.process_time() - started)
        for _ in range(2 if length < 300 else 1):
            started = time.process_time()
            model.logits(model.hidden_states(ids)[:, -1])
            again.append(time.process_time() - started)
        steps[length] = [1e3 * statistics.median(part) for part in (cached, again)]
        print(length, steps[length], flush=True)
    logits = model(torch.tensor([tokenizer.encode(PROMPT)]))[0, -1]
    best = logits.topk(14).indices
    found = {
        "milliseconds": {n: [round(x, 1) for x in pair] for n, pair in steps.items()},
        "prompt": PROMPT,
        "tokens": [tokenizer.decode([int(i)]) for i in best],
        "probabilities": {
            str(t): [round(float(p), 5) for p in (logits / t).softmax(-1)[best]]
            for t in (1.0, 0.5, 1.5)
        },
        "kept at 0.9": {
            str(t): int(
                (((logits / t).softmax(-1).sort(descending=True).values.cumsum(-1)) < 0.9).sum()
            )
            + 1
            for t in (1.0, 0.5, 1.5)
        },
    }
    (FOLDER / "measured_3_6.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
