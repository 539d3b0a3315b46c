"""Drivers of task 2.1: arrays in, arrays and reports out. The package is imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autograder import kernels


def build_elementwise() -> None:
    """elementwise.cu for the emulator."""
    from cuda_kernels import elementwise

    kernels.build(Path(elementwise.__file__).with_suffix(".cu"), mode="full")


def element_wise(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One answer a case: {"operation", "views", "blocks"}, a map for one view, a zip for two.

    A view is {"buffer", "shape", "strides", "offset"}, as of `elementwise.View`.
    """
    from cuda_kernels import elementwise as module

    device = kernels.Device(backend="emulator", mode="full")
    answers = []
    for case in cases:
        views = [
            module.View(
                device.array(np.asarray(view["buffer"], np.float32)),
                tuple(view["shape"]), tuple(view["strides"]), view["offset"],
            )
            for view in case["views"]
        ]  # fmt: skip
        function = module.map_array if len(views) == 1 else module.zip_arrays
        out = function(device, case["operation"], *views, blocks=case["blocks"])
        answers.append({"out": out.numpy(), "report": device.report()})
    return answers


WARM_UP_ELEMENTWISE = {"2.1": build_elementwise}
