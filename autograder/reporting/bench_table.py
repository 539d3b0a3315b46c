"""The benchmark's rows as a terminal table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


_PIPE_WIDTH = 180


def print_rows(rows: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print name, value, unit, target and peer of each row; see `batch.bench.Row`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in (
        ("benchmark", "left"), ("value", "right"), ("unit", "left"), ("target", "right"),
        ("against", "left"), ("note", "left"),
    ):  # fmt: skip
        table.add_column(name, justify=justify)
    for row in rows:
        value = "not measured" if row["value"] is None else f"{row['value']:.3g}"
        target = ""
        if row["target"] is not None:
            target = ("≥ " if row["better"] == "higher" else "≤ ") + f"{row['target']:g}"
        table.add_row(row["name"], value, row["unit"], target, row["peer"], row["note"])
    if console is None:  # in a pipe there is no width to keep to, and a name is to be found whole
        console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(table)
