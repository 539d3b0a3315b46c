"""What `doctor` concludes from what it finds, and that its table fits a terminal."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from autograder.sandbox import doctor, machine, probe
from autograder.sandbox.doctor import Finding

GIB = 1 << 30


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    return doctor.examine(Path(__file__).resolve().parents[2])


def by_name(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def holding() -> dict:
    """A probe's answers where everything holds."""
    layers = dict.fromkeys(
        ("uid", "landlock", "seccomp", "no_new_privs", "rlimits", "session", "parent_death"), "ok"
    )
    effects = ("file_outside", "file_inside", "network", "fork", "threads", "memory", "signals")
    confined = {"layers": layers, **dict.fromkeys(effects, True)}
    return {"root": True, "landlock_abi": 5, "confined": confined, "peak_reset": True,
            "cpu_clock": True, "interpreter": True}  # fmt: skip


def test_a_finding_that_is_not_ok_says_what_it_costs_and_what_to_do(found):
    assert len(found) >= 15
    assert len({finding.name for finding in found}) == len(found)
    for finding in found:
        assert finding.detail, finding
        if finding.status != "ok":
            assert finding.cost and finding.remedy, finding
        else:
            assert not finding.cost and not finding.remedy, finding


@pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux'")
def test_what_holds_here_is_reported_as_holding(found):
    answers = probe.everything()
    assert isinstance(answers["confined"], dict), answers
    for layer, name in (("landlock", "Landlock"), ("uid", "Own user id")):
        holds = answers["confined"]["layers"][layer] == "ok"
        assert (by_name(found, name).status == "ok") is holds
    assert (by_name(found, "Worker's CPU clock").status == "ok") is (answers["cpu_clock"] is True)
    numpy = f"numpy {importlib.metadata.version('numpy')}"
    assert numpy in by_name(found, "Packages").detail


def test_all_layers_that_hold_are_ok():
    findings = doctor.confinement_findings(holding(), "linux")
    assert {finding.status for finding in findings} == {"ok"}
    assert "ABI 5" in by_name(findings, "Landlock").detail


@pytest.mark.parametrize(
    "layer, name",
    [("uid", "Own user id"), ("landlock", "Landlock"), ("seccomp", "System-call filter"),
     ("no_new_privs", "System-call filter"), ("rlimits", "Resource limits")],
)  # fmt: skip
def test_a_missing_layer_is_an_error_for_a_root_grader_and_a_note_for_a_student(layer, name):
    answers = holding()
    answers["confined"]["layers"][layer] = "failed: Function not implemented"
    finding = by_name(doctor.confinement_findings(answers, "linux"), name)
    assert finding.status == "missing" and "not implemented" in finding.detail
    answers["root"] = False
    assert by_name(doctor.confinement_findings(answers, "linux"), name).status == "warn"
    answers["root"] = True
    assert by_name(doctor.confinement_findings(answers, "darwin"), name).status == "warn"


@pytest.mark.parametrize(
    "effect, name",
    [("file_outside", "Landlock"), ("network", "System-call filter"),
     ("fork", "System-call filter"), ("signals", "System-call filter"),
     ("memory", "Resource limits"), ("threads", "Confined work"), ("file_inside", "Confined work")],
)  # fmt: skip
def test_a_layer_that_is_in_place_but_holds_nothing_back_is_not_ok(effect, name):
    answers = holding()
    answers["confined"][effect] = False
    assert by_name(doctor.confinement_findings(answers, "linux"), name).status == "missing"


@pytest.mark.parametrize("answers", [{"failed": "no answer"}, {"confined": "the child died"}])
def test_a_probe_that_failed_is_never_taken_for_a_pass(answers):
    findings = doctor.confinement_findings(answers, "linux")
    assert [finding.status for finding in findings] == ["missing"]
    assert next(iter(answers.values())) in findings[0].detail


def test_a_closed_home_is_named_when_workers_cannot_run_the_interpreter(tmp_path):
    closed = tmp_path / "home"
    (closed / "bin").mkdir(parents=True)
    python = closed / "bin/python"
    python.write_text("")
    python.chmod(0o755)
    closed.chmod(0o700)
    answers = {"root": True, "interpreter": "exit status 126"}
    (finding,) = doctor.interpreter(answers, str(python))
    assert finding.status == "warn" and "/usr/bin/python3 -m venv" in finding.remedy
    # The test folder's own parents may be closed as well.
    assert any(str(parent) in finding.detail for parent in (closed, *closed.parents[:-1]))
    assert doctor.interpreter({"root": False}, str(python)) == []
    assert doctor.interpreter({"root": True, "interpreter": True}, "python")[0].status == "ok"


