"""Counts what the figures show, on the emulator, with the kernels in this folder.

    python figures/measure.py              # from hw2_cuda_kernels; a minute; writes measured.json
    python figures/measure.py FOLDER       # with the package in FOLDER

It needs all tasks done. The counts are the same on every machine; times are modelled, not measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
HOMEWORK = FOLDER.parent
sys.path[:0] = [
    sys.argv[1] if len(sys.argv) > 1 else str(HOMEWORK), str(HOMEWORK / "tests"), str(HOMEWORK.parent),
]  # fmt: skip

from autograder import kernels  # noqa: E402
from autograder.kernels.model import GPUS, modelled_time  # noqa: E402

GPU = "A100"
COUNTS = (
    *(f"{space}_{kind}_{what}" for space, costs in (("global", ("sectors", "sectors_min")),
                                                    ("shared", ("wavefronts", "wavefronts_min")))
      for kind in ("load", "store", "atomic") for what in ("requests", *costs, "bytes")),
    "barriers", "warp_syncs", "shuffles", "partial_requests",
)  # fmt: skip
LINES = ("line", "access", "requests", "sectors", "wavefronts", "worst_degree", "sample",
         "sample_size")  # fmt: skip


def normal(*shape: int) -> np.ndarray:
    """Random float32 numbers, the same ones each time."""
    return np.random.default_rng(2).standard_normal(shape, dtype=np.float32)


def summary(report: dict[str, Any], flops: float = 0.0, lines: bool = False) -> dict[str, Any]:
    """Counts over all launches, the modelled time, and with `lines` one request of each line."""
    assert not report["diagnostics"], report["diagnostics"]
    launches = report["launches"]
    found: dict[str, Any] = {
        name: sum(launch["counts"].get(name, 0) for launch in launches) for name in COUNTS
    }
    found = {name: value for name, value in found.items() if value}
    found["worst_bank_degree"] = max(one["counts"]["worst_bank_degree"] for one in launches)
    share = flops / len(launches)
    found["seconds"] = sum(modelled_time(one, GPUS[GPU], flops=share).seconds for one in launches)
    found["flops"], found["launches"] = flops, len(launches)
    if lines:
        found["lines"] = [
            {name: line[name] for name in LINES} for one in launches for line in one["lines"]
        ]
    return found


def element_wise() -> dict[str, Any]:
    """2.1: one operation over four layouts of the same number of elements."""
    import drivers_elementwise

    layouts = {"contiguous": ((1024,), (1,)), "a row for all": ((8, 128), (0, 1)),
               "every second": ((1024,), (2,)), "transposed": ((128, 128), (1, 128))}  # fmt: skip
    cases = [
        {"operation": "relu", "blocks": 8,
         "views": [{"buffer": normal(1 << 14), "shape": shape, "strides": strides, "offset": 0}]}
        for shape, strides in layouts.values()
    ]  # fmt: skip
    answers = drivers_elementwise.element_wise(cases)
    return {
        name: summary(answer["report"], lines=True)
        for name, answer in zip(layouts, answers, strict=True)
    }


def reductions() -> dict[str, Any]:
    """2.2: the sum of one row of 1,024."""
    import drivers_reduction

    versions = ("interleaved", "tree", "shuffle")
    cases = [{"version": v, "operation": "sum", "x": normal(1, 1024)} for v in versions]
    answers = drivers_reduction.row_reductions(cases)
    return {v: summary(answer["report"]) for v, answer in zip(versions, answers, strict=True)}


def transposes() -> dict[str, Any]:
    """2.3: 64 × 96 floats, also through a tile without the unused column."""
    import drivers_transpose
    from cuda_kernels import transpose

    x = normal(64, 96)
    cases = [{"version": version, "x": x} for version in ("naive", "tiled")]
    naive, tiled = (answer["report"] for answer in drivers_transpose.transposes(cases))
    source = Path(transpose.__file__).with_suffix(".cu")
    text = source.read_text(encoding="utf-8")
    if "[TILE][TILE + 1]" not in text:
        raise ValueError(f"{source} has no tile of [TILE][TILE + 1]")
    with tempfile.TemporaryDirectory() as folder:
        for header in source.parent.glob("*.cuh"):
            (Path(folder) / header.name).write_bytes(header.read_bytes())
        changed = Path(folder) / source.name
        changed.write_text(text.replace("[TILE][TILE + 1]", "[TILE][TILE]"), encoding="utf-8")
        device = kernels.Device(backend="emulator", mode="full")
        out = device.empty((96, 64))
        device.load(changed).launch("transpose", 2, device.array(x), out, 1, 64, 96)
        unpadded = device.report()
    reports = {"naive": naive, "rows of 32": unpadded, "rows of 33": tiled}
    return {name: summary(report, lines=True) for name, report in reports.items()}


def matmuls() -> dict[str, Any]:
    """2.4: 128 cubed, and a product with enough blocks to fill a GPU."""
    import drivers_matmul

    versions = ("naive", "tiled", "register")
    found = {}
    for label, (m, k, n) in {"128": (128, 128, 128), "wide": (1024, 64, 1024)}.items():
        for version in versions:
            if (label, version) == ("wide", "naive"):
                m = n = 512  # a quarter of the work, which takes the emulator seconds
            case = {"version": version, "a": normal(m, k), "b": normal(k, n)}
            (answer,) = drivers_matmul.matmuls([case])
            found[f"{version} {label}"] = summary(answer["report"], flops=2.0 * m * k * n)
            m, k, n = (1024, 64, 1024) if label == "wide" else (m, k, n)
    return found


def rows() -> dict[str, Any]:
    """2.5, 2.6, 2.7 and 2.9: how often rows are read and written."""
    import drivers_cross_entropy
    import drivers_fused
    import drivers_normalization
    import drivers_softmax
    from cuda_kernels import cross_entropy

    found = {}
    for version in ("three_pass", "online", "best"):
        answer = drivers_softmax.softmax_forward(normal(16, 1024), version)
        found[f"softmax {version}"] = summary(answer["report"])
    long = drivers_softmax.softmax_forward(normal(2, 16384), "best")
    found["softmax long"] = summary(long["report"])
    x, gamma, beta = normal(64, 1024), normal(1024), normal(1024)
    forward = drivers_normalization.layernorm_forward(x, gamma, beta)
    backward = drivers_normalization.layernorm_backward(
        x, x, gamma, forward["mean"], forward["rstd"]
    )
    found["layernorm forward"] = summary(forward["report"])
    found["layernorm backward"] = summary(backward["report"])
    for version in ("unfused", "fused"):
        answer = drivers_fused.bias_gelu_forward(normal(64, 256), normal(256), version)
        found[f"bias_gelu {version}"] = summary(answer["report"])
    step = drivers_fused.adamw_steps(normal(4096), [normal(4096)], {"learning_rate": 1e-3})
    found["adamw"] = summary(step["report"])
    logits, targets = normal(4, 2048), np.array([3, 5, 7, 9], np.int32)
    answer = drivers_cross_entropy.cross_entropy(logits, targets)
    found["cross_entropy fused"] = summary(answer["report"])
    device = kernels.Device(backend="emulator", mode="full")
    cross_entropy.cross_entropy(
        device, device.array(logits), device.array(targets), 1.0, version="naive"
    )
    found["cross_entropy naive"] = summary(device.report())
    return found


def others() -> dict[str, Any]:
    """2.8, 2.10, 2.11 and 2.12."""
    import drivers_attention
    import drivers_block
    import drivers_embedding
    import drivers_quantized
    from standard_inputs import OPERATIONS

    found = {}
    ids = np.tile(np.array([3, 8], np.int32), 64)
    for version in ("atomic", "grouped"):
        answer = drivers_embedding.embedding_backward(
            normal(128, 64), ids, np.zeros((16, 64), np.float32), version
        )
        found[f"embedding {version}"] = summary(answer["report"])
    for version in ("naive", "flash"):
        case = {"version": version, "scale": None, "logsumexp": False}
        case |= {name: normal(1, 1, 256, 32) for name in "qkv"}
        (answer,) = drivers_attention.attentions([case])
        found[f"attention {version}"] = summary(answer["report"])
    rng = np.random.default_rng(2)
    for bits, most in ((8, 127), (4, 7)):
        integers = rng.integers(-most, most + 1, (16, 1024), dtype=np.int8)
        answer = drivers_quantized.gemv(integers, np.abs(normal(16, 16)), normal(1024), bits)
        found[f"gemv int{bits}"] = summary(answer["report"], lines=True)
    block = next(one for one in OPERATIONS if one.name == "block")
    report = drivers_block.transformer_block(**block.cases[0].arguments())["report"]
    found["block"] = {
        "total": summary(report),
        "launches": [
            {
                "kernel": launch["kernel"],
                "read": launch["counts"]["global_load_sectors"],
                "written": launch["counts"]["global_store_sectors"],
                "seconds": modelled_time(launch, GPUS[GPU]).seconds,
            }
            for launch in report["launches"]
        ],
    }
    return found


def main() -> None:
    """Write measured.json beside this script."""
    found = {
        "element-wise": element_wise(), "reduction": reductions(), "transpose": transposes(),
        "matmul": matmuls(), "rows": rows(), "others": others(), "gpu": GPU,
    }  # fmt: skip
    text = json.dumps(found, separators=(",", ":")).replace('},"', '},\n"').replace('{"line"', '\n{"line"')
    (FOLDER / "measured.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
