"""A made-up grading of a homework of 13 tasks, to test the reports with and to look at them.

`python tests/reporting/reporting_samples.py FOLDER` writes the page that a person should look at.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

from autograder.course.assignment import Assignment, Needs, Task
from autograder.testing.manifest import ManifestEntry
from autograder.testing.records import Figure, Frame, Measure, SourceLine, TestRecord

TASKS = [
    ("1.1", "Strides: broadcast, permute, view and slice without copying", 6, []),
    ("1.2", "Parallel map, zip and reduce in numba", 10, []),
    ("1.3", "Matrix multiplication: cache blocks, then register blocks", 10, []),
    ("1.4", "Backward: topological order, accumulation, a graph that is freed", 12, []),
    ("1.5", "Gradients of broadcasting elementwise operations", 8, ["1.4"]),
    ("1.6", "Reductions: sum, mean, max, logsumexp, softmax", 8, ["1.4"]),
    ("1.7", "Batched, broadcasting matrix multiplication", 8, ["1.4"]),
    ("1.8", "Embedding lookup with a row-sparse gradient", 8, ["1.4"]),
    ("1.9", "Fused cross-entropy from logits", 6, ["1.4"]),
    ("1.10", "Modules: Linear, LayerNorm, Dropout, state_dict", 6, ["1.5", "1.6", "1.7"]),
    ("1.11", "Optimizers: SGD, AdamW, clipping, cosine schedule", 6, []),
    ("1.12", "Activation checkpointing", 6, ["1.4", "1.5", "1.7"]),
    ("1.13", "Train: handwritten digits and a byte-level language model", 6, ["1.10", "1.11"]),
]
STUB = '''"""The engine."""


def topological_order(root):
    raise NotImplementedError("task 1.4: topological_order")


def backward(root):
    raise NotImplementedError("task 1.4: backward")
'''


def assignment(root: Path) -> Assignment:
    """The homework `hw1_autodiff` under `root`, with one file of handed-out code."""
    folder = root / "hw1_autodiff"
    (folder / "autodiff").mkdir(parents=True, exist_ok=True)
    (folder / "autodiff" / "engine.py").write_text(STUB, encoding="utf-8")
    return Assignment(
        title="Homework 1: automatic differentiation",
        package="autodiff",
        files=["autodiff/engine.py", "autodiff/kernels.py"],
        tasks=[
            Task(number=n, title=t, points=p, requires=r, files=["autodiff/engine.py"])
            for n, t, p, r in TASKS
        ],
        needs=Needs(cpus=1, memory_mb=1024, minutes=10),
        root=folder,
    )


def manifest() -> list[ManifestEntry]:
    """Three public tests and two hidden ones for each task: 60% and 40% of its points."""
    entries = []
    for number, title, points, _ in TASKS:
        stem = number.replace(".", "_")
        what = title.partition(":")[0].lower()
        rows = [
            ("tests", "forward", f"The forward result of {what} equals the oracle.", 0.2),
            ("tests", "gradient", f"The gradient of {what} equals finite differences.", 0.3),
            ("tests", "shapes", f"Empty, scalar and non-contiguous inputs of {what} work.", 0.1),
            ("hidden", "shapes_more", f"Unusual shapes of {what} work.", 0.25),
            ("hidden", "scale", f"Twice the size of {what} takes about twice the time.", 0.15),
        ]
        for folder, name, text, share in rows:
            entries.append(
                ManifestEntry(
                    test=f"{folder}/test_{stem}.py::test_{name}_{stem}",
                    number=number,
                    weight=round(points * share, 4),
                    title=text,
                    hidden=folder == "hidden",
                    partial=number in ("1.2", "1.3") and name in ("gradient", "scale"),
                    speed=number in ("1.2", "1.3") and name in ("gradient", "scale"),
                )
            )
    return entries


def full_records(entries: list[ManifestEntry] | None = None) -> dict[str, TestRecord]:
    """Every test passed."""
    return {
        entry.test: TestRecord(
            test=entry.test, number=entry.number, status="passed", fraction=1.0, seconds=0.02
        )
        for entry in entries or manifest()
    }


def frame(line: int = 42, function: str = "topological_order") -> Frame:
    """A frame of the student with five lines around it."""
    source = [
        "    order, seen, stack = [], set(), [(root, False)]",
        "    while stack:",
        "        node, expanded = stack.pop()",
        "        if expanded: order.append(node.parent); continue  # FIXME",
        "        if id(node) in seen:",
        "            continue",
        "        seen.add(id(node))",
    ]
    return Frame(
        file="autodiff/engine.py",
        line=line,
        function=function,
        source=[
            SourceLine(number=line - 3 + i, text=text, current=i == 3)
            for i, text in enumerate(source)
        ],
    )


def mixed_records() -> dict[str, TestRecord]:
    """A grading as a student meets it: passes, failures, a crash, skips, speed and figures."""
    records = full_records()

    def change(test: str, **values: object) -> None:
        records[test] = records[test].model_copy(update=values)

    _add_failures(change)
    _add_measures(change)
    for entry in manifest():
        if entry.number in ("1.10", "1.12"):
            change(entry.test, status="skipped", fraction=0.0, message="skipped: needs 1.4")
    del records["hidden/test_1_9.py::test_scale_1_9"]
    change(
        "tests/test_1_11.py::test_shapes_1_11",
        status="failed",
        fault="grader",
        fraction=0.0,
        exception="FileNotFoundError",
        message="golden file missing",
    )
    return records


def _add_failures(change: Callable[..., None]) -> None:
    change(
        "tests/test_1_4.py::test_gradient_1_4",
        status="failed",
        fraction=0.0,
        fault="student",
        exception="AssertionError",
        message=(
            "x.grad differs from the expected gradient\n"
            "  shape     (3, 4) float64, as expected\n"
            "  wrong     7 of 12 elements, first at [0, 2]\n"
            "  expected  -1.2840254166877414\n"
            "  got       -0.6420127083438707\n"
            "  largest error 1.31 at [2, 1] (allowed 1e-06)\n"
            "hint: a tensor that is used twice gets the sum of both gradients; assigning to "
            ".grad keeps only the last one"
        ),
        output="visiting mul\nvisiting add\n",
        figures=[backward_graph()],
    )
    change(
        "tests/test_1_4.py::test_shapes_1_4",
        status="failed",
        fraction=0.0,
        fault="student",
        exception="AttributeError",
        message="'Tensor' object has no attribute 'parent'",
        frames=[frame(17, "backward"), frame()],
        output="depth 0\ndepth 1\n",
    )
    change(
        "hidden/test_1_4.py::test_scale_1_4",
        status="failed",
        fraction=0.0,
        fault="student",
        exception="RecursionError",
        message="maximum recursion depth exceeded at n=50000",
        frames=[frame()],
        output="secret 50000",
    )
    change(
        "tests/test_1_6.py::test_forward_1_6",
        status="failed",
        fraction=0.0,
        fault="student",
        exception="the process was killed by SIGSEGV (signal 11)",
        message="your code ended the process with signal 11 (SIGSEGV: memory that is not yours)",
        frames=[frame(88, "reduce_max")],
    )


def _add_measures(change: Callable[..., None]) -> None:
    change(
        "tests/test_1_3.py::test_gradient_1_3",
        status="passed",
        fraction=0.62,
        measures=[
            Measure(name="matmul 512, one thread", value=2.41, full=3.0, zero=1.2,
                    peer="given ikj kernel, one thread"),
            Measure(name="fraction of BLAS at 512", value=0.47, full=None, zero=None,
                    peer="OpenBLAS, one thread", note="not graded"),
        ],
        figures=[ladder()],
    )  # fmt: skip
    change(
        "tests/test_1_8.py::test_forward_1_8",
        measures=[Measure(name="memory of the gradient against dense", value=0.07, full=0.1,
                          zero=0.5, peer="dense gradient", source="worker-reported")],
    )  # fmt: skip
    change("tests/test_1_13.py::test_forward_1_13", figures=[loss_curve()])
    change("tests/test_1_2.py::test_forward_1_2", figures=[memory_timeline()])


def loss_curve() -> Figure:
    steps = range(240)
    return Figure(
        kind="loss_curve",
        title="Byte-level language model: bits per byte",
        data={
            "series": {
                "training": [
                    2.2 + 5.8 * math.exp(-s / 40) + 0.15 * math.sin(s * 1.7) for s in steps
                ],
                "held out": [2.5 + 5.5 * math.exp(-s / 42) for s in steps],
            },
            "xlabel": "step",
            "ylabel": "bits per byte",
            "reference": {"smoothed bigram": 3.52},
        },
    )


def ladder() -> Figure:
    return Figure(
        kind="ladder",
        title="Matrix multiplication at 512, step by step",
        data={
            "bars": [
                {"label": "ikj (given)", "value": 10.2},
                {"label": "cache blocks", "value": 17.9},
                {"label": "register blocks", "value": 41.3},
                {"label": "packed, micro-kernel", "value": 66.0},
            ],
            "unit": "GFLOP/s",
            "peer_label": "OpenBLAS",
            "peer_value": 104.5,
        },
    )


def backward_graph() -> Figure:
    names = ["sum", "mul", "add", "tanh", "matmul", "x", "W", "b"]
    return Figure(
        kind="graph",
        title="One backward pass, in the order of the visit",
        data={
            "nodes": [
                {"id": i, "label": n, "order": i + 1, "kind": "leaf" if len(n) == 1 else "op"}
                for i, n in enumerate(names)
            ],
            "edges": [[0, 1], [1, 3], [1, 5], [3, 2], [2, 4], [2, 7], [4, 5], [4, 6]],
        },
    )


def memory_timeline() -> Figure:
    plain = [[t, (40 + 22 * min(t, 16 - t)) * 2**20] for t in range(17)]
    saved = [[t, (40 + 5 * min(t, 16 - t) + (22 if t > 8 else 0)) * 2**20] for t in range(17)]
    return Figure(
        kind="memory_timeline",
        title="Memory held over one training step",
        data={"series": {"plain": plain, "checkpointed": saved}, "xlabel": "block"},
    )


if __name__ == "__main__":
    from autograder.reporting.html import write_html
    from autograder.reporting.outcome import build_report
    from autograder.reporting.terminal import print_report

    out = Path(sys.argv[1])
    sample = build_report(
        assignment(out),
        manifest(),
        mixed_records(),
        notes=["`__MACOSX` and 3 other leftovers of the archive were ignored"],
        seconds=41.7,
        seed=20240229,
    )
    write_html(out / "report.html", sample)
    print_report(sample)
