"""What the figures of 5.5 to 5.8 share: the homework's code, and layer 5 of SmolLM2 with its inputs."""

from __future__ import annotations

from own_code import FOLDER

# isort: split
import numpy as np
from real_cases import READERS, Block, RealModel, block_error, block_of, open_model
from real_measures import GOLDEN, calibration

from autograder.testing import drawing, packaged

__all__ = ["GOLDEN", "LAYER", "READERS", "Block", "block_error", "block_of", "calibrated",
           "other_text", "real_model"]  # fmt: skip
drawing.use(FOLDER)
LAYER = 5


def real_model() -> RealModel:
    """SmolLM2, fetched by `make fetch`."""
    return open_model(packaged("smollm2"))


def calibrated() -> Block:
    """The layer on the calibration text."""
    return block_of(real_model(), calibration(), LAYER)


def other_text(tokens: int = 384) -> Block:
    """The layer on text that was not calibrated with."""
    return block_of(real_model(), np.load(GOLDEN / "prose_public.npy")[None, -tokens:], LAYER)
