"""What tasks 5.6 and 5.7 measure on one layer of SmolLM2: output errors against rounding to nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import drivers_layer as drivers
import numpy as np
from real_cases import (
    MATRICES,
    READERS,
    Layer,
    arrays,
    block_error,
    block_of,
    dequantized,
    flat,
    nearest_layer,
    open_model,
    window,
)
from torch import Tensor

from autograder.testing import Measure

GOLDEN = Path(__file__).parent / "golden"
GPTQ = {"bits": 3, "group": 64, "symmetric": False}
AWQ = {"bits": 4, "group": 64, "symmetric": False, "steps": 10}
HELD_OUT = 384  # tokens of the text that the errors of 5.7, and some of 5.6, are measured on


def calibration() -> np.ndarray:
    """The tokens that GPTQ and AWQ may look at: (1, 512)."""
    return np.load(GOLDEN / "prose_calibration.npy")[None, :512]


def gptq_ratios(student: Any, path: Path, number: int, text: np.ndarray) -> tuple[float, float]:
    """Errors of GPTQ in 3 bits, groups of 64, over those of rounding to nearest.

    The first is the mean over the layer's seven matrices, each on what it reads of the calibration
    text: that is what GPTQ minimises. The second is q_proj's and k_proj's together on `text`,
    (1, tokens), which the worker never sees.
    """
    model = open_model(path)
    block = block_of(model, calibration(), number)
    got = student.run(
        drivers.calibrated_layer, timeout=60, layer=arrays(block.weights), seen=flat(block.seen),
        readers=READERS, options=GPTQ,
    )  # fmt: skip
    nearest, mine = nearest_layer(block.weights, 3, 64), dict(block.weights)
    for name in MATRICES:
        mine[name] = dequantized(got[name], mine[name].shape, 3, 64)

    def error(weights: Layer, name: str, inputs: Tensor) -> float:
        lost = inputs.flatten(0, -2) @ (weights[name] - block.weights[name]).T
        return float(lost.square().sum())

    ratios = [
        error(mine, name, block.seen[source]) / error(nearest, name, block.seen[source])
        for source, names in READERS.items() for name in names
    ]  # fmt: skip
    other = block_of(model, text, number).seen["input"]
    off, plain = (sum(error(w, n, other) for n in ("q_proj", "k_proj")) for w in (mine, nearest))
    fitted, held_out = float(np.mean(ratios)), off / plain
    student.measure(Measure(name="GPTQ's error on a real block, calibration text", value=fitted))
    student.measure(Measure(name="GPTQ's error of q and k, other text", value=held_out))
    return fitted, held_out


def check_gptq(student: Any, rng: np.random.Generator, path: Path, text: np.ndarray) -> None:
    """A layer that nobody knows in advance, on a stretch of `text`."""
    layer = int(rng.integers(1, 9))
    fitted, held_out = gptq_ratios(student, path, layer, window(text, rng, HELD_OUT))
    assert fitted <= 0.35, (
        f"layer {layer}: {fitted:.2f} of the error of rounding to nearest, at most 0.35 is asked"
    )
    assert held_out <= 0.85, (
        f"q_proj and k_proj of layer {layer} on other text: {held_out:.2f} of the error of rounding "
        "to nearest, at most 0.85 is asked\nhint: is the hessian damped?"
    )


def awq_ratio(student: Any, path: Path, number: int, text: np.ndarray) -> float:
    """The layer's output error in 4 bits, groups of 64, on `text`: AWQ's over rounding's.

    The worker sees the calibration text's activations; what it gives are norms and codes.
    """
    model = open_model(path)
    weights = model.layer(number)
    seen = flat(block_of(model, calibration(), number).seen)
    names = (*MATRICES, "input_norm", "post_norm")
    got = student.run(
        drivers.scaled_layer, timeout=60, layer=arrays(weights, names),
        seen={source: seen[source] for source in ("input", "post", "opened")}, **AWQ,
    )  # fmt: skip
    block, mine = block_of(model, text, number), dict(weights)
    for name in ("input_norm", "post_norm"):
        norm = np.asarray(got["norms"][name])
        assert norm.shape == mine[name].shape, f"{name} is {norm.shape} after folding"
        mine[name] = block.weights[name].new_tensor(norm)
    for name in MATRICES:
        mine[name] = dequantized(got["parts"][name], mine[name].shape, 4, 64)
    nearest = nearest_layer(weights, 4, 64)
    ratio = block_error(model, block, mine) / block_error(model, block, nearest)
    student.measure(Measure(name="AWQ's error on a real block, other text", value=ratio))
    return ratio


def check_awq(student: Any, rng: np.random.Generator, path: Path, text: np.ndarray) -> None:
    """A layer that nobody knows in advance, on a stretch of `text`."""
    layer = int(rng.integers(1, 9))
    ratio = awq_ratio(student, path, layer, window(text, rng, HELD_OUT))
    assert ratio <= 0.85, (
        f"layer {layer}: {ratio:.2f} of the error of rounding to nearest, at most 0.85 is asked\n"
        "hint: the norm is divided by the scale, the columns are multiplied by it, once each"
    )
