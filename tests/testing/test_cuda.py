"""Assertions on a device's report: what passes, what the messages teach, what shapes are refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import kernel_samples as samples

from autograder.kernels import sentences
from autograder.testing import cuda
from autograder.testing.kernel_report import COUNTS, MAX_DIAGNOSTICS, MAX_LAUNCHES, read_report
from autograder.testing.kernel_words import KNOWN_KINDS

NAIVE, TILED = samples.report(samples.naive()), samples.report(samples.tiled())
CONFLICTS = samples.report(samples.tiled(padded=False))
BOTH = samples.report(samples.naive(), samples.tiled(), samples.tiled())


def message(check, *arguments: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check(*arguments, **options)
    return str(caught.value)


@pytest.fixture
def running(tmp_path):
    """A test that is running over an overlay with a transpose.cu of forty lines."""
    (tmp_path / "cuda_kernels").mkdir()
    text = "\n".join(f"line_{number}();" for number in range(1, 41))
    (tmp_path / "cuda_kernels" / "transpose.cu").write_text(text)

    class Student:
        measures: list[Any] = []

        def measure(self, one):
            self.measures.append(one)

    student = Student()
    student.measures = []
    token = cuda.RUNNING.set(cuda.Running(student, tmp_path))
    yield student
    cuda.RUNNING.reset(token)


# --- counts -------------------------------------------------------------------------------------


def test_totals_add_up_and_keep_the_largest_degree():
    total = cuda.totals(BOTH)
    assert set(COUNTS) <= set(total)
    assert total["global_load_sectors"] == 3 * 512
    assert total["global_store_sectors"] == 4096 + 2 * 512
    assert total["barriers"] == 8
    assert total["shared_atomic_requests"] == 0
    mixed = samples.report(samples.tiled(padded=False), samples.tiled())
    assert cuda.totals(mixed)["worst_bank_degree"] == 32
    assert cuda.totals(BOTH, kernel="transpose_tiled")["global_store_sectors"] == 1024
    assert cuda.totals(samples.report())["barriers"] == 0


@pytest.mark.parametrize(
    ("name", "wanted", "found"),
    [
        ("softmax<float, 4>", "softmax", True), ("ops::softmax<4>", "softmax", True),
        ("ops::softmax", "ops::softmax", True), ("softmax_online", "softmax", False),
    ],
)  # fmt: skip
def test_a_kernel_is_found_without_its_template_arguments(name, wanted, found):
    report = samples.report(samples.launch(name, [], barriers=7))
    if found:
        assert cuda.totals(report, kernel=wanted)["barriers"] == 7
    else:
        assert message(cuda.totals, report, kernel=wanted) == (
            "no kernel named softmax was launched; launched were: softmax_online"
        )


def test_limits_hold_to_the_last_count():
    cuda.at_most(TILED, "global_store_sectors", 512, slack=1)
    cuda.at_most(TILED, "global_store_sectors", 427)  # × 1.2 = 512.4
    message(cuda.at_most, TILED, "global_store_sectors", 426)  # 511.2
    message(cuda.at_most, TILED, "global_store_sectors", 511, slack=1)
    cuda.exactly(TILED, "barriers", 4)
    message(cuda.exactly, TILED, "barriers", 5)
    message(cuda.exactly, TILED, "barriers", 3)
    cuda.at_most(TILED, "worst_bank_degree", 1, slack=1)
    message(cuda.at_most, CONFLICTS, "worst_bank_degree", 1, slack=1)


@pytest.mark.parametrize("check", [cuda.at_most, cuda.exactly])
def test_doing_nothing_earns_no_point(check):
    assert "no kernel was launched" in message(check, samples.report(), "barriers", 0)
    assert "no kernel was launched" in message(cuda.no_access, samples.report(), "global_atomic")


def test_a_count_or_an_access_that_there_is_not_is_the_tests_own_fault():
    for check in (cuda.at_most, cuda.exactly):
        with pytest.raises(ValueError, match="no count"):
            check(TILED, "global_loads", 1)
    with pytest.raises(ValueError, match="no kind of access"):
        cuda.no_access(TILED, "atomics")


@pytest.mark.parametrize(
    ("access", "refused"),
    [
        ("global_atomic", False), ("atomic", False), ("shared_atomic", False), ("shared", True),
        ("global_store", True), ("load", True),
    ],
)  # fmt: skip
def test_no_access_goes_by_kind_space_or_both(access, refused):
    if refused:
        assert "none may be" in message(cuda.no_access, TILED, access, why="registers will do")
    else:
        cuda.no_access(TILED, access)


def test_a_message_tells_what_where_why_and_what_to_try(running):
    why = "each element is written once: 4 sectors a row of 32 floats, 128 rows"
    text = message(cuda.at_most, BOTH, "global_store_sectors", 512, why, kernel="transpose_naive")
    assert text.splitlines() == [
        "transpose_naive: 4,096 sectors of 32 bytes written to global memory; at most 614 may be "
        "(512 × 1.2)",
        f"512 because: {why}",
        "it comes from:",
        "  transpose.cu:12  global store: 128 requests, 4,096 sectors, 32 a request; 4 would do",
        "      12 | line_12();",
        "hint: let neighbouring lanes (threadIdx.x) touch neighbouring addresses: threadIdx.x along "
        "the contiguous dimension, on both sides, and in a loop all threads side by side, not a run "
        "to each; where the two sides disagree (a transpose), go through a tile in shared memory",
    ]
    (measure,) = running.measures
    assert (measure.value, measure.source) == (4096, "emulator")
    assert measure.name == "transpose_naive: sectors of 32 bytes written to global memory"
    assert measure.met is False
    assert measure.note == f"at most 614 (512 × 1.2): {why}"


HINTS = [
    (CONFLICTS, "shared_load_wavefronts", "bank (word index mod 32): pad"),
    (CONFLICTS, "worst_bank_degree", "bank (word index mod 32): pad"),
    (TILED, "shared_store_wavefronts", "keep in registers"),
    (TILED, "global_load_sectors", "there are too many"),
    (TILED, "global_load_requests", "float4 is one request"),
    (TILED, "barriers", "a barrier belongs between"),
    (samples.report(samples.launch("k", [], shuffles=9)), "shuffles", "five shuffles"),
    (samples.report(samples.launch("k", [], partial_requests=9)), "partial_requests", "whole warps"),
    (samples.report(samples.launch("k", [samples.line(3, "global_atomic", 9, 1, 1)])),
     "global_atomic_requests", "one atomic a block"),
]  # fmt: skip


@pytest.mark.parametrize(("report", "count", "hint"), HINTS)
def test_the_hint_fits_the_count_and_its_lines(report, count, hint):
    text = message(cuda.at_most, report, count, 0)
    assert hint in text.splitlines()[-1]
    assert text.count("hint:") == 1


def test_too_few_is_not_called_too_many():
    text = message(cuda.exactly, TILED, "barriers", 8, "two a block")
    assert text.splitlines()[-1].startswith("hint: less than that can't do the whole work")


def test_the_three_costliest_lines_are_named_and_kernels_where_no_line_is():
    lines = [samples.line(n, "global_load", n, 4, 4) for n in (5, 9, 7, 8)]
    text = message(cuda.at_most, samples.report(samples.launch("k", lines)), "global_load_sectors", 1)
    assert [part.split()[0] for part in text.splitlines() if part.startswith("  ")] == [
        "transpose.cu:9", "transpose.cu:8", "transpose.cu:7",
    ]  # fmt: skip
    two = [samples.launch("few", [], barriers=1), samples.launch("many", [], barriers=8)]
    assert "  many: 8\n  few: 1" in message(cuda.at_most, samples.report(*two), "barriers", 1)


# --- diagnostics --------------------------------------------------------------------------------


def test_a_clean_report_and_warnings_pass():
    cuda.check(TILED)
    cuda.check(samples.report(diagnostics=(samples.race() | {"severity": "warning"},)))


def test_a_race_is_told_with_both_lines_the_threads_and_what_to_try(running):
    with pytest.raises(cuda.KernelDiagnosed) as caught:
        cuda.check(samples.report(samples.tiled(), diagnostics=(samples.race(),)))
    assert caught.value.title == "race"
    lines = str(caught.value).splitlines()
    assert lines[0] == "race in transpose_tiled, transpose.cu:38 and line 31"
    assert lines[1].startswith("  thread (0, 1, 0) reads tile[1][0]")
    assert lines[2] == "  first seen in block (0, 0, 0), thread (0, 1, 0); 3,968 times"
    assert lines[3:5] == ["      38 | line_38();", "      31 | line_31();"]
    assert "a barrier between the two lines" in lines[5]
    assert [(f.file, f.line, f.function) for f in caught.value.frames] == [
        ("cuda_kernels/transpose.cu", 31, "transpose_tiled"),
        ("cuda_kernels/transpose.cu", 38, "transpose_tiled"),
    ]


def test_a_race_is_told_before_what_was_read_too_early():
    early = samples.race() | {"kind": "uninitialised"}
    with pytest.raises(cuda.KernelDiagnosed) as caught:
        cuda.check(samples.report(diagnostics=(early, samples.race())))
    assert caught.value.title == "race"
    assert str(caught.value).index("race in") < str(caught.value).index("uninitialised in")


def test_a_bank_conflict_is_told_with_the_lines_that_have_one():
    text = message(cuda.at_most, CONFLICTS, "worst_bank_degree", 1, slack=1)
    assert text.startswith("transpose_tiled: the degree of the worst bank conflict is 32 (passes of")
    assert [part.split()[0] for part in text.splitlines() if part.startswith("  ")] == [
        "transpose.cu:38"
    ]


def test_without_a_running_test_the_message_is_the_same_less_the_source():
    text = message(cuda.check, samples.report(diagnostics=(samples.race(),)))
    assert "transpose.cu:38 and line 31" in text
    assert "line_38" not in text


def test_many_errors_are_cut_and_the_first_is_the_title():
    kinds = [samples.race() | {"kind": "out of bounds", "line": n} for n in range(1, 10)]
    with pytest.raises(cuda.KernelDiagnosed) as caught:
        cuda.check(samples.report(diagnostics=tuple(kinds)))
    assert caught.value.title == "out of bounds"
    assert str(caught.value).startswith("9 errors in your kernels")
    assert str(caught.value).endswith("and 4 more")


@pytest.mark.parametrize(
    ("kind", "title", "tried"),
    [
        ("race", "race", "a barrier between the two lines"),
        ("out of bounds", "out of bounds", "compare the index"),
        ("uninitialised", "uninitialised", "before it is read"),
        ("barrier divergence", "barrier divergence", "guard the work with the if"),
        ("deadlock", "deadlock", "shuffle outside of branches"),
        # A name that the worker made up is no channel out of a hidden test.
        ("42 is the answer", "illegal address", "look at the line"),
    ],
)
def test_the_title_is_a_known_kind_and_the_advice_fits_it(kind, title, tried):
    with pytest.raises(cuda.KernelDiagnosed, match=tried) as caught:
        cuda.check(samples.report(diagnostics=(samples.race() | {"kind": kind},)))
    assert caught.value.title == title in KNOWN_KINDS


def test_every_kind_that_the_emulator_names_has_advice():
    assert set(sentences._SENTENCES) <= KNOWN_KINDS


def test_what_the_head_says_is_not_said_again():
    """The emulator's own sentence carries the place and the kernel, for those who see it alone."""
    sentence = (
        "transpose.cu:38: race: thread (0, 1) of block (0) reads tile at byte 4, which thread (1) "
        "wrote in line 31; a __syncthreads() must stand between them [kernel transpose_tiled]"
    )
    text = message(cuda.check, samples.report(diagnostics=(samples.race() | {"message": sentence},)))
    assert text.splitlines()[:3] == [
        "race in transpose_tiled, transpose.cu:38 and line 31",
        "  thread (0, 1) of block (0) reads tile at byte 4, which thread (1) wrote in line 31; a "
        "__syncthreads() must stand between them",
        "  3,968 times",
    ]


