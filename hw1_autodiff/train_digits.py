"""Train a classifier of handwritten digits with your library.

    python train_digits.py                 # some seconds; accuracy, a log and a plot
    python train_digits.py --backend numba # on your own kernels
    python train_digits.py --resume        # go on from the last save
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from autodiff import backend, data, experiment, models, optim, training

HELD_OUT = 360


@click.command(help=__doc__.splitlines()[0])
@click.option("--steps", default=400, show_default=True, help="Optimizer steps in all.")
@click.option("--batch-size", default=64, show_default=True)
@click.option("--hidden", default=128, show_default=True, help="Width of the hidden layers.")
@click.option("--learning-rate", default=5e-3, show_default=True, help="At the schedule's peak.")
@click.option("--dropout", default=0.2, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--backend", "back_end", type=click.Choice(["numpy", "numba"]), default="numpy",
    show_default=True, help="Who does the arithmetic: numpy, or your kernels.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on from OUT/run.npz.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/digits"), show_default=True,
    help="Folder for run.npz, train.log and loss.png.",
)  # fmt: skip
def main(
    steps: int, batch_size: int, hidden: int, learning_rate: float, dropout: float, seed: int,
    back_end: str, resume: bool, out: Path,
) -> None:  # fmt: skip
    """Train, report the accuracy on held-out digits, plot the loss."""
    images, labels = data.digits()
    seen, unseen = data.split(len(images), HELD_OUT, np.random.default_rng(0))
    rng = np.random.default_rng(seed)
    model = models.digit_classifier(rng, hidden, dropout)
    optimizer = optim.AdamW(model.parameters(), learning_rate)
    run = training.TrainingRun(
        model, optimizer,
        data.Batches(images[seen], labels[seen], batch_size, np.random.default_rng(seed + 1)),
        optim.CosineSchedule(optimizer, learning_rate, min(20, steps // 10), steps),
        max_norm=1.0, generators={"dropout": rng},
    )  # fmt: skip
    if resume and not (out / "run.npz").exists():
        raise click.UsageError(f"there is nothing to resume: {out / 'run.npz'} does not exist")
    log = experiment.start_log(out, "digits")
    log.info("%d digits to train on, %d held out, seed %d", len(seen), len(unseen), seed)
    experiment.train(run, steps, out, log, resume=resume, back_end=back_end)
    with backend.use(back_end):
        logits = training.predict(model, images[unseen])
    wrong = int((logits.argmax(axis=1) != labels[unseen]).sum())
    result = f"{1 - wrong / len(unseen):.1%} of {len(unseen)} held-out digits ({wrong} wrong)"
    log.info(result)
    experiment.plot_losses(out / "loss.png", run.losses, unit="nats", title="Handwritten digits")
    click.echo(f"{result}\nlog {out / 'train.log'}, plot {out / 'loss.png'}")


if __name__ == "__main__":
    main()
