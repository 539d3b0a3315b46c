"""Draws the figure of task 5.2: `python figures/make_5_2.py`, the times from measured_5_2.json;
`--measure` takes them anew, on one thread of this machine and on whichever code is in the folder."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from own_code import FOLDER

# isort: split
import numpy as np
import torch

from autograder.testing import drawing
from autograder.testing.drawing import SOFT, charts, save
from serving import paged_attention as paged

MEASURED = FOLDER / "measured_5_2.json"
TILES = (16, 32, 64, 128, 256, 512)
HEADS, KV_HEADS, WIDTH, SIZE = 9, 3, 64, 16  # SmolLM2-135M
LOADS = {
    "decode, 16 texts of 200": [(199, 1)] * 16,
    "decode, 64 texts of 100 … 500": [(99 + 400 * place // 63, 1) for place in range(64)],
    "prefill, 256 tokens after 244": [(244, 256)],
}


def spans_of(parts: list[tuple[int, int]]) -> list[Any]:
    """Texts on blocks in random order."""
    order, rows, spans = torch.randperm(2048).tolist(), 0, []
    for first, count in parts:
        blocks = -(-(first + count) // SIZE)
        spans.append(paged.AttentionSpan(rows, count, first, tuple(order[:blocks])))
        order, rows = order[blocks:], rows + count
    return spans


def cost(action: Any, times: int = 80) -> float:
    """Milliseconds of CPU, the least of several calls: of a layer that finds its step's plan made."""
    taken = []
    for _ in range(times):
        start = time.thread_time()
        action()
        taken.append(time.thread_time() - start)
    return 1e3 * min(taken)


def text_by_text(query: torch.Tensor, keys: Any, values: Any, spans: list[Any]) -> None:
    """The same, one text after the other; only the last plan is kept, so each makes its own."""
    for span in spans:
        alone = paged.AttentionSpan(0, span.count, span.first, span.block_table)
        rows = query[span.start : span.start + span.count]
        paged.paged_attention(rows, keys, values, [alone])


@torch.inference_mode()
def measure() -> None:
    """One layer's attention for several tiles; texts one by one beside it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # A model's large tensors teach malloc to keep what is freed; without one, page faults are timed.
    torch.ones(7_000_000)
    keys, values = (torch.randn(2048, SIZE, KV_HEADS, WIDTH) for _ in "kv")
    found: dict[str, Any] = {}
    chosen = paged.TILE
    for name, parts in LOADS.items():
        spans = spans_of(parts)
        given = (torch.randn(sum(count for _, count in parts), HEADS, WIDTH), keys, values, spans)
        times = []
        for tile in TILES:
            paged.TILE = tile
            times.append(round(cost(lambda given=given: paged.paged_attention(*given)), 3))
        paged.TILE = chosen
        alone = round(cost(lambda given=given: text_by_text(*given)), 3)
        found[name] = {"tiles": times, "text_by_text": alone}
        print(name, found[name])
    MEASURED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def running(panel: Any) -> None:
    """What each of 16 scores weighs after each tile of four, over the sum so far."""
    scores = np.array(
        [1.0, 0.2, -0.5, 0.8, 0.1, 2.2, 0.4, 1.1, -0.3, 0.6, 1.9, 0.0, 3.4, 0.5, 1.2, 0.9]
    )
    shown = np.full((4, 16), np.nan)
    top, total = -np.inf, 0.0
    for tile in range(4):
        part = scores[4 * tile : 4 * tile + 4]
        peak = max(top, part.max())
        total = total * np.exp(top - peak) + np.exp(part - peak).sum()
        top = peak
        shown[tile, : 4 * tile + 4] = np.exp(scores[: 4 * tile + 4] - top)
        panel.text(15.9, tile, f"max {top:.1f}   sum {total:.2f}", va="center", fontsize=7.5)
        for place in range(4 * tile + 4):
            value = shown[tile, place]
            panel.text(place, tile, f"{value:.2f}".lstrip("0"), ha="center", va="center",
                       fontsize=5.5, color="white" if value > 0.6 else SOFT)  # fmt: skip
    panel.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    panel.set_xticks(range(16), [f"{score:g}" for score in scores], fontsize=6)
    panel.set_yticks(range(4), [f"after tile {tile}" for tile in range(4)], fontsize=8)
    panel.set(title="exp(score - max so far), tiles of 4", xlim=(-0.5, 21.5))
    panel.text(16.2, 3.75, "score of each position", fontsize=7, color=SOFT)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)


def main() -> None:
    """Left the sums, right the times."""
    if "--measure" in sys.argv[1:]:
        measure()
    drawing.use(FOLDER)
    figure, panels = charts(2, width=9.4, height=2.9, width_ratios=(1.25, 1))
    running(panels[0])
    for name, found in json.loads(MEASURED.read_text(encoding="utf-8")).items():
        (line,) = panels[1].plot(TILES, found["tiles"], marker="o", markersize=3, label=name)
        panels[1].axhline(
            found["text_by_text"], color=line.get_color(), linewidth=0.9, linestyle=":"
        )
    panels[1].set(xscale="log", yscale="log", xlabel="TILE, positions", ylabel="ms a layer",
                  title="one thread; dotted: text by text")  # fmt: skip
    panels[1].set_xticks(TILES, TILES)
    panels[1].minorticks_off()
    panels[1].set_yticks((1, 2, 5, 10, 20, 50), (1, 2, 5, 10, 20, 50))
    panels[1].legend(fontsize=7, loc="upper left")
    panels[1].set_ylim(0.7, 220)
    save(figure, "5_2_tiles", sheet=False)


if __name__ == "__main__":
    main()
