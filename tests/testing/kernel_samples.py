"""Reports as a device gives them, written by hand: a transpose as it is first written, and mended."""

from __future__ import annotations

import copy
from typing import Any

# One warp's row of 32 floats, and its column of a 32 × 32 matrix; the same in a tile of 33 columns.
ROW = [4 * lane for lane in range(32)]
COLUMN = [128 * lane for lane in range(32)]
PADDED = [132 * lane for lane in range(32)]


def line(number: int, access: str, requests: int, each: int, least: int, **more: Any) -> dict[str, Any]:
    """A line of `transpose.cu`: `each` sectors or passes a request where `least` would do."""
    unit = "wavefronts" if access.startswith("shared") else "sectors"
    return {
        "file": "transpose.cu", "line": number, "access": access, "requests": requests,
        "sectors": 0, "sectors_min": 0, "wavefronts": 0, "wavefronts_min": 0, "worst_degree": 1,
        "lanes": 32 * requests, "partial": 0, "bytes": 128 * requests, "sample": ROW,
        "sample_size": 4, unit: each * requests, f"{unit}_min": least * requests, **more,
    }  # fmt: skip


def launch(kernel: str, lines: list[dict[str, Any]], **counts: int) -> dict[str, Any]:
    """A launch of 4 blocks of 32 × 8 threads, its totals those of its lines."""
    total: dict[str, int] = {}
    for one in lines:
        shared = one["access"].startswith("shared")
        for what in ("requests", "bytes", *(("wavefronts", "wavefronts_min") if shared else
                                            ("sectors", "sectors_min"))):  # fmt: skip
            name = f"{one['access']}_{what}"
            total[name] = total.get(name, 0) + one[what]
        degree = one["worst_degree"] if shared else 0
        total["worst_bank_degree"] = max(total.get("worst_bank_degree", 0), degree)
    return {
        "kernel": kernel, "line": 30, "grid": [2, 2, 1], "block": [32, 8, 1], "shared_bytes": 4224,
        "blocks_run": 4, "blocks": 4, "counts": total | counts, "lines": lines,
    }  # fmt: skip


def naive() -> dict[str, Any]:
    """Reads rows, writes columns: 32 sectors a store where 4 would do."""
    return launch("transpose_naive", [
        line(11, "global_load", 128, 4, 4),
        line(12, "global_store", 128, 32, 4, sample=COLUMN),
    ])  # fmt: skip


def tiled(padded: bool = True) -> dict[str, Any]:
    """Through a tile of [32][33], or of [32][32], whose columns lie in one bank."""
    degree = 1 if padded else 32
    return launch("transpose_tiled", [
        line(31, "global_load", 128, 4, 4),
        line(31, "shared_store", 128, 1, 1),
        line(38, "shared_load", 128, degree, 1, worst_degree=degree,
             sample=PADDED if padded else COLUMN),
        line(38, "global_store", 128, 4, 4),
    ], barriers=4)  # fmt: skip


def race() -> dict[str, Any]:
    """The barrier between filling the tile and reading it is missing."""
    return {
        "kind": "race", "severity": "error",
        "message": "thread (0, 1, 0) reads tile[1][0], which thread (1, 0, 0) writes in line 31, "
                   "with no barrier between them",
        "kernel": "transpose_tiled", "file": "transpose.cu", "line": 38, "other_line": 31,
        "block": [0, 0, 0], "thread": [0, 1, 0], "count": 3968,
    }  # fmt: skip


def report(*launches: dict[str, Any], diagnostics: tuple[Any, ...] = ()) -> dict[str, Any]:
    """A report of its own, free to be changed."""
    return copy.deepcopy(
        {"launches": list(launches), "diagnostics": list(diagnostics), "output": ""}
    )
