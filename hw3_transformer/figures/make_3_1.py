"""Draws the figures of task 3.1: `python figures/make_3_1.py`; with --measure counts anew first.

What is counted (pairs looked at, bytes per token) is kept in measured_3_1.json: the text is the
language reference that comes with Python, which differs a little between versions.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))
sys.path.append(str(FOLDER.parent / "tests"))


from autograder.testing.drawing import (  # noqa: E402
    BLUE,
    GREEN,
    LINE,
    MONO,
    ORANGE,
    PURPLE,
    RED,
    SOFT,
    canvas,
    charts,
    heading,
    row,
    save,
    use,
    write,
)

MEASURED = FOLDER / "measured_3_1.json"
SIZES = (256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
OTHERS = {
    "Python source": "".join(
        f"def rate_{name}(step: int) -> float:\n    return {name}_peak * min(1.0, step / warmup)\n\n"
        for name in ("linear", "cosine", "constant", "inverse")
    ),
    "numbers": " ".join(str(n * n * 7919 % 100_003) for n in range(400)),
    "Japanese": "人間は考える葦である。言語モデルは次の単語を予測する。雨が降れば傘を差す。" * 3,
}


def measure() -> dict[str, Any]:
    """Count both things, with the code of this homework (the reference, where there is one)."""
    import pydoc_data.topics

    with tempfile.TemporaryDirectory() as folder:
        for source in (FOLDER.parent, FOLDER.parent / "solution"):
            if source.is_dir():
                package = Path(folder) / "language_model"
                shutil.copytree(source / "language_model", package, dirs_exist_ok=True)
        sys.path.insert(0, folder)
        from language_model.bpe import count_words, train_bpe
        from language_model.tokenizer import Tokenizer

        topics = list(pydoc_data.topics.topics.values())
        texts = {"English, as trained on": topics[-1] + topics[-2], **OTHERS}
        lengths: dict[str, list[float]] = {name: [] for name in texts}
        for size in SIZES:
            trained = train_bpe(topics, size)
            tokenizer = Tokenizer(trained.vocabulary, trained.merges)
            for name, text in texts.items():
                ratio = len(text.encode()) / len(tokenizer.encode(text))
                lengths[name].append(round(ratio, 3))
        again, held = pairs_looked_at(count_words(topics), 512)
    return {"again": again, "held": held, "sizes": SIZES, "bytes per token": lengths}


def pairs_looked_at(words: Counter[bytes], count: int) -> tuple[list[int], list[int]]:
    """Per merge: the pairs of all words, and those of the words that hold the merged pair."""
    sequences = [(list(word), amount) for word, amount in words.items()]
    again, held = [], []
    for made in range(256, 256 + count):
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, amount in sequences:
            for pair in pairwise(ids):
                pairs[pair] += amount
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        again.append(sum(len(ids) - 1 for ids, _ in sequences))
        looked = 0
        for ids, _ in sequences:
            if best in pairwise(ids):
                looked += len(ids) - 1
                place = 0
                while place < len(ids) - 1:
                    if (ids[place], ids[place + 1]) == best:
                        ids[place : place + 2] = [made]
                    place += 1
        held.append(looked)
    return again, held


def merges() -> None:
    """The example that is done by hand, merge after merge."""
    words = [["t", "e", "n"], ["t", "e", "n", "t"], ["n", "e", "t"], ["n", "e", "t", "s"]]
    amounts = [5, 3, 4, 2]
    figure, axes = canvas(8.2, 3.4)
    heading(axes, 0.2, 0.2, "Four words, five merges; the number is how often the word occurs")
    for place, amount in enumerate(amounts):
        write(axes, 0.25, 0.78 + place * 0.5, f"{amount} ×", color=SOFT)
    colours = [BLUE, ORANGE, GREEN, PURPLE, RED]
    x, made = 0.7, {}
    for step in range(6):
        for place, word in enumerate(words):
            left = x
            for token in word:
                width = 0.2 + 0.11 * (len(token) - 1)
                row(axes, left, 0.63 + place * 0.5, [token], made.get(token, LINE), width=width,
                    size=8.5, family=MONO)  # fmt: skip
                left += width
        if step == 5:
            break
        pairs: Counter[tuple[str, str]] = Counter()
        for word, amount in zip(words, amounts, strict=True):
            for pair in pairwise(word):
                pairs[pair] += amount
        # Ids grow in the order of the merges, and are smaller for letters than for any of them.
        rank = {token: 256 + n for n, token in enumerate(made)}
        ids = {p: tuple(rank.get(t) or ord(t) for t in p) for p in pairs}
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair]))
        token = "".join(best)
        made[token] = colours[step]
        tied = [p for p in pairs if pairs[p] == pairs[best] and p != best]
        write(axes, x + 0.35, 2.75, f"{' + '.join(best)}: {pairs[best]}", color=colours[step],
              size=8.5, family=MONO)  # fmt: skip
        if tied:
            write(axes, x + 0.35, 2.97, f"tied with {' + '.join(tied[0])}", color=SOFT, size=8)
        words = [_merged(word, best) for word in words]
        x += 1.27
    write(axes, 0.2, 3.24, "Of equals, the smallest pair of ids: e is 101, n 110, t 116, so (e, n) "
          "comes before (t, e).", color=SOFT, size=8.5)  # fmt: skip
    save(figure, "3_1_merges")


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for token in word:
        if result and (result[-1], token) == pair:
            result[-1] += token
        else:
            result.append(token)
    return result


def cost(found: dict[str, Any]) -> None:
    """Work per merge, and what a larger vocabulary gives."""
    figure, (left, right) = charts(2, width=8.2, height=3.1)
    again, held = found["again"], found["held"]
    places = range(1, len(again) + 1)
    left.plot(places, again, color=ORANGE)
    left.plot(places, held, color=BLUE, linewidth=0.9)
    left.set(yscale="log", xlabel="merge", title="Pairs looked at for one merge", xlim=(0, 520))
    left.text(250, again[250] * 1.5, "count everything again", color=ORANGE, ha="center")
    left.text(300, 3200, f"only words with the pair:\n{sum(again) / sum(held):.0f} times fewer in "
              f"all", color=BLUE, ha="center")  # fmt: skip
    left.set_ylim(top=max(again) * 3)
    rows = dict(found["bytes per token"])
    if rows["numbers"] == rows["Japanese"]:  # one line would hide the other
        rows["Japanese, and numbers"] = rows.pop("Japanese")
        del rows["numbers"]
    for colour, (name, values) in zip((BLUE, GREEN, PURPLE, RED), rows.items(), strict=False):
        right.plot(found["sizes"], values, color=colour, marker=".", label=name)
    right.set(xscale="log", xlabel="vocabulary", title="Bytes per token", ylim=(0.8, None))
    right.set_xticks([256, 512, 1024, 2048, 4096], ["256", "512", "1024", "2048", "4096"])
    right.minorticks_off()
    right.legend(fontsize=8.5)
    save(figure, "3_1_cost", sheet=False)


def main() -> None:
    """Write both figures beside this script."""
    use(FOLDER)
    if "--measure" in sys.argv[1:]:
        MEASURED.write_text(json.dumps(measure()) + "\n", encoding="utf-8")
    merges()
    cost(json.loads(MEASURED.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
