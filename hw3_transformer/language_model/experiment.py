"""What the scripts share: their start, fetched data, a log that survives a kill, a plot. Given."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def run_script(main: Callable[[], object]) -> None:
    """Run a script's `main`; where it meets a task that is not written yet, say so in one line."""
    try:
        main()
    except NotImplementedError as error:
        if not str(error).startswith("task "):  # torch raises them as well
            raise
        sys.exit(f"\nthis needs {error} is not written yet")


def say_generated(missing: str, instead: str) -> None:
    """Tell on stderr what a script falls back to where `make fetch` has not been run."""
    print(f"no {missing}: {instead}; run `make fetch` for the real ones", file=sys.stderr)


def find_data(pattern: str) -> list[Path]:
    """Files that `make fetch` put into its cache, by the end of their path; [] if there are none."""
    named = os.environ.get("LLM_SYSTEMS_DATA")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-systems"
    for folder in [Path(named)] if named else [Path("/var/cache/llm-systems"), user]:
        if found := sorted(folder.rglob(pattern)):
            return found
    return []


class JsonLog:
    """A file of one JSON object a line, flushed with each line.

    keep: of an existing file, the lines that stay: those whose "step" is at most `keep`. A run that
    was killed has often logged steps that it had not saved, and half a line; it takes them again.
    """

    def __init__(self, path: Path, keep: int = -1) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [r for r in read_log(path) if r.get("step", 0) <= keep] if keep >= 0 else []
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
        os.replace(temporary, path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed with the process

    def write(self, **record: Any) -> None:
        """Append a line."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that was cut off is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def plot_curves(
    path: Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str,
    xlabel: str = "step", ylabel: str = "nats per token",
    references: Mapping[str, float] | None = None,
) -> None:  # fmt: skip
    """Draw curves, label -> (x, y), to an SVG or PNG file; long ones pale, their mean on top.

    references: values drawn as dashed lines, by label.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for label, (x, y) in curves.items():
        window = max(1, len(y) // 40)
        if window == 1:
            axes.plot(x, y, label=label, marker="." if len(y) < 40 else None)
            continue
        (line,) = axes.plot(x, y, alpha=0.25, linewidth=0.8)
        mean = np.convolve(y, np.ones(window) / window, mode="valid")
        axes.plot(x[window - 1 :], mean, color=line.get_color(), label=label)
    for label, value in (references or {}).items():
        axes.axhline(value, linestyle="--", linewidth=1, color="0.5")
        axes.annotate(label, (0, value), xycoords=("axes fraction", "data"), va="bottom")
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False)
    figure.savefig(path)
    pyplot.close(figure)