@pytest.mark.parametrize(
    "version, status",
    [((3, 10, 9), "missing"), ((3, 11, 0), "ok"), ((3, 13, 2), "ok"), ((3, 14, 0), "warn")],
)
def test_python_versions(version, status):
    assert doctor.python_version(version).status == status


def test_a_package_that_is_absent_or_of_another_version_is_named():
    installed = importlib.metadata.version("numpy")
    findings = doctor.packages(
        [Requirement(text) for text in (f"numpy=={installed}", "numpy<0.1", "no-such-package>=1",
                                        "no-such-package; python_version < '3'")]
    )  # fmt: skip
    assert [finding.status for finding in findings] == ["ok", "warn", "missing"]
    assert "<0.1 is asked for" in findings[1].detail and findings[2].name == "no-such-package"


def test_processors_memory_and_accelerators():
    assert doctor.processors(8, None).status == doctor.processors(8, 2.0).status == "ok"
    small = doctor.processors(8, 0.5)
    assert small.status == "warn" and "0.5" in small.detail
    assert doctor.processors(1, None).status == "warn"
    assert doctor.memory(16 * GIB, None).status == "ok"
    assert doctor.memory(16 * GIB, 768 << 20).status == "missing"
    assert "container" in doctor.memory(16 * GIB, 2 * GIB).detail
    assert doctor.graphics(["Some GPU, 16 GiB"], True).status == "ok"
    assert "driver" in doctor.graphics([], True).detail
    assert doctor.graphics([], False).status == "warn"


def fake_root(tmp_path: Path, mounts: str, groups: str, files: dict[str, str]) -> Path:
    files = {"proc/mounts": mounts, "proc/self/cgroup": groups, **files}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_quotas_of_control_groups_v2_come_from_the_group_and_its_parents(tmp_path):
    base = "sys/fs/cgroup"
    root = fake_root(
        tmp_path,
        "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n",
        "0::/outer/inner\n",
        {
            f"{base}/outer/inner/cpu.max": "max 100000\n",
            f"{base}/outer/cpu.max": "150000 100000\n",
            f"{base}/outer/inner/memory.max": "3221225472\n",
            f"{base}/outer/memory.max": "max\n",
        },
    )
    assert machine.cpu_quota(root) == 1.5
    assert machine.memory_limit(root) == 3 * GIB


def test_quotas_of_control_groups_v1_where_the_groups_name_is_the_hosts(tmp_path):
    root = fake_root(
        tmp_path,
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
        "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n",
        "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
        {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "805306368\n",
        },
    )
    assert machine.cpu_quota(root) == 0.5
    assert machine.memory_limit(root) == 768 << 20


def test_no_bound_is_told_from_a_large_one(tmp_path):
    root = fake_root(
        tmp_path,
        "cgroup /m cgroup rw,memory 0 0\ncgroup /c cgroup rw,cpu 0 0\n",
        "3:memory:/\n2:cpu:/\n",
        {"m/memory.limit_in_bytes": "9223372036854771712\n", "c/cpu.cfs_quota_us": "-1\n"},
    )
    assert machine.memory_limit(root) is None and machine.cpu_quota(root) is None
    assert machine.cpu_quota(tmp_path / "nothing") is None


def test_the_table_fits_80_columns_and_keeps_every_word(found):
    bad = Finding("Something", "missing", "x" * 200, "cost " * 30, "remedy " * 30)
    console = Console(width=80, record=True, file=open(os.devnull, "w", encoding="utf-8"))
    console.print(doctor.render([*found, bad]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(lines)
    assert text.count("x" * 40) and "MISSING" in text and "…" not in text
    missing = sum(finding.status == "missing" for finding in found) + 1
    assert f"{missing} missing" in text


def test_markup_in_a_finding_is_shown_not_obeyed():
    console = Console(width=80, record=True, file=open(os.devnull, "w", encoding="utf-8"))
    console.print(doctor.render([Finding("a", "warn", "[red]x[/red] [/] [bold", "[b]", "[b]")]))
    assert "[red]x[/red] [/] [bold" in console.export_text()


@pytest.mark.skipif(sys.platform != "linux", reason="looks in /proc")
def test_the_probe_of_peak_memory_agrees_with_a_reset_of_this_process():
    probe._touch_and_free()
    before = probe._peak_kilobytes(os.getpid())
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("clear_refs can't be written here")
    resets = before - probe._peak_kilobytes(os.getpid()) > 64 << 10
    assert (probe.try_peak_reset() is True) is resets
