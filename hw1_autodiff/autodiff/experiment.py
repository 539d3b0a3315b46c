"""What the two training scripts share: a progress bar, a log file, saving, and a plot. Given."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autodiff import backend, training


def start_log(folder: Path, name: str) -> logging.Logger:
    """A logger that appends to `folder`/train.log; the folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger(name)
    log.setLevel(logging.INFO)
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    log.addHandler(handler)
    return log


def train(
    run: training.TrainingRun,
    total_steps: int,
    folder: Path,
    log: logging.Logger,
    *,
    resume: bool = False,
    back_end: str = "numpy",
    save_every: int = 100,
) -> None:
    """Train up to `total_steps`, with a progress bar; saves to `folder`/run.npz on the way.

    resume: go on from that file. Interrupted by Ctrl-C it saves before it stops.
    """
    from tqdm import tqdm

    path = folder / "run.npz"
    if resume:
        training.resume(path, run)
        log.info("resumed at step %d from %s", run.step, path)
    started, first = time.perf_counter(), run.step
    with tqdm(total=total_steps, initial=run.step, unit="step") as bar, backend.use(back_end):

        def on_step(run: training.TrainingRun) -> None:
            bar.set_postfix(loss=f"{np.mean(run.losses[-20:]):.3f}", refresh=False)
            bar.update()
            if run.step % save_every == 0 or run.step == total_steps:
                training.save(path, run)
                log.info(
                    "step %d  loss %.4f  learning rate %.2e",
                    run.step, np.mean(run.losses[-save_every:]), run.optimizer.learning_rate,
                )  # fmt: skip

        try:
            training.fit(run, max(0, total_steps - run.step), on_step)
        except KeyboardInterrupt:
            training.save(path, run)
            log.info("interrupted; saved at step %d", run.step)
            raise
    seconds = time.perf_counter() - started
    log.info("%d steps in %.1f s on the %s back end", run.step - first, seconds, back_end)


def plot_losses(
    path: Path,
    losses: Sequence[float],
    *,
    unit: str,
    title: str,
    references: Mapping[str, float] | None = None,
) -> None:
    """Write a picture of the loss by step: every step pale, their running mean on top.

    references: values drawn as dashed lines, by label.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values = np.asarray(losses, np.float64)
    width = max(1, len(values) // 50)
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(np.arange(1, len(values) + 1), values, color="#14569e", alpha=0.25, linewidth=0.8)
    if len(values) >= width:
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(
            np.arange(width, len(values) + 1), mean, color="#14569e",
            label=f"training, mean of {width}",
        )  # fmt: skip
    for place, (label, value) in enumerate((references or {}).items()):
        colour = ("#a94f08", "#23703c", "#7440b8")[place % 3]
        axes.axhline(value, color=colour, linestyle="--", label=label)
    axes.set(xlabel="step", ylabel=unit, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
