"""Draws the figure of task 5.8: `python figures/make_5_8.py`. A real layer pruned by size and by
Wanda's scores; what a model tells beside the likeliest token. In a student's folder on their own code."""

from __future__ import annotations

from collections.abc import Callable

import gguf
import numpy as np
from real_layer import (
    GOLDEN,
    LAYER,
    READERS,
    Block,
    block_error,
    calibrated,
    other_text,
    real_model,
)
from torch import Tensor

from autograder.testing import packaged
from autograder.testing.drawing import BLUE, GREEN, ORANGE, charts, save
from serving.pruning import input_norms, row_mask, semi_structured_mask, wanda_scores

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
PLACE, SHOWN = 40, 8  # a token of prose_public; how many guesses for it


def pruned(block: Block, by_size: bool, mask: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The layer's weights with `mask` of its scores."""
    found = dict(block.weights)
    for source, names in READERS.items():
        norms = input_norms(block.seen[source])
        for name in names:
            weight = block.weights[name]
            scores = weight.abs() if by_size else wanda_scores(weight, norms)
            found[name] = weight * mask(scores)
    return found


def guesses() -> tuple[list[str], np.ndarray, str]:
    """The likeliest tokens at a place of the text, all logits, and the words before it."""
    path, model = packaged("smollm2"), real_model()
    names = gguf.GGUFReader(str(path)).fields["tokenizer.ggml.tokens"].contents()
    ids = np.load(GOLDEN / "prose_public.npy")[None, :PLACE]
    stream = model.embedded(ids)
    for number in range(model.sizes.layers):
        stream = model.run_layer(model.layer(number), stream)
    logits = model.logits(stream[:, -1:])[0, 0].double().numpy()
    best = np.argsort(-logits)[:SHOWN]
    before = "".join(names[i] for i in ids[0, -6:]).replace("Ġ", " ")
    return [names[i].replace("Ġ", "") for i in best], logits, before.strip()


def main() -> None:
    """Two panels: error by share; a distribution at three temperatures."""
    seen, other = calibrated(), other_text()
    size = float((other.output - other.stream).square().sum(-1).mean())
    figure, (left, right) = charts(2, width=8, height=3.1)
    for by_size, name, colour in ((True, "by size", ORANGE), (False, "Wanda", BLUE)):
        lost = [block_error(real_model(), other, pruned(seen, by_size, lambda s, p=p: row_mask(s, p)))
                for p in SHARES]  # fmt: skip
        four = block_error(real_model(), other, pruned(seen, by_size, semi_structured_mask))
        left.plot(
            SHARES, [e / size for e in lost], marker="o", markersize=3, color=colour, label=name
        )
        left.plot(0.5, four / size, "x", color=colour, label=f"{name}, 2 of 4")
        print(
            name, [f"{p}: {e / size:.4f}" for p, e in zip(SHARES, lost, strict=True)], four / size
        )
    left.set(xlabel="share of weights that went", yscale="log",
             title=f"error of layer {LAYER}'s output / what it adds")  # fmt: skip
    left.legend(fontsize=7)
    words, logits, before = guesses()
    for place, (temperature, colour) in enumerate(((1.0, BLUE), (2.0, GREEN), (4.0, ORANGE))):
        powers = np.exp((logits - logits.max()) / temperature)
        shares = np.sort(powers / powers.sum())[::-1][:SHOWN]
        print(before, temperature, dict(zip(words, shares.round(4), strict=True)))
        right.bar(np.arange(SHOWN) + 0.27 * (place - 1), shares, 0.25, color=colour,
                  label=f"temperature {temperature:g}")  # fmt: skip
    right.set_xticks(range(SHOWN), words, rotation=45, ha="right")
    right.set(yscale="log", title=f"“… {before}” goes on with")
    right.legend(fontsize=7)
    save(figure, "5_8_pruned", sheet=False)


if __name__ == "__main__":
    main()
