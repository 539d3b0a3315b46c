"""The comparison with Nsight Compute, on a report written by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location(
    "compare_nsight", Path(__file__).with_name("compare_nsight.py")
)
assert _spec is not None and _spec.loader is not None
nsight: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(nsight)

HEAD = '"ID","Process ID","Kernel Name","Context","Stream","Metric Name","Metric Unit","Metric Value"'


def report(*launches: tuple[str, dict[str, float]]) -> str:
    lines = ["==PROF== Connected to process 7 (python)", '==PROF== Profiling "k": 0%....100%', HEAD]
    for number, (kernel, counts) in enumerate(launches):
        for name, metric in nsight.METRICS.items():
            value = f"{counts.get(name, 0):,}"
            lines.append(f'"{number}","7","{kernel}","1","7","{metric}","sector","{value}"')
    return "\n".join([*lines, "==PROF== Disconnected from process 7", ""])


def test_a_report_is_read_by_launch():
    text = report(
        ("void space::tiled<16>(const float *, float *, int)", {"global_load_sectors": 32_768}),
        ("copy_rows(const float *, float *, int)", {"global_load_sectors": 128}),
    )
    (first, counts), (second, _) = nsight.read_csv(text)
    assert (first, second) == ("tiled", "copy_rows")
    assert counts == dict.fromkeys(nsight.METRICS, 0) | {"global_load_sectors": 32_768}
    with pytest.raises(ValueError, match="no table"):
        nsight.read_csv("==ERROR== ERR_NVGPUCTRPERM")


@pytest.fixture(scope="module")
def own():
    return list(nsight.run_cases("emulator"))


def test_equal_counts_pass_and_others_are_told(own, tmp_path, monkeypatch, capsys):
    assert len(own) == len(nsight.CASES)
    monkeypatch.setattr(nsight, "run_cases", lambda backend: iter(own))
    same = [launch for _, launch in own]
    path = tmp_path / "report.csv"
    path.write_text(report(("fill(int)", {}), *((f"{name}(int)", counts) for name, counts in same)))
    assert nsight.main([str(path)]) == 0
    assert "differs" not in capsys.readouterr().out
    name, counts = same[0]
    within = {**counts, "global_load_sectors": 1.01 * counts["global_load_sectors"],
              "shared_load_conflicts": 5}  # fmt: skip
    assert nsight.compare(own, [(name, within), *same[1:]])[1] == 0
    beyond = {**counts, "global_load_sectors": 1.03 * counts["global_load_sectors"]}
    lines, differ = nsight.compare(own, [(name, beyond), *same[1:]])
    assert differ == 1
    assert [line for line in lines if "differs" in line][0].startswith("row copy")
    assert nsight.compare(own, [(name, {}), *same[1:]])[1] == 2  # loads and stores are missing
    path.write_text(report(*((f"{name}(int)", one) for name, one in [(name, beyond), *same[1:]])))
    assert nsight.main([str(path)]) == 1


def test_the_exempt_are_cases():
    assert {case.name for case in nsight.CASES} >= nsight.NOT_JUDGED


def test_another_sequence_of_launches_is_refused(own):
    with pytest.raises(ValueError, match="launches"):
        nsight.compare(own, [launch for _, launch in own][1:])
