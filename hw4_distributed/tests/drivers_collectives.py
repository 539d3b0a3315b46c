"""Drivers of task 4.1: one rank's part of each collective."""

from __future__ import annotations

import numpy as np


def all_reduce(tensor: np.ndarray, average: bool = False) -> np.ndarray:
    """This rank's tensor after ring_all_reduce."""
    import torch
    from distributed_training.collectives import ring_all_reduce
    from distributed_training.communicator import connect

    mine = torch.tensor(tensor)
    ring_all_reduce(connect(), mine, average)
    return mine.numpy()
