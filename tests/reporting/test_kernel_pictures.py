"""Pictures and tables of kernels: counts drawn as they are, bad data refused, texts escaped."""

from __future__ import annotations

import io
import math
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "testing"))
import kernel_samples as samples

from autograder.reporting import kernel_page, kernel_pictures
from autograder.reporting.figures import draw
from autograder.reporting.html import _picture
from autograder.reporting.kernel_panel import panel_of, version_of
from autograder.reporting.kernel_pictures import passes_of, read_sample, sectors_of, short, time_text
from autograder.reporting.kernel_terminal import print_panel
from autograder.testing.kernel_report import read_report
from autograder.testing.records import Figure

SVG = "{http://www.w3.org/2000/svg}"
IDLE = [None] * 16
EVIL = '</text><script>x</script>"<&\x1b[31m$\\frac{1}{'


def strided(step: int, lanes: int = 32) -> list[int | None]:
    return [step * lane for lane in range(lanes)]


def drawn(kind: str, **data: Any) -> Any:
    return draw(Figure(kind=kind, title="t", data=data))


# --- what a request costs -------------------------------------------------------------------------

# offsets, bytes a lane, (sectors, least), (passes, least); by hand.
REQUESTS = [
    (strided(4), 4, (4, 4), (1, 1)),
    (strided(128), 4, (32, 4), (32, 1)),  # a column of 32 floats: one bank
    (strided(132), 4, (32, 4), (1, 1)),  # of 33 floats: every bank once
    (strided(8), 4, (8, 4), (2, 1)),
    (strided(0), 4, (1, 1), (1, 1)),  # one word for all: a broadcast
    (strided(16), 16, (16, 16), (4, 4)),  # float4: a quarter of the warp at a time
    (strided(8), 8, (8, 8), (2, 2)),
    (strided(32), 16, (32, 16), (8, 4)),  # every other float4: half of the banks
    ([20 + at for at in strided(4)], 4, (5, 4), (1, 1)),  # straddles a sector
    (strided(4, 16) + IDLE, 4, (2, 2), (1, 1)),
    ([None] * 31 + [64], 4, (1, 1), (1, 1)),
    (strided(1), 1, (1, 1), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("offsets", "size", "sectors", "passes"), REQUESTS)
def test_sectors_and_passes_of_a_request_by_hand(offsets, size, sectors, passes):
    sample = read_sample({"sample": offsets, "sample_size": size, "access": "shared_load"})
    assert sectors_of(sample) == sectors
    assert passes_of(sample) == passes


def test_atomics_on_one_word_wait_for_each_other():
    data = {"sample": strided(0), "sample_size": 4}
    assert passes_of(read_sample(data | {"access": "shared_atomic"})) == (32, 1)
    assert passes_of(read_sample(data | {"access": "shared_load"})) == (1, 1)


# --- pictures -------------------------------------------------------------------------------------

VERSIONS = [version_of("naive", read_report(samples.report(samples.naive()))),
            version_of("tiled", read_report(samples.report(samples.tiled())))]  # fmt: skip
POINT = {"label": "naive", "flops": 2e9, "bytes": 4e9, "seconds": 9e-4}
GOOD: dict[str, dict[str, Any]] = {
    "access": {"sample": strided(128), "sample_size": 4, "access": "global_store"},
    "banks": {"sample": strided(128), "sample_size": 4, "access": "shared_load"},
    "kernel_ladder": {"versions": VERSIONS, "gpu": "A100"},
    "roofline": {"gpu": "A100", "points": [POINT]},
}


def boxes(svg: str, filled: bool = True) -> int:
    found = ElementTree.fromstring(svg).iter(f"{SVG}rect")
    return sum((box.get("fill") != "none") == filled for box in found)


def texts_of(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("kind", GOOD)
def test_good_data_gives_the_same_small_picture_twice(kind):
    first, second = drawn(kind, **GOOD[kind]), drawn(kind, **GOOD[kind])
    assert first is not None
    assert first == second
    assert first.light != first.dark
    assert len(first.light) < 40_000
    assert not ElementTree.fromstring(first.light).findall(f".//{SVG}script")


def test_the_access_picture_has_a_box_for_each_lane_and_each_sector():
    column = drawn("access", **GOOD["access"])
    assert boxes(column.light) == 32 + 32  # the lanes, and one word in each of their sectors
    assert boxes(column.light, filled=False) == 32
    assert "32 sectors, 4 would do" in texts_of(column.light)
    assert column.alt == (
        "global store: 32 lanes, 4 bytes each, 32 sectors of 32 bytes touched; 4 would do."
    )
    half = drawn("access", sample=strided(4, 16) + IDLE, sample_size=4, access="global_load")
    assert boxes(half.light, filled=False) == 16 + 2  # idle lanes are hollow
    assert "+32 bytes" in texts_of(half.light)


def test_the_bank_map_stacks_what_meets():
    column = drawn("banks", **GOOD["banks"])
    xs = [box.get("x") for box in ElementTree.fromstring(column.light).iter(f"{SVG}rect")]
    assert len(xs) == 32
    assert len(set(xs)) == 1
    assert "conflict of degree 32: 32 passes, 1 would do" in texts_of(column.light)
    padded = drawn("banks", sample=strided(132), sample_size=4)
    xs = [box.get("x") for box in ElementTree.fromstring(padded.light).iter(f"{SVG}rect")]
    assert len(set(xs)) == 32
    assert "no conflict: 1 pass" in texts_of(padded.light)
    shared = drawn("banks", sample=strided(0), sample_size=4)
    assert "×32" in texts_of(shared.light)


def test_the_ladder_has_the_counts_and_their_ratio_to_the_least():
    texts = texts_of(drawn("kernel_ladder", **GOOD["kernel_ladder"]).light)
    naive, tiled = texts.index("naive"), texts.index("tiled")
    # 256 requests; 512 + 4096 sectors, 1024 the least; no shared memory; no barrier.
    assert texts[naive + 1 : naive + 7] == ["256", "4,608", "4.5", "0", "–", "0"]
    assert texts[tiled + 1 : tiled + 7] == ["256", "1,024", "1", "256", "1", "4"]


def test_the_roofline_has_the_roofs_and_the_points():
    alt = drawn("roofline", **GOOD["roofline"]).alt
    assert "naive at 0.5 FLOP a byte, 2.22e+03 GFLOP/s" in alt


DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
BAD: list[dict[str, Any]] = [
    {}, {"sample": None}, {"sample": []}, {"sample": [None] * 32, "sample_size": 4},
    {"sample": strided(4), "sample_size": 3}, {"sample": strided(4), "sample_size": None},
    {"sample": strided(4, 33), "sample_size": 4}, {"sample": [-1], "sample_size": 4},
    {"sample": [2**60], "sample_size": 4}, {"sample": ["0"], "sample_size": 4},
    {"sample": [0.5], "sample_size": 4}, {"sample": "0123", "sample_size": 4},
    {"sample": [True], "sample_size": 4},
    {"versions": []}, {"versions": [1, 2]}, {"versions": DEEP}, {"versions": "x"},
    {"points": []}, {"points": [POINT | {"flops": 0}]}, {"points": [POINT | {"seconds": math.nan}]},
    {"points": [1]}, {"points": [{"flops": "1"}]},
]  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_bad_data_gives_no_picture_and_no_exception(kind):
    for data in BAD:
        assert draw(Figure.model_construct(kind=kind, title="t", data=data)) is None, data


def test_hostile_labels_are_escaped():
    evil = [VERSIONS[0] | {"label": EVIL}]
    for drawing in (
        drawn("kernel_ladder", versions=evil, gpu=EVIL),
        drawn("roofline", gpu=EVIL, points=[POINT | {"label": EVIL}]),
        drawn("access", **GOOD["access"] | {"access": EVIL}),
    ):
        assert drawing is not None
        assert "<script" not in drawing.light
        assert "\x1b" not in drawing.light
        ElementTree.fromstring(drawing.light)


def test_numbers_beyond_reason_are_still_words():
    assert [short(n) for n in (0, 999, 4096, 65_536, 2_100_000, 3e9, 5e13, math.nan)] == [
        "0", "999", "4,096", "65.5k", "2.1M", "3G", "5e+13", "–",
    ]  # fmt: skip
    assert [time_text(s) for s in (3e-9, 4.5e-6, 0.0025, 12, math.inf)] == [
        "3 ns", "4.5 µs", "2.5 ms", "12 s", "–",
    ]  # fmt: skip


# --- tables ---------------------------------------------------------------------------------------

CONFLICTS = samples.report(samples.tiled(padded=False), diagnostics=(samples.race(),)) | {
    "sources": {"transpose.cu:38": "out[i] = tile[threadIdx.x][y]; // <b>", "transpose.cu:31": "load();"},
    "flops": {"transpose_tiled": 1e6},
}  # fmt: skip


def test_the_panel_shows_each_line_against_the_least_possible():
    panel = panel_of(CONFLICTS)
    (kernel,) = panel.kernels
    assert kernel.launched == "2 × 2 blocks of 32 × 8 threads, 4,224 bytes of shared memory"
    rows = {(row.place, row.access): row for row in kernel.rows}
    bad = rows["transpose.cu:38", "shared load"]
    assert (bad.each, bad.least, bad.unit, bad.degree, bad.wasteful) == ("32", "1", "pass", "32", True)
    good = rows["transpose.cu:38", "global store"]
    assert (good.each, good.least, good.unit, good.degree, good.wasteful) == ("4", "4", "sectors", "", False)
    facts = dict(kernel.facts)
    assert facts["global memory"] == "1,024 sectors, 1 × the least possible"
    assert facts["worst bank conflict"] == "degree 32"
    assert facts["barriers"] == "4"
    assert facts["modelled time"].endswith("on A100, bound by arithmetic")
    assert [title.partition(":")[2] for title, _ in kernel.pictures] == [
        "31, global load: one request", "38, global store: one request",
        "38, shared load: one request",
    ]  # fmt: skip
    assert panel.roofline is not None
    (finding,) = panel.findings
    assert finding.head == "race in transpose_tiled, transpose.cu:38 and line 31"
    assert [number for number, _ in finding.sources] == [31, 38]


def test_what_costs_half_more_than_the_least_is_marked():
    lines = [samples.line(n, "global_load", 10, each, 4) for n, each in ((1, 5), (2, 6), (3, 7))]
    (kernel,) = panel_of(samples.report(samples.launch("k", lines)), pictures=False).kernels
    assert [row.wasteful for row in kernel.rows] == [False, False, True]


def test_a_launch_that_fits_nowhere_has_counts_and_no_time():
    launch = samples.tiled() | {"shared_bytes": 300 << 10}
    (kernel,) = panel_of(samples.report(launch)).kernels
    assert dict(kernel.facts)["modelled time"] == "none: a block does not fit on an SM of A100"


def test_flops_of_the_whole_call_are_one_point_or_the_kernels_own():
    """Two kernels share the number, so neither's arithmetic is known by itself."""
    both = samples.report(samples.naive(), samples.tiled())
    panel = panel_of(both | {"flops": {"": 1e9}})
    assert panel.roofline is not None
    assert "all kernels together at " in panel.roofline.alt
    assert all("arithmetic" not in one.terms for one in panel.kernels)
    alone = panel_of(samples.report(samples.tiled()) | {"flops": {"": 1e9}})
    assert "transpose_tiled at " in alone.roofline.alt
    assert alone.kernels[0].terms.startswith("arithmetic")
    assert panel_of(both | {"flops": {"": 0}}).roofline is None


def test_problems_of_different_sizes_are_shown_apart_where_their_grid_is_the_same():
    """The same tile of a product, over a short and over a long row."""
    short_one = samples.launch("tile", [samples.line(1, "global_load", 8, 4, 4)], barriers=2)
    long_one = samples.launch("tile", [samples.line(1, "global_load", 32, 4, 4)], barriers=8)
    wide = short_one | {"grid": [4, 2, 1]}
    report = samples.report(short_one, long_one, short_one, wide)
    for data in (report, report | {"launches": [one.as_mapping() for one in read_report(report).kernels()]}):
        panel = panel_of(data, pictures=False)
        assert [one.launched.partition("memory")[2] for one in panel.kernels] == [
            ", launched 2 times; the problem of 1,024 bytes read", "; the problem of 4,096 bytes read", "",
        ]  # fmt: skip
        assert [dict(one.facts)["barriers"] for one in panel.kernels] == ["4", "8", "2"]
    many = [samples.launch("k", [samples.line(1, "global_load", n, 4, 4)]) for n in range(1, 9)]
    assert len(panel_of(samples.report(*many), pictures=False).kernels) == 1  # the data decide


def test_what_was_left_out_of_a_report_is_told():
    data = CONFLICTS | {"more_kernels": 3, "more_diagnostics": 9, "dropped": 40}
    out = io.StringIO()
    print_panel(panel_of(data, pictures=False), Console(file=out, width=90))
    page = page_of(data)
    for text in (out.getvalue(), page):
        assert "3 more kernels" in text
        assert "9 more diagnostics" in text
        assert "wrong in other places, 40 times" in text


def page_of(report: dict[str, Any], failed: str = "") -> str:
    version = kernel_page.Version("tiled", panel_of(report), failed)
    operation = kernel_page.Operation("2.3 transpose", "64 × 64 floats", [version])
    return kernel_page.render_page(kernel_page.Page("Kernels", "make kernels", [operation]))


def test_the_page_is_self_contained_and_escapes_what_students_wrote():
    page = page_of(CONFLICTS, failed=EVIL)
    assert "\x1b" not in page
    assert "out[i] = tile[threadIdx.x][y]; // &lt;b&gt;" in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "race in transpose_tiled, transpose.cu:38 and line 31" in page
    assert page.count("data:image/svg+xml;base64,") == 2 * 4
    hostile = samples.race() | {"message": EVIL, "kernel": EVIL, "file": EVIL}
    line = samples.line(1, "global_load", 1, 1, 1) | {"file": EVIL}
    launch = samples.launch(EVIL, [line])
    launch["lines"].append(line | {"access": EVIL})
    page = page_of(samples.report(launch, diagnostics=(hostile,)) | {"output": EVIL})
    assert "<script" not in page
    assert "\x1b" not in page


def test_a_report_shows_the_panel_of_a_kernels_figure_and_survives_bad_data():
    picture = _picture(Figure(kind="kernels", title="t", data=CONFLICTS), {"panels": 9})
    assert picture is not None
    assert picture.panel is not None
    for data in ({}, {"launches": 1}, CONFLICTS | {"launches": [{"counts": 5}]}):
        picture = _picture(Figure(kind="kernels", title="t", data=data), {"panels": 9})
        assert picture is not None
        assert picture.drawing is None
        assert picture.panel is None or not picture.panel.kernels
    odd = CONFLICTS | {"sources": [1], "flops": {"transpose_tiled": "x"}}
    assert panel_of(odd).roofline is None


def test_the_terminal_groups_accesses_by_line_and_tells_the_race():
    file = io.StringIO()
    print_panel(panel_of(CONFLICTS, pictures=False), Console(file=file, width=80, markup=False))
    lines = file.getvalue().splitlines()
    at = lines.index("  transpose.cu:38  out[i] = tile[threadIdx.x][y]; // <b>")
    assert lines[at + 1].split() == ["global", "store", "128", "4", "4", "sectors"]
    assert lines[at + 2].split() == ["shared", "load", "128", "32", "1", "pass", "32"]
    assert "error: race in transpose_tiled, transpose.cu:38 and line 31" in lines
    assert not any("no race" in line for line in lines)


def test_a_clean_run_says_so():
    file = io.StringIO()
    print_panel(panel_of(samples.report(samples.tiled()), pictures=False), Console(file=file, width=80))
    assert "no race, no access out of bounds" in file.getvalue()


def test_no_picture_is_taller_than_a_screen():
    """32 lanes in one bank, and 512 bytes a lane apart, are the tallest that there are."""
    for kind in ("access", "banks"):
        root = ElementTree.fromstring(drawn(kind, **GOOD[kind]).light)
        assert float(root.get("height", "0")) <= 400
    assert kernel_pictures._MAX_ROWS == 8


def test_a_wrong_version_is_marked_in_the_ladder():
    """Its counts are those of another kernel: no row to compare with."""
    report = samples.report(samples.tiled(), diagnostics=[samples.race()])
    raced = version_of("tiled", read_report(report))
    assert (raced["wrong"], VERSIONS[1]["wrong"]) == ("race", "")
    drawing = drawn("kernel_ladder", versions=[VERSIONS[0], raced], gpu="A100")
    assert texts_of(drawing.light).count("wrong: race") == 1
    assert "but wrong: race" in drawing.alt
