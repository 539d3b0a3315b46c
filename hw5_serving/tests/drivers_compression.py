"""Drivers of tasks 5.5 to 5.8: arrays in; codes, scales, masks and losses out. No judging here."""

from __future__ import annotations

from typing import Any

import numpy as np


def _tensor(array: np.ndarray, strided: bool = False) -> Any:
    """The array as a tensor; `strided`: as a view that is not contiguous."""
    import torch

    tensor = torch.tensor(array)
    return tensor.T.contiguous().T if strided else tensor


def _parts(weight: Any) -> dict[str, Any]:
    """What a QuantizedWeight holds, as arrays; a zero point of None as an empty array."""
    zeros = np.empty((0, 0), np.uint8) if weight.zeros is None else weight.zeros.numpy()
    return {"codes": weight.codes.numpy(), "scales": weight.scales.numpy(), "zeros": zeros}


def quantized(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`quantize` of each case's weight, and what `dequantize` makes of it; "unchanged": the input."""
    from serving.quantize import quantize

    found = []
    for case in cases:
        weight = _tensor(case["weight"], case.get("strided", False))
        made = quantize(weight, case["bits"], case["group"], case["symmetric"])
        floats = made.dequantize().numpy()
        found.append({**_parts(made), "floats": floats, "unchanged": weight.numpy()})
    return found


def coded(
    weight: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None, bits: int
) -> np.ndarray:
    """`nearest_codes` on a grid that is given; zeros None: symmetric."""
    from serving.quantize import nearest_codes

    given = None if zeros is None else _tensor(zeros)
    return nearest_codes(_tensor(weight), _tensor(scales), given, bits).numpy()


def packed(codes: np.ndarray) -> dict[str, np.ndarray]:
    """`pack_int4` of the codes, and `unpack_int4` of that."""
    from serving.quantize import pack_int4, unpack_int4

    both = pack_int4(_tensor(codes))
    return {"packed": both.numpy(), "unpacked": unpack_int4(both).numpy()}


def multiplied(x: np.ndarray, weight: np.ndarray, bits: int, group: int, symmetric: bool) -> Any:
    """x through a PackedLinear of the quantised weight."""
    from serving.packed_linear import PackedLinear
    from serving.quantize import quantize

    layer = PackedLinear(quantize(_tensor(weight), bits, group, symmetric))
    return layer(_tensor(x)).numpy()


def hessian(batches: list[np.ndarray]) -> dict[str, Any]:
    """What InputStatistics holds after these batches."""
    from serving.gptq import InputStatistics

    statistics = InputStatistics(batches[0].shape[-1])
    for batch in batches:
        statistics.add(_tensor(batch))
    return {"hessian": statistics.hessian.numpy(), "count": statistics.count}


def calibrated(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`gptq` of each case: its weight, its hessian (given, or of "inputs") and its options."""
    from serving.gptq import InputStatistics, gptq

    found = []
    for case in cases:
        weight = _tensor(case["weight"])
        if "hessian" in case:
            second = _tensor(case["hessian"])
        else:
            statistics = InputStatistics(weight.shape[1])
            statistics.add(_tensor(case["inputs"]))
            second = statistics.hessian
        before = second.clone()
        made = gptq(weight, second, **case["options"])
        same = bool((second == before).all()) and bool((weight == _tensor(case["weight"])).all())
        found.append({**_parts(made), "unchanged": same})
    return found


def magnitudes(inputs: np.ndarray, alphas: list[float]) -> dict[str, Any]:
    """`mean_magnitude` of the inputs, and `candidate_scale` of it for each alpha."""
    from serving.awq import candidate_scale, mean_magnitude

    magnitude = mean_magnitude(_tensor(inputs))
    scales = [candidate_scale(magnitude, alpha).numpy() for alpha in alphas]
    return {"magnitude": magnitude.numpy(), "scales": scales}


def searched(cases: list[dict[str, Any]]) -> list[np.ndarray]:
    """`search_scale` of each case: inputs, weights, options."""
    from serving.awq import search_scale

    return [
        search_scale(_tensor(c["inputs"]), [_tensor(w) for w in c["weights"]], **c["options"]).numpy()
        for c in cases
    ]


def folded(norm: np.ndarray, weights: list[np.ndarray], scale: np.ndarray) -> dict[str, Any]:
    """`fold_into_norm`; "kept" the arguments afterwards."""
    from serving.awq import fold_into_norm

    arguments = (_tensor(norm), [_tensor(w) for w in weights])
    new_norm, new_weights = fold_into_norm(*arguments, _tensor(scale))
    kept = [arguments[0].numpy(), *(w.numpy() for w in arguments[1])]
    return {"norm": new_norm.numpy(), "weights": [w.numpy() for w in new_weights], "kept": kept}


def folded_rows(previous: np.ndarray, following: np.ndarray, scale: np.ndarray) -> list[np.ndarray]:
    """`fold_into_rows`: the two matrices."""
    from serving.awq import fold_into_rows

    return [w.numpy() for w in fold_into_rows(_tensor(previous), _tensor(following), _tensor(scale))]


def scored(inputs: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """`input_norms` of the inputs, and `wanda_scores` of the weight by them."""
    from serving.pruning import input_norms, wanda_scores

    norms = input_norms(_tensor(inputs))
    return {"norms": norms.numpy(), "scores": wanda_scores(_tensor(weight), norms).numpy()}


def kept_rows(scores: np.ndarray, sparsity: float) -> np.ndarray:
    """`row_mask`."""
    from serving.pruning import row_mask

    return row_mask(_tensor(scores), sparsity).numpy()


def kept_runs(scores: np.ndarray, keep: int, of: int) -> np.ndarray:
    """`semi_structured_mask`."""
    from serving.pruning import semi_structured_mask

    return semi_structured_mask(_tensor(scores), keep, of).numpy()


def halved(weight: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """`compress_2_4`, and `decompress_2_4` of that."""
    from serving.pruning import compress_2_4, decompress_2_4

    values, places = compress_2_4(_tensor(weight), _tensor(mask))
    dense = decompress_2_4(values, places).numpy()
    return {"values": values.numpy(), "places": places.numpy(), "dense": dense}


def distilled(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`distillation_loss` of each case with its gradient; "teacher": whether one went to it."""
    from serving.distillation import distillation_loss

    found = []
    for case in cases:
        student = _tensor(case["student"]).requires_grad_()
        teacher = _tensor(case["teacher"]).requires_grad_()
        loss = distillation_loss(student, teacher, _tensor(case["targets"]), **case["options"])
        loss.backward()
        grad = np.full(student.shape, np.nan) if student.grad is None else student.grad.numpy()
        found.append({"loss": loss.item(), "gradient": grad, "teacher": teacher.grad is not None})
    return found
