"""Drivers of tasks 5.5 to 5.8 on a real layer: its matrices in; codes, scales and masks out.

A layer is a dict of arrays: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, and for
AWQ input_norm and post_norm. `seen` is what they read, (rows, in): "input" (q, k, v), "mixed" (o),
"post" (gate, up), "opened" (down); `readers` says so. No judging here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from drivers_compression import _parts, _tensor

Arrays = dict[str, np.ndarray]


def rounded_layer(layer: Arrays, bits: int, group: int, symmetric: bool) -> dict[str, Any]:
    """`quantize` of each matrix: codes, scales, zeros."""
    from serving.quantize import quantize

    return {
        name: _parts(quantize(_tensor(array), bits, group, symmetric))
        for name, array in layer.items()
    }


def calibrated_layer(
    layer: Arrays, seen: Arrays, readers: dict[str, list[str]], options: dict[str, Any]
) -> dict[str, Any]:
    """`gptq` of each matrix with the statistics of what it reads."""
    from serving.gptq import InputStatistics, gptq

    found = {}
    for source, names in readers.items():
        statistics = InputStatistics(seen[source].shape[1])
        for batch in _tensor(seen[source]).split(200):
            statistics.add(batch)
        for name in names:
            found[name] = _parts(gptq(_tensor(layer[name]), statistics.hessian, **options))
    return found


def scaled_layer(
    layer: Arrays, seen: Arrays, bits: int, group: int, symmetric: bool, steps: int
) -> dict[str, Any]:
    """AWQ of a layer: "norms" with the scales folded in, "parts" of the matrices, rounded.

    Three scales: of q, k, v behind input_norm, of gate and up behind post_norm, of down behind up.
    o_proj has none: with grouped queries its columns outnumber v_proj's rows.
    """
    from serving.awq import fold_into_norm, fold_into_rows, search_scale
    from serving.quantize import quantize

    now = {name: _tensor(array) for name, array in layer.items()}
    for source, norm, names in (
        ("input", "input_norm", ("q_proj", "k_proj", "v_proj")),
        ("post", "post_norm", ("gate_proj", "up_proj")),
    ):
        matrices = [now[name] for name in names]
        scale = search_scale(_tensor(seen[source]), matrices, bits, group, symmetric, steps)
        now[norm], folded = fold_into_norm(now[norm], matrices, scale)
        now.update(zip(names, folded, strict=True))
    down = [now["down_proj"]]
    scale = search_scale(_tensor(seen["opened"]), down, bits, group, symmetric, steps)
    now["up_proj"], now["down_proj"] = fold_into_rows(now["up_proj"], down[0], scale)
    norms = {name: now.pop(name).numpy() for name in ("input_norm", "post_norm")}
    parts = {name: _parts(quantize(w, bits, group, symmetric)) for name, w in now.items()}
    return {"norms": norms, "parts": parts}


def pruned_layer(
    layer: Arrays, seen: Arrays, readers: dict[str, list[str]], sparsity: float
) -> Arrays:
    """Wanda's mask of each matrix, (out, in) bool."""
    from serving.pruning import input_norms, row_mask, wanda_scores

    found = {}
    for source, names in readers.items():
        norms = input_norms(_tensor(seen[source]))
        for name in names:
            found[name] = row_mask(wanda_scores(_tensor(layer[name]), norms), sparsity).numpy()
    return found
