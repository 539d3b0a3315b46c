"""A sheet of boxes and words as SVG text, for pictures that are no charts; one unit is one CSS pixel."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from autograder.reporting.figures import INK, PAGE_FONT

WIDTH = 450  # as wide as the charts, so that type has one size on a page


class Sheet:
    """Collects shapes; every text is escaped. Colours are those of `figures`: dark pages swap them."""

    def __init__(self, width: float = WIDTH) -> None:
        self.width = width
        self._parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, fill: str = "none", edge: str = "",
    ) -> None:  # fmt: skip
        """A rectangle with its upper left corner at (x, y)."""
        border = f' stroke="{edge}"' if edge else ""
        place = f'x="{x:.4g}" y="{y:.4g}" width="{width:.4g}" height="{height:.4g}"'
        self._parts.append(f'<rect {place} fill="{fill}"{border}/>')

    def line(
        self, x1: float, y1: float, x2: float, y2: float, colour: str, dashed: bool = False
    ) -> None:
        """A thin line."""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        place = f'x1="{x1:.4g}" y1="{y1:.4g}" x2="{x2:.4g}" y2="{y2:.4g}"'
        self._parts.append(f'<line {place} stroke="{colour}"{dash}/>')

    def text(
        self, x: float, y: float, words: str, *, size: float = 12, colour: str = INK,
        anchor: str = "start", bold: bool = False, mono: bool = False,
    ) -> None:  # fmt: skip
        """Words whose baseline starts, ends or has its middle at (x, y)."""
        more = "" if anchor == "start" else f' text-anchor="{anchor}"'
        more += ' font-weight="600"' if bold else ""
        more += ' font-family="ui-monospace, Menlo, Consolas, monospace"' if mono else ""
        self._parts.append(
            f'<text x="{x:.4g}" y="{y:.4g}" font-size="{size:g}" fill="{colour}"{more}>'
            f"{escape(words)}</text>"
        )

    def finish(self, height: float) -> str:
        """The SVG."""
        body = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {height:.4g}" '
            f'width="{self.width:g}" height="{height:.4g}" font-family={quoteattr(PAGE_FONT)}>\n'
            f"{body}\n</svg>\n"
        )
