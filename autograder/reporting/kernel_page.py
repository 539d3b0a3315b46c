"""The page of `make kernels`: every version of an operation with its counts and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autograder.reporting.figures import Drawing
from autograder.reporting.html import template_environment
from autograder.reporting.kernel_panel import Panel
from autograder.testing.records import write_atomically


@dataclass(frozen=True)
class Version:
    """One run: its panel, or why there is none."""

    label: str
    panel: Panel | None = None
    failed: str = ""


@dataclass(frozen=True)
class Operation:
    """All versions of one operation on the same input, which `input` describes."""

    title: str
    input: str
    versions: Sequence[Version]
    ladder: Drawing | None = None
    roofline: Drawing | None = None
    refused: str = ""  # by nvcc


@dataclass(frozen=True)
class Page:
    """What the page shows; `command` is what made it, `note` is about all of it."""

    title: str
    command: str
    operations: Sequence[Operation]
    note: str = ""


def render_page(page: Page) -> str:
    """The whole page: no script, nothing loaded, every text escaped by the template."""
    return template_environment().get_template("kernel_page.html.j2").render(page=page)


def write_page(path: Path, page: Page) -> None:
    """Replace `path` by the page in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render_page(page))
