"""Rows of different lengths as one tensor. Given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def pad_right(rows: Sequence[Sequence[int]], fill: int = 0) -> tuple[Tensor, Tensor]:
    """(rows, longest) int64 with `fill` after each row's end, and the lengths (rows,) int64."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    ids = torch.full((len(rows), int(lengths.max()) if len(rows) else 0), fill, dtype=torch.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return ids, lengths


@dataclass(frozen=True)
class Responses:
    """Prompts with a response each, padded on the right.

    ids: (rows, time) int64. mask: (rows, time) bool, True at the tokens of the response.
    """

    ids: Tensor
    mask: Tensor

    @staticmethod
    def of(
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        device: torch.device | str = "cpu",
    ) -> Responses:
        """From lists of tokens. Raises ValueError for an empty prompt: nothing would predict on it."""
        if any(len(prompt) == 0 for prompt in prompts):
            raise ValueError("a response's first token needs a prompt before it")
        whole = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
        ids, lengths = pad_right(whole)
        places = torch.arange(ids.shape[1])
        starts = torch.tensor([len(p) for p in prompts])
        mask = (places >= starts[:, None]) & (places < lengths[:, None])
        return Responses(ids.to(device), mask.to(device))

    @property
    def last(self) -> Tensor:
        """(rows,) the place of each row's last response token."""
        places = torch.arange(self.mask.shape[1], device=self.mask.device).expand_as(self.mask)
        return torch.where(self.mask, places, -1).amax(dim=1)
