"""Train a small Llama on text, divided among ranks in the way you choose.

    python train.py --mode single
    torchrun --nproc-per-node 2 train.py --mode dp --compress top_k --out runs/top_k.jsonl
    torchrun --nproc-per-node 4 train.py --mode dp_pp --inner 2
    torchrun --nproc-per-node 4 train.py --mode zero3 --save runs/zero --save-every 20
    torchrun --nproc-per-node 2 train.py --mode dp --save runs/zero --resume
    python train.py --plot runs/curves.svg runs/single.jsonl runs/top_k.jsonl
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
from pathlib import Path
from typing import TextIO

import torch
from distributed_training.checkpoint import load_newest, save_sharded
from distributed_training.collectives import ring_all_reduce
from distributed_training.communicator import Communicator, connect
from distributed_training.model import ModelConfig
from distributed_training.saving import restore, run_shards
from distributed_training.shards import CheckpointError
from distributed_training.storage import FileStorage
from distributed_training.training import COMPRESSORS, MODES, Plan, Run, check
from tqdm import tqdm


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--mode", choices=MODES, default="single")
    add("--compress", choices=COMPRESSORS, default="none", help="gradients, in dp, dp_pp, dp_tp")
    add("--backend", choices=("auto", "gloo", "nccl"), default="auto")
    add("--text", type=Path, help="a file, read as bytes; default: Python's help texts")
    add("--steps", type=int, default=100)
    add("--batch", type=int, default=16, help="rows of a step, of all ranks together")
    add("--time", type=int, default=64, help="bytes of a row")
    add("--width", type=int, default=64)
    add("--layers", type=int, default=4)
    add("--heads", type=int, default=4)
    add("--inner", type=int, default=2, help="ranks of a pipeline or tensor group in a mix")
    add("--microbatches", type=int, default=4)
    add("--schedule", choices=("1f1b", "gpipe"), default="1f1b")
    add("--fraction", type=float, default=0.05, help="of top_k")
    add("--power-rank", type=int, default=2, help="of power_sgd")
    add("--lr", type=float, default=3e-3)
    add("--eps", type=float, default=1e-4, help="of AdamW; a small one turns rounding into steps")
    add("--seed", type=int, default=0)
    add("--out", type=Path, help="log, a JSON line a step (default runs/MODE-COMPRESS.jsonl)")
    add("--save", type=Path, help="folder of checkpoints; without it none are written")
    add("--save-every", type=int, default=50, help="steps between two checkpoints")
    add("--resume", action="store_true", help="go on from the newest in --save, on any ranks")
    add("--plot", type=Path, help="draw the logs named after it, and do nothing else")
    add("logs", type=Path, nargs="*")
    return parser


def join(backend: str) -> tuple[Communicator, torch.device]:
    """The group of this process, and where its tensors lie."""
    if backend == "nccl" and not torch.cuda.is_available():
        raise ValueError("--backend nccl needs a GPU on every rank; --backend gloo runs without")
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if backend == "auto" or alone:
        ranks = connect()
    else:
        from distributed_training.torch_channel import TorchCommunicator

        ranks = TorchCommunicator.start(backend)
    if torch.cuda.is_available() and backend != "gloo":
        return ranks, torch.device("cuda", torch.cuda.current_device())
    return ranks, torch.device("cpu")


def read_text(path: Path | None) -> torch.Tensor:
    """The text's bytes, (count,) uint8."""
    if path is None:
        found = importlib.util.find_spec("pydoc_data.topics")
        if found is None or found.origin is None:
            raise ValueError("this Python has no help texts: name a file with --text")
        path = Path(found.origin)
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


