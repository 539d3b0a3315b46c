"""Commands for instructors and maintainers: grade, stubs, release, bundle, gradescope, checks."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from autograder.batch.grade import Grading
from autograder.batch.shown import shown_grade
from autograder.cli import HOMEWORK, cli, console, homework_folders
from autograder.course.assignment import Assignment, load_assignment
from autograder.course.stubs import StubDrift, check_stubs, write_stubs
from autograder.sandbox.host import REPOSITORY

FOLDER = click.Path(path_type=Path, file_okay=False)


@cli.command()
@click.argument("homework", type=HOMEWORK)
@click.option("--submission", required=True, type=click.Path(path_type=Path), help="Zip or folder.")
@click.option("--out", required=True, type=FOLDER, help="For results.json and report.html.")
@click.option("--public", is_flag=True, help="Public tests only.")
@click.option("--seed", type=int, help="Replay a grading: its seed is in results.json.")
@click.option("--task", "tasks", multiple=True, help="Only these tasks (may be repeated).")
@click.option("--transport", type=click.Choice(["sandbox", "inprocess"]), default="sandbox",
              help="inprocess: no sandbox, for staff's own code only.")  # fmt: skip
@click.option("--confine", type=click.Choice(["full", "self"]), help="Default: full as root.")
@click.option("--layers", default="landlock,seccomp", show_default=True)
def grade(
    homework: Assignment, submission: Path, out: Path, public: bool, seed: int | None,
    tasks: tuple[str, ...], transport: str, confine: str | None, layers: str,
) -> None:  # fmt: skip
    """Grade a zip or folder with public and hidden tests, confined."""
    how = Grading(hidden=not public, seed=seed, tasks=tasks, transport=transport,
                  confine=confine, layers=layers)  # fmt: skip
    graded = shown_grade(homework, submission, out, how)
    console.print(f"results: {out / 'results.json'}", highlight=False, soft_wrap=True)
    if graded.report:
        console.print(f"report:  {out / 'report.html'}", highlight=False, soft_wrap=True)
    if graded.report and any(t.state == "grader fault" for t in graded.report.tests()):
        console.print(f"faults:  {out / 'grader.log'}", highlight=False, soft_wrap=True)
    sys.exit(0 if graded.report and graded.report.full else 1)


@cli.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a stub is out of step.")
def stubs(check: bool) -> None:
    """Write every homework's stubs from its marked reference."""
    for folder in homework_folders():
        assignment = load_assignment(folder)
        if check:
            try:
                check_stubs(assignment)
            except StubDrift as error:
                raise click.ClickException(str(error)) from None
            console.print(f"{assignment.name}: stubs in step")
        else:
            for path in write_stubs(assignment):
                console.print(f"wrote {path.relative_to(REPOSITORY)}", highlight=False)


@cli.command()
@click.option("--out", required=True, type=FOLDER, help="A new or empty folder, or a release.")
def release(out: Path) -> None:
    """Write the student repository, and prove that it gives nothing hidden away."""
    from autograder.course.release import ReleaseError, make_release

    try:
        report = make_release(REPOSITORY, out)
    except ReleaseError as error:
        raise click.ClickException(str(error)) from None
    console.print(
        f"released {', '.join(report.homeworks)}: {len(report.files)} files in {report.out}\n"
        f"proved: none of {report.secret_windows} runs of hidden lines and {report.secret_lines} "
        "hidden lines is in them",
        highlight=False,
    )


@cli.command()
@click.argument("homework", type=HOMEWORK)
@click.option("--out", type=click.Path(path_type=Path), help="Default: build/HOMEWORK.zip")
@click.option("--check/--no-check", default=True, help="Rehearse Gradescope's run with it.")
@click.option("--full-setup", is_flag=True, help="Rehearse setup.sh too: installs all packages.")
def bundle(homework: Assignment, out: Path | None, check: bool, full_setup: bool) -> None:
    """Write HOMEWORK's Gradescope autograder zip and run it as Gradescope would."""
    from autograder.batch.gradescope import RehearsalError, rehearse_all
    from autograder.course.bundle import BundleError, make_bundle

    target = out or REPOSITORY / "build" / f"{homework.name}_gradescope.zip"
    try:
        make_bundle(homework, REPOSITORY, target)
        console.print(f"wrote {target} ({target.stat().st_size / 1024:.0f} kB)", highlight=False)
        if check:
            for line in rehearse_all(homework, target, full_setup=full_setup):
                console.print(f"  {line}", highlight=False)
    except (BundleError, RehearsalError) as error:
        raise click.ClickException(str(error)) from None


@cli.command()
@click.argument("homework", type=HOMEWORK)
def gradescope(homework: Assignment) -> None:
    """What run_autograder calls in Gradescope's container; always leaves a results.json."""
    import os

    from autograder.batch.gradescope import grade_in_container

    graded = grade_in_container(
        homework, Path(os.environ.get("AUTOGRADER_ROOT", "/autograder")), Grading()
    )
    if graded is None or graded.refused:
        console.print(graded.refused if graded else "the grader failed", highlight=False)
    elif graded.report:
        console.print(graded.report.headline(), highlight=False)


@cli.command()
@click.option("--full", is_flag=True, help="The exhaustive form, `make verify`.")
def check(full: bool) -> None:
    """Check the project itself: harness tests, attacks, and what every homework promises."""
    from autograder.batch import check as checks

    found = [load_assignment(folder) for folder in homework_folders()]
    homeworks = [homework for homework in found if not homework.draft]
    for homework in found:
        if homework.draft:
            console.print(f"{homework.name} is a draft: it is not checked", highlight=False)
    staff = all((homework.root / "solution").is_dir() for homework in homeworks)
    lanes = checks.staff_checks(homeworks, full) if staff else checks.released_checks(homeworks)
    started = time.monotonic()

    def show(result: checks.Result) -> None:
        mark = "[green]ok  [/]" if result.passed else "[bold red]FAIL[/]"
        console.print(f"{mark} {result.name} ({result.seconds:.0f} s)", highlight=False)
        console.print(f"       {result.detail}", highlight=False, markup=False, style="dim")

    results = checks.run_checks(lanes, show)
    failed = sum(not result.passed for result in results)
    console.print(f"all checks took {time.monotonic() - started:.0f} s", highlight=False)
    print(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


@cli.command()
@click.option("--only", default="", help="Only benchmarks whose name contains this.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the rows there.")
def bench(only: str, target: Path | None) -> None:
    """Measure ratios against peers in one run, print them, and write them as JSON."""
    import json
    import tempfile

    from autograder.batch.bench import run_benchmarks
    from autograder.reporting.bench_table import print_rows

    with tempfile.TemporaryDirectory(prefix="llm-systems-bench-") as folder:
        Path(folder).chmod(0o711)
        rows = run_benchmarks(only, Path(folder), lambda row: console.print(f"  … {row.name}"))
    print_rows(rows)
    if target:
        target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


@cli.command()
def demo() -> None:
    """The whole way on homework 1: release, fill in, submit, grade confined, report."""
    from autograder.batch.demo import run_demo

    sys.exit(run_demo("hw1_autodiff", REPOSITORY / "results" / "demo"))
