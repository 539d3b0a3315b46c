"""Linear layers that multiply by packed weights where they lie, each byte read once. Given.

    quantise_model(model, bits=4, group=64)     # your `quantize` on every matrix of the model

At batch 1 a decode step reads every weight and does two operations with it: its time is that of
reading, and four bits are read in an eighth of a float's time. Making floats first would write and
read eight times the bytes that were saved. So codes are widened in registers, and a group's scale
is applied once, to the group's sum. With many rows the arithmetic outweighs the reading; there,
floats are made a slab of rows at a time, which stays in the cache while all inputs use it.

What makes such loops fast in numba: the group's width is a constant of the compiled code, so that
the inner loop becomes vector instructions without a rest (with a variable it is ten times slower);
a code stays uint8 until it is a float (`byte & 15` alone is an int64 to numba); `fastmath` lets sums
be taken in another order; and four rows, a quarter of the matrix apart, are read at a time: they
share each load of x, and one stream alone leaves the core waiting for memory half of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serving.model import Llama
from serving.quantize import QuantizedWeight, quantize

FEW_ROWS = 6  # up to here each row reads the codes anew; beyond, floats made once serve all rows
LEAST_PARALLEL = 1 << 19  # codes; with fewer, waking the other threads costs more than they do
SLAB = 1 << 20  # floats made at a time: 4 MB
FOUR, FIFTEEN = np.uint8(4), np.uint8(15)
Kernel = Callable[..., None]


@cache
def kernel(what: str, packed: bool, width: int, parallel: bool) -> Kernel:
    """Compiled "times" or "floats" for groups of `width`, two codes a byte if `packed`.

    times(x (in,), codes, scales, zeros, out (out,)): out[i] = Σ_groups scale · (Σ code·x − zero·Σ x).
    floats(codes, scales, zeros, out (out, in)): out = scale · (code − zero). All float32, codes and
    zeros uint8; parallel: on all of numba's threads.
    """
    makers = {
        ("times", True): _times_packed, ("times", False): _times_bytes,
        ("floats", True): _floats_packed, ("floats", False): _floats_bytes,
    }  # fmt: skip
    # numba's cache does not tell parallel code from serial: only one of the two may be kept there.
    compiled = numba.njit(parallel=parallel, fastmath=True, nogil=True, cache=not parallel)
    return compiled(makers[what, packed](width))


def _times_packed(width: int) -> Kernel:
    half = width // 2

    def times(x, codes, scales, zeros, out):  # type: ignore[no-untyped-def]
        rows, groups = scales.shape
        even, odd = np.ascontiguousarray(x[0::2]), np.ascontiguousarray(x[1::2])
        sums = np.empty(groups, np.float32)  # np.zeros would be a parallel loop of its own
        for g in range(groups):
            total = np.float32(0)
            for n in range(width):
                total += x[g * width + n]
            sums[g] = total
        quarter, last = (rows + 3) // 4, rows - 1
        for a in numba.prange(quarter):
            b, c, d = min(a + quarter, last), min(a + 2 * quarter, last), min(a + 3 * quarter, last)
            out_a = out_b = out_c = out_d = np.float32(0)
            for g in range(groups):
                sum_a = sum_b = sum_c = sum_d = np.float32(0)
                for n in range(half):
                    j = g * half + n
                    low, high = even[j], odd[j]
                    sum_a += np.float32(np.uint8(codes[a, j] & FIFTEEN)) * low
                    sum_a += np.float32(np.uint8(codes[a, j] >> FOUR)) * high
                    sum_b += np.float32(np.uint8(codes[b, j] & FIFTEEN)) * low
                    sum_b += np.float32(np.uint8(codes[b, j] >> FOUR)) * high
                    sum_c += np.float32(np.uint8(codes[c, j] & FIFTEEN)) * low
                    sum_c += np.float32(np.uint8(codes[c, j] >> FOUR)) * high
                    sum_d += np.float32(np.uint8(codes[d, j] & FIFTEEN)) * low
                    sum_d += np.float32(np.uint8(codes[d, j] >> FOUR)) * high
                out_a += scales[a, g] * (sum_a - np.float32(zeros[a, g]) * sums[g])
                out_b += scales[b, g] * (sum_b - np.float32(zeros[b, g]) * sums[g])
                out_c += scales[c, g] * (sum_c - np.float32(zeros[c, g]) * sums[g])
                out_d += scales[d, g] * (sum_d - np.float32(zeros[d, g]) * sums[g])
            out[a], out[b], out[c], out[d] = out_a, out_b, out_c, out_d

    return times


def _times_bytes(width: int) -> Kernel:
    def times(x, codes, scales, zeros, out):  # type: ignore[no-untyped-def]
        rows, groups = scales.shape
        sums = np.empty(groups, np.float32)  # np.zeros would be a parallel loop of its own
        for g in range(groups):
            total = np.float32(0)
            for n in range(width):
                total += x[g * width + n]
            sums[g] = total
        quarter, last = (rows + 3) // 4, rows - 1
        for a in numba.prange(quarter):
            b, c, d = min(a + quarter, last), min(a + 2 * quarter, last), min(a + 3 * quarter, last)
            out_a = out_b = out_c = out_d = np.float32(0)
            for g in range(groups):
                sum_a = sum_b = sum_c = sum_d = np.float32(0)
                for n in range(width):
                    j = g * width + n
                    sum_a += np.float32(codes[a, j]) * x[j]
                    sum_b += np.float32(codes[b, j]) * x[j]
                    sum_c += np.float32(codes[c, j]) * x[j]
                    sum_d += np.float32(codes[d, j]) * x[j]
                out_a += scales[a, g] * (sum_a - np.float32(zeros[a, g]) * sums[g])
                out_b += scales[b, g] * (sum_b - np.float32(zeros[b, g]) * sums[g])
                out_c += scales[c, g] * (sum_c - np.float32(zeros[c, g]) * sums[g])
                out_d += scales[d, g] * (sum_d - np.float32(zeros[d, g]) * sums[g])
            out[a], out[b], out[c], out[d] = out_a, out_b, out_c, out_d

    return times


def _floats_packed(width: int) -> Kernel:
    half = width // 2

    def floats(codes, scales, zeros, out):  # type: ignore[no-untyped-def]
        rows, groups = scales.shape
        for i in numba.prange(rows):
            for g in range(groups):
                scale, zero = scales[i, g], np.float32(zeros[i, g])
                for n in range(half):
                    j = g * half + n
                    out[i, 2 * j] = scale * (np.float32(np.uint8(codes[i, j] & FIFTEEN)) - zero)
                    out[i, 2 * j + 1] = scale * (np.float32(np.uint8(codes[i, j] >> FOUR)) - zero)

    return floats


def _floats_bytes(width: int) -> Kernel:
    def floats(codes, scales, zeros, out):  # type: ignore[no-untyped-def]
        rows, groups = scales.shape
        for i in numba.prange(rows):
            for g in range(groups):
                scale, zero = scales[i, g], np.float32(zeros[i, g])
                for n in range(width):
                    j = g * width + n
                    out[i, j] = scale * (np.float32(codes[i, j]) - zero)

    return floats


class PackedLinear(nn.Module):
    """x · weightᵀ for a `QuantizedWeight`: (…, in) -> (…, out) float32. No gradient.

    Runs on as many threads as torch does; on one, nothing of numba's threads is started. Raises
    ValueError for parts that do not fit together, or a byte whose codes belong to two groups.
    """

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__()
        self.weight = weight
        self.packed = weight.bits <= 4
        self.out_features, groups = weight.scales.shape
        self.in_features = weight.codes.shape[1] * (2 if self.packed else 1)
        self.width = self.in_features // groups
        zeros = weight.zeros
        if zeros is None:
            zeros = torch.full(weight.scales.shape, 2 ** (weight.bits - 1), dtype=torch.uint8)
        tensors = (weight.codes, weight.scales, zeros)
        if [t.dtype for t in tensors] != [torch.uint8, torch.float32, torch.uint8]:
            raise ValueError("codes and zeros are uint8, scales float32")
        fits = len(weight.codes) == len(zeros) == self.out_features and zeros.shape[1] == groups
        if not fits or self.width * groups != self.in_features:  # the kernels check no index
            raise ValueError(f"shapes {[tuple(t.shape) for t in tensors]} do not fit together")
        if self.packed and self.width % 2:
            raise ValueError(f"a byte would belong to two groups of {self.width}")
        self._arrays = tuple(tensor.contiguous().numpy() for tensor in tensors)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in_features), any float type."""
        rows = x.detach().reshape(-1, self.in_features).to(torch.float32).contiguous()
        amount = rows.shape[0]
        if amount > FEW_ROWS:
            out = self._by_floats(rows)
        else:
            out = torch.empty(amount, self.out_features)
            times, inputs, outputs = (
                self._kernel("times", self.out_features),
                rows.numpy(),
                out.numpy(),
            )
            for place in range(amount):
                times(inputs[place], *self._arrays, outputs[place])
        return out if x.dim() == 2 else out.view(*x.shape[:-1], self.out_features)

    def _by_floats(self, rows: Tensor) -> Tensor:
        step = max(1, SLAB // self.in_features)
        floats = self._kernel("floats", min(step, self.out_features))
        parts = []
        for begin in range(0, self.out_features, step):
            arrays = [array[begin : begin + step] for array in self._arrays]
            slab = torch.empty(len(arrays[0]), self.in_features)
            floats(*arrays, slab.numpy())
            parts.append(F.linear(rows, slab))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _kernel(self, what: str, rows: int) -> Kernel:
        threads = torch.get_num_threads()
        parallel = threads > 1 and rows * self.in_features >= LEAST_PARALLEL
        if parallel:
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        return kernel(what, self.packed, self.width, parallel)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.in_features}, {self.out_features}, {self.weight.bits} bits, groups of {self.width}"