def train(arguments: argparse.Namespace) -> None:
    """The training loop; every rank draws the same global batches."""
    names = Plan.__dataclass_fields__
    plan = Plan(**{name: getattr(arguments, name) for name in names})
    config = ModelConfig(
        hidden_size=arguments.width, num_layers=arguments.layers, num_heads=arguments.heads,
        intermediate_size=arguments.width * 5 // 2, max_positions=arguments.time,
    )  # fmt: skip
    if arguments.width % (2 * arguments.heads):
        raise ValueError(f"--width {arguments.width} must be a multiple of 2 * --heads")
    check(plan, config, int(os.environ.get("WORLD_SIZE", "1")), arguments.batch)
    text = read_text(arguments.text)
    if len(text) <= arguments.time + 1:
        raise ValueError(f"--text has {len(text)} bytes, --time {arguments.time} needs more")
    if arguments.save_every < 1 or (arguments.resume and not arguments.save):
        raise ValueError("--save-every must be 1 or more, and --resume needs --save FOLDER")
    ranks, device = join(arguments.backend)
    run = Run(plan, config, ranks, arguments.seed, device)
    draw = torch.Generator().manual_seed(arguments.seed)
    path = arguments.out or Path("runs") / f"{plan.mode}-{plan.compress}.jsonl"
    first = ranks.rank == 0
    checkpoints = Checkpoints(arguments.save, run) if arguments.save else None
    done = checkpoints.resume() if checkpoints and arguments.resume else 0
    with open_log(path if first else None, done) as log:
        steps = range(1, arguments.steps + 1)
        for step in (bar := tqdm(steps, disable=not first, initial=done, total=arguments.steps)):
            last = len(text) - arguments.time
            starts = torch.randint(0, last, (arguments.batch,), generator=draw)
            if step <= done:
                continue  # drawn all the same: the next batch is the one it would have been
            ids = text[starts[:, None] + torch.arange(arguments.time + 1)].long().to(device)
            loss, sent = run.step(ids)
            log.write(json.dumps({"step": step, "loss": loss, "bytes": sent}) + "\n")
            log.flush()
            bar.set_postfix(loss=f"{loss:.3f}", MB=f"{sent / 1e6:.1f}", refresh=False)
            if checkpoints and (step % arguments.save_every == 0 or step == arguments.steps):
                checkpoints.save(step, sent)
    ranks.barrier()
    ranks.close()


class Checkpoints:
    """A folder of them, written and read by all ranks together."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.storage, self.run = FileStorage(folder), run
        on_cpu = getattr(run.report, "on_cpu", lambda: run.report)
        self.ranks = on_cpu()  # what goes over it is nobody's cost either

    def save(self, step: int, sent: int) -> None:
        """One more; the two newest stay."""
        save_sharded(self.storage, self.ranks, step, run_shards(self.run), {"bytes": sent})

    def resume(self) -> int:
        """Take over the newest whole one; its step, 0 where there is none yet."""
        found = load_newest(self.storage, self.ranks)
        if found is None:
            return 0
        step, shards, extra = found
        lost = restore(self.run, step, shards, self.ranks)
        while_loading = torch.tensor([sum(g.counters.total_bytes for g in self.run.counted)])
        ring_all_reduce(self.ranks, while_loading)
        self.run.sent_before = extra["bytes"] - int(while_loading)
        if self.ranks.rank == 0:
            tqdm.write(f"goes on after step {step}")
            for line in lost:
                tqdm.write(line)
        return step


def open_log(path: Path | None, done: int) -> TextIO:
    """The log to append to: the lines of the first `done` steps are kept, the others are not."""
    if path is None:
        return open(os.devnull, "w", encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    if done and path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= done]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return open(path, "a", encoding="utf-8")


def plot(picture: Path, logs: list[Path]) -> None:
    """Loss by step and by bytes sent, a line a log."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for path in logs:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        losses = [line["loss"] for line in lines]
        left.plot([line["step"] for line in lines], losses, label=path.stem, linewidth=1)
        sent = [line["bytes"] / 1e6 for line in lines]
        if any(sent):  # one process sends nothing, and has no place on a logarithmic axis
            right.plot(sent, losses, label=path.stem, linewidth=1)
    left.set(xlabel="step", ylabel="loss, nats a byte")
    right.set(xlabel="MB sent by all ranks", xscale="log")
    left.legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(picture)


def main() -> None:
    """Train, or draw."""
    parser = options()
    arguments = parser.parse_args()
    try:
        if arguments.plot:
            if not arguments.logs:
                parser.error("--plot PICTURE needs logs after it")
            plot(arguments.plot, arguments.logs)
        else:
            train(arguments)
    except (ValueError, OSError, CheckpointError) as error:  # an OSError names its file
        parser.error(str(error))


if __name__ == "__main__":
    main()
