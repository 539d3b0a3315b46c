"""Run a transformer block made of your kernels on real text, and see what each launch costs.

    python run_block.py                           # 128 bytes of Python's documentation
    python run_block.py --tokens 256 --dim 256 --heads 4
    python run_block.py --gpu H100                # the modelled times of another GPU

Runs on the emulator, which counts; no GPU is needed. The times are modelled from the counts: see
"What is measured" in the handout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where the harness lies
from cuda_kernels import embedding, transformer  # noqa: E402

from autograder import kernels  # noqa: E402
from autograder.kernels.model import GPUS, SECTOR_BYTES, modelled_time  # noqa: E402

BYTES = 256  # the vocabulary
PRODUCTS = ("matmul", "tiled", "register")  # what the kernels of matmul.cu have in their names
LEARNED_FROM = 1 << 20  # bytes of text that the embeddings are learned from


@click.command(help=__doc__.splitlines()[0])
@click.option("--tokens", default=128, show_default=True, help="Bytes of text.")
@click.option("--dim", default=128, show_default=True, help="Width of the block.")
@click.option("--heads", default=2, show_default=True, help="Heads of dim / heads = 32 or 64.")
@click.option("--hidden", default=None, type=int, help="Units of the MLP.  [default: 4 * dim]")
@click.option("--gpu", default="A100", show_default=True, type=click.Choice(sorted(GPUS)))
@click.option("--seed", default=0, show_default=True, help="Of the block's weights.")
def main(tokens: int, dim: int, heads: int, hidden: int | None, gpu: str, seed: int) -> None:
    """Embed a text, run the block, compare with float64, print the launches."""
    text = documentation()
    table = byte_embeddings(text, dim)
    shown = np.frombuffer(text[:tokens], np.uint8)
    click.echo(f"{len(shown)} bytes: {text[:60].decode(errors='replace')!r}…")
    click.echo(f"by their embeddings, next to 'a': {near(table, 'a')}; to '3': {near(table, '3')}")

    device = kernels.Device(backend="emulator", mode="full")
    weights = transformer.random_weights(np.random.default_rng(seed), dim, hidden or 4 * dim)
    block = transformer.TransformerBlock(device, weights, heads)
    rows = embedding.embedding(device, device.array(table), device.array(shown.astype(np.int32)))
    where = device.array(positions(len(shown), dim))
    x = transformer.residual(device, rows, where).reshape(1, len(shown), dim)
    device.report()  # what it took to get here is not the block's
    out = block(x)
    report = device.report()
    for found in report["diagnostics"]:
        click.secho(f"{found['severity']}: {found['message']}", fg="red")
    expected = block_in_float64(x.numpy().astype(np.float64)[0], weights, heads)
    error = np.abs(out.numpy()[0] - expected).max() / np.abs(expected).max()
    click.echo(f"largest error {error:.1e} of the largest output, against numpy in float64\n")
    show(report["launches"], block, len(shown), gpu)


def show(
    launches: list[dict[str, Any]], block: transformer.TransformerBlock, tokens: int, gpu: str
) -> None:
    """A line a launch: its size, bytes, modelled time and what bounds it; and their sums."""
    click.echo(f"{'kernel':<36}{'blocks':>7}{'threads':>8}{'kB read':>9}{'kB written':>11}"
               f"{'modelled µs':>13}  bound on {gpu}")  # fmt: skip
    known = products(block, tokens)
    total = np.zeros(3)
    for launch in launches:
        product = any(word in launch["kernel"] for word in PRODUCTS)
        flops, least = next(known) if product else (0.0, None)
        counts = launch["counts"]
        loaded, stored = (
            SECTOR_BYTES * counts[f"global_{kind}_sectors"] / 1000 for kind in ("load", "store")
        )
        estimate = modelled_time(launch, GPUS[gpu], flops=flops, dram_bytes=least)
        row = (loaded, stored, 1e6 * estimate.seconds)
        total += row
        click.echo(
            f"{launch['kernel'].rpartition('::')[2][:35]:<36}{int(np.prod(launch['grid'])):>7}"
            f"{int(np.prod(launch['block'])):>8}{row[0]:>9.1f}{row[1]:>11.1f}{row[2]:>13.2f}  "
            f"{estimate.bound}"
        )
    name = f"{len(launches)} launches"
    click.echo(f"{name:<51}{total[0]:>9.1f}{total[1]:>11.1f}{total[2]:>13.2f}")
    least = 4 * sum(array.size for array in block.weights) + 2 * 4 * tokens * block.dim
    click.echo(
        f"the weights once, x and the output are {least / 1000:.1f} kB; the products are "
        f"{block.flops(1, tokens) / 1e6:.1f} MFLOP"
    )


def products(
    block: transformer.TransformerBlock, tokens: int
) -> Iterator[tuple[float, float | None]]:
    """(floating-point operations, bytes that DRAM must give and take) of the four products."""
    dim, hidden = block.dim, block.hidden
    for inner, columns in ((dim, 3 * dim), (dim, dim), (dim, hidden), (hidden, dim)):
        moved = tokens * inner + inner * columns + tokens * columns
        yield 2.0 * tokens * inner * columns, 4.0 * moved
    while True:  # a product that the handout does not ask for
        yield 0.0, None


def documentation() -> bytes:
    """Text that every Python brings along: the topics of `help()`."""
    from pydoc_data import topics

    return "\n".join(topics.topics[name] for name in sorted(topics.topics)).encode()


def byte_embeddings(text: bytes, dim: int) -> np.ndarray:
    """(256, dim) embeddings of bytes: those that stand among the same neighbours are alike.

    The singular vectors of the positive pointwise mutual information of neighbouring bytes, which
    is what word2vec comes near to (Levy and Goldberg, 2014); rows are scaled to a size of 1.
    """
    values = np.frombuffer(text[:LEARNED_FROM], np.uint8).astype(np.int64)
    counts = np.zeros((BYTES, 2 * BYTES))
    np.add.at(counts, (values[:-1], values[1:]), 1)  # what follows
    np.add.at(counts, (values[1:], BYTES + values[:-1]), 1)  # what comes before
    share = counts / counts.sum()
    independent = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(share / independent)
    information = np.where(share > 0, np.maximum(information, 0), 0)
    u, s, _ = np.linalg.svd(information, full_matrices=False)
    table = np.zeros((BYTES, dim))
    kept = min(dim, BYTES)
    table[:, :kept] = u[:, :kept] * np.sqrt(s[:kept])
    size = np.sqrt((table**2).mean(axis=1, keepdims=True))
    return (table / np.where(size > 0, size, 1)).astype(np.float32)


def near(table: np.ndarray, character: str, count: int = 5) -> str:
    """The bytes whose embeddings have the largest cosine with that of `character`."""
    cosine = table @ table[ord(character)]
    best = [place for place in np.argsort(-cosine) if place != ord(character)][:count]
    return " ".join(chr(place) for place in best)


def positions(tokens: int, dim: int) -> np.ndarray:
    """(tokens, dim) sines and cosines of each position (Vaswani et al., 2017)."""
    angle = np.arange(tokens)[:, None] / 10_000 ** (np.arange(0, dim, 2) / dim)
    return np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(tokens, dim).astype(np.float32)


def block_in_float64(x: np.ndarray, weights: dict[str, np.ndarray], heads: int) -> np.ndarray:
    """The block of one sample, (tokens, dim), in numpy."""
    tokens, dim = x.shape

    def norm(h: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
        spread = np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
        return (h - h.mean(axis=1, keepdims=True)) / spread * gamma + beta

    w = {name: value.astype(np.float64) for name, value in weights.items()}
    qkv = norm(x, w["gamma1"], w["beta1"]) @ w["w_qkv"]
    q, k, v = qkv.reshape(tokens, 3, heads, -1).transpose(1, 2, 0, 3)  # (heads, tokens, head_dim)
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(dim // heads)
    scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(axis=2, keepdims=True))
    attended = (p / p.sum(axis=2, keepdims=True)) @ v
    h = x + attended.transpose(1, 0, 2).reshape(tokens, dim) @ w["w_out"]
    inside = norm(h, w["gamma2"], w["beta2"]) @ w["w_up"] + w["b_up"]
    z = np.sqrt(2 / np.pi) * (inside + 0.044715 * inside**3)
    return h + 0.5 * inside * (1 + np.tanh(z)) @ w["w_down"] + w["b_down"]


if __name__ == "__main__":
    main()
