"""Train a language model over bytes with your library, and let it write.

    python train_language_model.py                       # a minute on one core
    python train_language_model.py --steps 5000 --resume # longer, from the last save
    python train_language_model.py --backend numba       # on your own kernels
"""

from __future__ import annotations

import math
from pathlib import Path

import click
import numpy as np

from autodiff import backend, data, experiment, models, optim, training

HELD_OUT = 65_536


def bigram_bits(train: np.ndarray, test: np.ndarray) -> float:
    """Held-out bits per byte of the model to beat: P(byte | byte before), smoothed.

    (count(a, b) + d · P(b)) / (count(a) + d) with the best d of some, for `test`.
    """
    counts = np.zeros((256, 256))
    np.add.at(counts, (train[:-1], train[1:]), 1)
    single = np.bincount(train, minlength=256) + 0.5
    single = single / single.sum()
    totals = counts.sum(axis=1, keepdims=True)
    return min(
        float(-np.log2(((counts + d * single) / (totals + d))[test[:-1], test[1:]]).mean())
        for d in (0.3, 1, 3, 10, 30, 100)
    )


@click.command(help=__doc__.splitlines()[0])
@click.option("--steps", default=2000, show_default=True, help="Optimizer steps in all.")
@click.option("--batch-size", default=16, show_default=True)
@click.option("--context", default=64, show_default=True, help="Bytes the model looks back at.")
@click.option("--width", default=64, show_default=True)
@click.option("--layers", default=2, show_default=True)
@click.option("--heads", default=2, show_default=True)
@click.option("--dropout", default=0.0, show_default=True)
@click.option("--tied", is_flag=True, help="Use the embedding table as the output layer too.")
@click.option("--learning-rate", default=4e-3, show_default=True, help="At the schedule's peak.")
@click.option("--seed", default=0, show_default=True)
@click.option("--prompt", default="The ", show_default=True, help="What the sample begins with.")
@click.option(
    "--backend", "back_end", type=click.Choice(["numpy", "numba"]), default="numpy",
    show_default=True, help="Who does the arithmetic: numpy, or your kernels.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on from OUT/run.npz (same model options).")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/language_model"),
    show_default=True, help="Folder for run.npz, train.log, loss.png and sample.txt.",
)  # fmt: skip
def main(
    steps: int, batch_size: int, context: int, width: int, layers: int, heads: int,
    dropout: float, tied: bool, learning_rate: float, seed: int, prompt: str, back_end: str,
    resume: bool, out: Path,
) -> None:  # fmt: skip
    """Train, compare held-out bits per byte with a bigram, plot the loss, write a sample."""
    text, source = data.english_text()
    train, test = text[:-HELD_OUT], text[-HELD_OUT:]
    rng = np.random.default_rng(seed)
    model = models.ByteLanguageModel(rng, context, width, layers, heads, dropout, tied)
    optimizer = optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.99))
    run = training.TrainingRun(
        model, optimizer,
        data.TextBatches(train, context, batch_size, np.random.default_rng(seed + 1)),
        optim.CosineSchedule(
            optimizer, learning_rate, min(100, steps // 10), steps, learning_rate / 20
        ),
        max_norm=1.0, generators={"dropout": rng},
    )  # fmt: skip
    if resume and not (out / "run.npz").exists():
        raise click.UsageError(f"there is nothing to resume: {out / 'run.npz'} does not exist")
    log = experiment.start_log(out, "language_model")
    parameters = sum(parameter.data.size for parameter in model.parameters())
    opening = f"{len(train):,} bytes from {source}; a model of {parameters:,} parameters"
    log.info(opening)
    click.echo(opening)
    experiment.train(run, steps, out, log, resume=resume, back_end=back_end)
    with backend.use(back_end):
        bits = training.bits_per_byte(model, test, context)
        sample = models.generate(model, prompt.encode(), 400, np.random.default_rng(seed))
    bigram = bigram_bits(train, test)
    result = f"{bits:.3f} bits per held-out byte; a smoothed bigram needs {bigram:.3f}"
    log.info(result)
    (out / "sample.txt").write_bytes(sample)
    experiment.plot_losses(
        out / "loss.png", [loss / math.log(2) for loss in run.losses], unit="bits per byte",
        title="Byte language model",
        references={"bigram, held out": bigram, "this model, held out": bits},
    )  # fmt: skip
    click.echo(f"{result}\n\n{sample.decode(errors='replace')}\n")
    click.echo(f"log {out / 'train.log'}, plot {out / 'loss.png'}")


if __name__ == "__main__":
    main()