def test_a_file_outside_the_overlay_shows_no_source(running):
    for file in ("/etc/passwd", "../../etc/passwd", "transpose.cu\n", "x" * 5000, ""):
        text = message(cuda.check, samples.report(diagnostics=(samples.race() | {"file": file},)))
        assert "root:" not in text


# --- shapes that no device sends ------------------------------------------------------------------

DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]


def changed(place: str, value: Any) -> dict[str, Any]:
    """A good report with one entry replaced, named by a path such as `launches.0.grid`."""
    report = samples.report(samples.tiled(), diagnostics=(samples.race(),))
    holder: Any = report
    *path, last = place.split(".")
    for key in path:
        holder = holder[int(key) if key.isdigit() else key]
    holder[int(last) if last.isdigit() else last] = value
    return report


MALFORMED = [
    None, 3, "report", [], DEEP,
    changed("launches", None), changed("launches", "x"), changed("launches", {"0": 1}),
    changed("launches", [1]), changed("launches", [{}] * (MAX_LAUNCHES + 1)),
    changed("diagnostics", 7), changed("diagnostics", [None]),
    changed("diagnostics", [{"message": "m"}] * (MAX_DIAGNOSTICS + 1)),
    changed("output", 5),
    changed("launches.0.kernel", 5), changed("launches.0.grid", None),
    changed("launches.0.grid", [1, 1]), changed("launches.0.grid", [0, 1, 1]),
    changed("launches.0.grid", [1, 1, -1]), changed("launches.0.grid", [1.0, 1, 1]),
    changed("launches.0.block", [True, 1, 1]), changed("launches.0.block", [2**70, 1, 1]),
    changed("launches.0.counts", None), changed("launches.0.counts", []),
    changed("launches.0.counts.barriers", -1), changed("launches.0.counts.barriers", "4"),
    changed("launches.0.counts.barriers", float("nan")), changed("launches.0.counts.barriers", None),
    changed("launches.0.counts.barriers", True), changed("launches.0.counts.barriers", DEEP),
    changed("launches.0.lines", 1), changed("launches.0.lines", [{}] * 401),
    changed("launches.0.lines.0", "x"), changed("launches.0.lines.0.requests", -5),
    changed("launches.0.lines.0.sectors", 1.5), changed("launches.0.lines.0.sample", "abc"),
    changed("launches.0.lines.0.sample", list(range(33))),
    changed("launches.0.lines.0.sample", [-1]), changed("launches.0.lines.0.worst_degree", -1),
    changed("launches.0.lines.0.file", None) | {"launches": [{"lines": 1}]},
    changed("diagnostics.0.line", "38"), changed("diagnostics.0.block", 5),
    changed("diagnostics.0.thread", [0, 0, 0, 0]), changed("diagnostics.0.message", None),
    changed("diagnostics.0.kind", ["race"]), changed("diagnostics.0.severity", 0),
]  # fmt: skip


