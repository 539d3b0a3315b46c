"""One made-up homework, graded once over both transports: what each kind of test leaves behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import testing_samples as samples

TASKS = [
    ("9.1", 10, []), ("9.2", 10, []), ("9.3", 10, ["9.2"]), ("9.4", 10, []), ("9.5", 10, ["9.4"]),
    ("9.6", 10, []), ("9.7", 10, []), ("9.8", 10, []), ("9.9", 10, []), ("9.10", 5, []),
    ("9.11", 5, ["9.3"]),
]  # fmt: skip

OPS = """\
def double(x):
    print("doubling", x)
    return 2 * x

def half(x):
    raise ValueError("my own fault")
"""

DRIVERS = """\
def double(x):
    from tiny.ops import double
    return double(x)

def half(x):
    from tiny.ops import half
    return half(x)
"""

TESTS = {
    "test_9_1_right.py": '''
        @number("9.1")
        @weight(4)
        def test_single(student):
            """One case."""
            note("order", "9.1")
            assert_equal(student.run(drivers.double, x=2), 4)

        @number("9.1")
        @weight(3)
        @pytest.mark.parametrize("n", [1, 2, 3])
        def test_cases(student, n):
            assert_equal(student.run(drivers.double, x=n), 2 * n)
    ''',
    "test_9_2_less_than_half.py": '''
        @number("9.2")
        @weight(4)
        def test_right(student):
            note("order", "9.2")

        @number("9.2")
        @weight(6)
        @pytest.mark.parametrize("n", [1, 2, 3])
        def test_one_case_wrong(student, n):
            note("case", n)
            assert_equal(student.run(drivers.double, x=n), 4 if n == 2 else 2 * n + (n == 1))
    ''',
    "test_9_3_needs_9_2.py": '''
        @number("9.3")
        @weight(10)
        def test_never(student):
            note("order", "9.3")
    ''',
    "test_9_4_half.py": '''
        @number("9.4")
        @weight(5)
        def test_half(student):
            note("order", "9.4")

        @number("9.4")
        @weight(5)
        def test_raises(student):
            student.run(drivers.half, x=1)
    ''',
    "test_9_5_partial.py": '''
        @number("9.5")
        @partial_credit(6)
        def test_sets_a_quarter(student, set_score):
            note("order", "9.5")
            set_score(1.5)

        @number("9.5")
        @partial_credit(4)
        def test_sets_and_fails(student, set_score):
            set_score(3)
            raise AssertionError("not full marks")
    ''',
    "test_9_6_speed.py": '''
        @speed
        @number("9.6")
        @partial_credit(4)
        def test_fast(student, set_score):
            note("order", "9.6 speed")
            score_ratio(student, set_score, 4, 1.0, full=1.3, zero=0.9, name="mm", peer="naive")

        @number("9.6")
        @weight(6)
        def test_correct(student):
            note("order", "9.6")
    ''',
    "test_9_7_slow.py": '''
        @speed
        @number("9.7")
        @partial_credit(4)
        def test_fast(student, set_score):
            note("order", "9.7 speed")
            set_score(4)

        @number("9.7")
        @weight(6)
        def test_correct(student):
            assert False, "not right"
    ''',
    "test_9_8_faults.py": '''
        from autograder.sandbox.host import GraderFault

        @pytest.fixture
        def breaks_in_teardown(student):
            yield student
            raise RuntimeError("a fixture of the staff's")

        @pytest.fixture
        def breaks_in_setup(student):
            raise KeyError("a fixture of the staff's")

        @number("9.8")
        @weight(1)
        def test_type_error_before_an_answer(student):
            None + 1

        @number("9.8")
        @weight(1)
        def test_type_error_after_an_answer(student):
            None + student.run(drivers.double, x=1)

        @number("9.8")
        @weight(1)
        def test_teardown(breaks_in_teardown):
            breaks_in_teardown.run(drivers.double, x=1)

        @number("9.8")
        @weight(1)
        def test_setup(breaks_in_setup):
            pass

        @number("9.8")
        @partial_credit(1)
        def test_fault_after_a_score(student, set_score):
            student.run(drivers.double, x=1)
            set_score(1)
            raise GraderFault("the zygote is gone")

        @number("9.8")
        @partial_credit(1)
        @pytest.mark.parametrize("n", [0, 1])
        def test_second_case_sets_no_score(student, set_score, n):
            assert n == 0, "this case sets none"
            set_score(1)

        @number("9.8")
        @partial_credit(1)
        @pytest.mark.parametrize("n", [0, 1])
        def test_the_smallest_score_counts(student, set_score, n):
            set_score(1 - n / 2)

        @number("9.8")
        @partial_credit(1)
        def test_too_large_a_score(student, set_score):
            set_score(99)

        @number("9.8")
        @partial_credit(1)
        def test_nan_for_a_score(student, set_score):
            set_score(float("nan"))

        @number("9.8")
        @partial_credit(1)
        def test_negative_score(student, set_score):
            set_score(-1)
    ''',
    "test_9_9_attachments.py": '''
        @number("9.9")
        @weight(4)
        @leaderboard("time", "asc")
        @visibility("after_due_date")
        def test_everything(student, rng, figure, set_leaderboard_value):
            note("order", "9.9")
            note("rng", rng.random())
            student.run(drivers.double, x=1)
            figure(kind="curve", title="Loss", data={"y": [1, 2]})
            student.measure(Measure(name="bytes", value=8.0, unit="B"))
            set_leaderboard_value(1.25)

        @number("9.9")
        @weight(6)
        def test_other(student, rng):
            note("rng other", rng.random())
    ''',
    "test_9_10_last.py": '''
        @number("9.10")
        @weight(5)
        def test_after_nine(student):
            note("order", "9.10")
    ''',
    "test_9_11_indirect.py": '''
        @number("9.11")
        @weight(5)
        def test_needs_both(student):
            note("order", "9.11")
    ''',
}  # fmt: skip

HIDDEN = {
    "test_9_1_hidden.py": """
        @number("9.1")
        @weight(3)
        def test_hidden(student):
            assert_equal(student.run(drivers.double, x=3), 6)
    """
}


class Graded:
    """Records by function name (unique here but for test_fast and test_correct), and notes."""

    def __init__(self, transport, outcome, notes) -> None:
        self.transport, self.outcome = transport, outcome
        self.notes = [json.loads(line) for line in notes.read_text().splitlines()]
        self.records = outcome.records

    def record(self, name: str):
        (found,) = [r for test, r in self.records.items() if test.endswith(name)]
        return found

    def noted(self, key: str) -> list:
        return [value for name, value in self.notes if name == key]


@pytest.fixture(scope="module", params=["sandbox", "inprocess"])
def graded(request):
    folder = samples.open_folder()
    homework = samples.make_homework(folder, TASKS, TESTS, hidden=HIDDEN, ops=OPS, drivers=DRIVERS)
    job = samples.make_job(homework, folder, transport=request.param)
    outcome = samples.run_job(job)
    yield Graded(request.param, outcome, homework.root / "tests" / "notes.jsonl")
    samples.remove(folder)


def test_there_is_one_record_for_each_function_of_both_folders(graded):
    assert graded.outcome.status == 1, graded.outcome.log
    functions = sum(text.count("def test_") for text in [*TESTS.values(), *HIDDEN.values()])
    assert len(graded.records) == functions
    assert "hidden/test_9_1_hidden.py::test_hidden" in graded.records
    record = graded.record("test_single")
    assert (record.number, record.status, record.fraction) == ("9.1", "passed", 1.0)
    assert (record.fault, record.message) == ("none", "")


def test_tasks_run_in_the_assignments_order_and_speed_tests_last_in_theirs(graded):
    assert graded.noted("order") == [
        "9.1", "9.2", "9.4", "9.5", "9.6", "9.6 speed", "9.9", "9.10",
    ]  # fmt: skip


def test_a_parametrized_test_earns_all_or_nothing_and_runs_every_case(graded):
    assert graded.record("test_cases").fraction == 1.0
    record = graded.record("test_one_case_wrong")
    assert graded.noted("case") == [1, 2, 3]
    assert (record.status, record.fraction, record.fault) == ("failed", 0.0, "student")
    assert "result is 2, expected 3" in record.message


def test_below_half_of_a_required_task_skips_direct_and_indirect_dependants(graded):
    record = graded.record("test_never")
    assert (record.status, record.fraction) == ("skipped", 0.0)
    assert record.message == "skipped: needs 9.2"
    assert graded.record("test_needs_both").message == "skipped: needs 9.2, 9.3"


def test_half_of_a_required_task_is_enough(graded):
    assert graded.record("test_sets_a_quarter").status == "passed"


def test_partial_credit_is_kept_with_and_without_a_failure(graded):
    passed, failed = graded.record("test_sets_a_quarter"), graded.record("test_sets_and_fails")
    assert (passed.status, passed.fraction) == ("passed", 0.25)
    assert (failed.status, failed.fraction, failed.message) == ("failed", 0.75, "not full marks")


def test_a_score_outside_its_range_is_brought_into_it(graded):
    assert graded.record("test_too_large_a_score").fraction == 1.0
    assert graded.record("test_nan_for_a_score").fraction == 0.0
    assert graded.record("test_negative_score").fraction == 0.0


def test_of_several_cases_the_smallest_score_counts_and_none_is_inherited(graded):
    assert graded.record("test_the_smallest_score_counts").fraction == 0.5
    assert graded.record("test_second_case_sets_no_score").fraction == 0.0


def test_speed_is_measured_where_the_task_is_right(graded):
    record = graded.record("test_9_6_speed.py::test_fast")
    assert (record.status, record.fault) == ("failed", "student")
    assert record.fraction == pytest.approx(0.25)
    assert "1.00× the speed of naive; full marks at 1.3×" in record.message
    (measure,) = record.measures
    assert (measure.name, measure.value, measure.full, measure.zero) == ("mm", 1.0, 1.3, 0.9)


def test_speed_is_skipped_where_the_task_is_not_right(graded):
    record = graded.record("test_9_7_slow.py::test_fast")
    assert (record.status, record.fraction) == ("skipped", 0.0)
    assert record.message == "skipped: speed counts once the other tests of 9.7 pass"


def test_the_students_exception_comes_with_its_frames(graded):
    record = graded.record("test_raises")
    assert (record.exception, record.fault) == ("ValueError", "student")
    assert record.message == "ValueError: my own fault"
    assert [(f.file, f.function) for f in record.frames] == [("tiny/ops.py", "half")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test_type_error_before_an_answer", "TypeError"),
        ("test_teardown", "RuntimeError: a fixture of the staff's"),
        ("test_setup", "KeyError"),
        ("test_fault_after_a_score", "GraderFault: the zygote is gone"),
    ],
)
def test_a_fault_of_the_grader_is_told_apart_and_scores_nothing(graded, name, words):
    record = graded.record(name)
    assert (record.status, record.fault, record.fraction) == ("failed", "grader", 0.0)
    assert "a fault of the grader, not of your code" in record.message
    assert words in record.message


def test_an_answer_that_can_not_be_used_is_the_students(graded):
    record = graded.record("test_type_error_after_an_answer")
    assert (record.status, record.fault) == ("failed", "student")
    assert "could not use what your code returned (TypeError" in record.message


def test_pictures_measures_and_leaderboard_are_kept(graded):
    record = graded.record("test_everything")
    assert [(f.kind, f.title, f.data) for f in record.figures] == [("curve", "Loss", {"y": [1, 2]})]
    assert [(m.name, m.value, m.unit) for m in record.measures] == [("bytes", 8.0, "B")]
    assert record.leaderboard == {"name": "time", "value": 1.25, "order": "asc"}
    assert graded.record("test_other").leaderboard is None
    assert graded.record("test_other").figures == []


def test_what_the_students_code_printed_is_kept_by_test(graded):
    printed = "doubling 2\n" if graded.transport == "sandbox" else ""  # pytest shows it otherwise
    assert graded.record("test_single").output == printed
    assert graded.record("test_other").output == ""


def test_random_numbers_differ_from_test_to_test(graded):
    assert len(set(graded.noted("rng") + graded.noted("rng other"))) == 2