class PackedEmbedding(nn.Module):
    """Rows of a `QuantizedWeight` by token id: (…) int64 -> (…, in) float32."""

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (…), any integer type."""
        flat, all_rows = ids.flatten(), self.weight
        zeros = None if all_rows.zeros is None else all_rows.zeros[flat]
        parts = (all_rows.codes[flat], all_rows.scales[flat], zeros, all_rows.bits)
        return QuantizedWeight(*parts).dequantize().unflatten(0, ids.shape)


def quantise_model(
    model: Llama, bits: int = 4, group: int = 64, symmetric: bool = True,
    ready: Mapping[str, QuantizedWeight] | None = None,
) -> int:  # fmt: skip
    """Pack every matrix of a model in place, the embedding too; the bytes that they take now.

    ready: weights quantised already (by GPTQ, say), by the name of their layer. A tied embedding is
    read through two doors, as rows by id and as the last linear layer, and kept once. Raises
    ValueError as `quantize` does, with nothing changed.
    """
    small: dict[str, QuantizedWeight] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            done = (ready or {}).get(name)
            small[name] = done or quantize(module.weight.detach(), bits, group, symmetric)
    if "lm_head" not in small:
        model.lm_head = PackedLinear(small["embedding"])
    for name, weight in small.items():
        parent, _, last = name.rpartition(".")
        made: Any = PackedEmbedding if name == "embedding" else PackedLinear
        setattr(model.get_submodule(parent), last, made(weight))
    return sum(weight.nbytes for weight in small.values())