@pytest.mark.parametrize("report", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_report_is_an_assertion_that_says_so(report):
    for check in (cuda.check, cuda.totals):
        assert "the report of the device is malformed" in message(check, report)
    assert "malformed" in message(cuda.at_most, report, "barriers", 10**9)
    assert "malformed" in message(cuda.no_access, report, "global_atomic")


def test_hostile_texts_come_out_short_and_printable():
    evil = "\x1b[31m\u202e<b>\x00\r\n" + "x" * 100_000
    report = read_report(changed("diagnostics.0.message", evil) | {"output": evil})
    (found,) = report.diagnostics
    assert found.message.startswith("[31m<b>\nxxx")
    assert len(found.message) <= 4_000
    assert len(report.output) <= 20_000
    assert not set("\x1b\u202e\x00\r") & set(found.message + report.output)
    (named,) = read_report(changed("launches.0.kernel", evil)).launches
    assert len(named.kernel) <= 200
    assert "\n" not in named.kernel


def test_what_may_be_absent_has_a_default():
    bare = {"launches": [{"kernel": "k", "grid": [2, 1, 1], "block": [32, 1, 1], "counts": {}}]}
    (launch,) = read_report(bare).launches
    assert (launch.blocks, launch.blocks_run, launch.lines) == (2, 2, ())
    assert read_report({"diagnostics": [{"message": "m"}]}).diagnostics[0].is_error


def test_large_limits_have_all_their_digits(running):
    cuda.at_most(BOTH, "global_load_sectors", 1_572_864, kernel="transpose_naive")
    (measure,) = running.measures
    assert measure.note == "at most 1,887,436 (1,572,864 × 1.2)"
    assert measure.met is True


def test_copies_not_waited_for_come_before_the_race_that_they_look_like():
    race = samples.race() | dict(kind="race", message="thread (1) reads")
    copies = samples.race() | dict(kind="uninitialised", message="reads a, which has not arrived: …")
    text = message(cuda.check, samples.report(diagnostics=[race, copies]))
    assert text.index("has not arrived") < text.index("thread (1) reads")


def test_a_warning_passes_and_is_kept_for_the_report(running):
    warning = samples.race() | dict(kind="barrier divergence", severity="warning", message="half wait")
    cuda.check(samples.report(diagnostics=[warning]))
    (text,) = cuda.RUNNING.get().warnings
    assert "half wait" in text
