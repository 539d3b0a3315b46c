"""The page: every text escaped, nothing loaded, readable by structure."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import reporting_samples as samples

from autograder.reporting.html import render_html, write_html
from autograder.reporting.outcome import FAULT_SENTENCE, Report, build_report
from autograder.testing.records import Measure, TestRecord

VOID = {"meta", "br", "img", "source", "col"}
# fmt: off
ALLOWED = VOID | {
    "html", "head", "title", "style", "body", "a", "header", "main", "footer", "h1", "h2", "h3",
    "p", "span", "div", "small", "strong", "b", "i", "ul", "li", "table", "caption", "colgroup",
    "thead", "tbody", "tr", "th", "td", "section", "article", "pre", "code", "details", "summary",
    "figure", "figcaption", "picture",
}
# fmt: on


class Page(HTMLParser):
    """Collects elements and checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def report(tmp_path: Path, records: dict[str, TestRecord], **more: Any) -> Report:
    return build_report(samples.assignment(tmp_path), samples.manifest(), records, **more)


def assert_nothing_active(page: Page) -> None:
    assert {tag for tag, _ in page.elements} <= ALLOWED
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "srcset", "href", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/svg+xml;base64,"))


def test_the_page_loads_nothing_and_forbids_scripts(tmp_path: Path) -> None:
    text = render_html(report(tmp_path, samples.mixed_records()))
    page = Page(text)
    assert_nothing_active(page)
    policies = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_hostile_text_in_every_field_stays_text(tmp_path: Path) -> None:
    evil = (
        "</pre></style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload='x"
    )
    frame = samples.frame()
    frame.file = frame.function = evil
    for line in frame.source:
        line.text = evil
    records = {
        test: record.model_copy(
            update={
                "status": "failed", "exception": evil, "message": evil, "output": evil,
                "frames": [frame],
                "measures": [Measure(name=evil, value=1, unit=evil, peer=evil, note=evil, full=2,
                                     zero=0)],
                "figures": [samples.Figure(kind="loss_curve", title=evil, data={
                    "series": {evil: [3, 2, 1]}, "xlabel": evil, "reference": {evil: 1}})],
            }
        )
        for test, record in list(samples.full_records().items())[:5]
    }  # fmt: skip
    page = Page(render_html(report(tmp_path, records, notes=[evil], grader_fault=evil)))
    assert_nothing_active(page)
    assert "<script>alert(1)</script>" in page.text
    assert "onerror" not in {name for _, attributes in page.elements for name in attributes}


def test_headings_captions_and_alternatives_are_there(tmp_path: Path) -> None:
    page = Page(render_html(report(tmp_path, samples.mixed_records())))
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) >= 13
    assert len(page.all("caption")) == len(page.all("table"))
    pictures = page.all("img")
    assert len(pictures) == 4
    assert all(picture["alt"] for picture in pictures)
    assert page.all("html") == [{"lang": "en"}]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for a in page.all("a")}
    assert targets <= {f"#{name}" for name in ids}


def test_the_page_shows_score_message_source_measure_and_command(tmp_path: Path) -> None:
    page = Page(render_html(report(tmp_path, samples.mixed_records(), notes=["a note"])))
    for words in (
        "77.16", "a note", "hint: a tensor that is used twice", "autodiff/engine.py:42",
        "2.41x", "no points at 1.2x", "full points at 3x", "measured in the process that ran your code",
        "make test HW=hw1_autodiff K=test_gradient_1_4", "skipped: needs 1.4", FAULT_SENTENCE,
        "the grader did not reach this test",
    ):  # fmt: skip
        assert words in page.text, words
    assert any(a.get("aria-current") == "true" for a in page.all("span"))


def test_nothing_for_staff_is_on_the_page(tmp_path: Path) -> None:
    text = render_html(
        report(tmp_path, samples.mixed_records(), seed=20240229, grader_fault="zygote died")
    )
    for word in ("20240229", "zygote", "golden file", "50000", "K=test_scale"):
        assert word not in text


def test_a_bad_figure_becomes_a_sentence(tmp_path: Path) -> None:
    records = samples.full_records()
    first = samples.manifest()[0].test
    records[first].figures = [samples.Figure(kind="loss_curve", title="t", data={"series": 3})]
    page = Page(render_html(report(tmp_path, records)))
    assert "could not be drawn" in page.text


def test_pages_without_records_or_hidden_tests_render(tmp_path: Path) -> None:
    empty = Page(render_html(report(tmp_path, {}, notes=["The zip is empty."])))
    assert "No test ran." in empty.text
    assert "The zip is empty." in empty.text
    public = Page(render_html(report(tmp_path, samples.full_records(), public_only=True)))
    assert "Hidden tests carry the other 40 points." in public.text


def test_the_page_is_written_and_the_same_grading_gives_the_same_bytes(tmp_path: Path) -> None:
    built = report(tmp_path, samples.mixed_records())
    write_html(tmp_path / "report.html", built)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_html(built)
