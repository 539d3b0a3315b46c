"""The load generator: the same traffic every time, numbers that are what they are called."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from tests.hw5_server.servers import (
    ENVIRONMENT,
    HOMEWORK,
    PATIENCE,
    homework,
    main,
    pytestmark,
    servers,
)


def load(name: str):
    """A module of the homework that imports nothing else of it, by its path."""
    spec = importlib.util.spec_from_file_location(
        f"hw5_server_{name}", HOMEWORK / "serving" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


TRAFFIC, REPORT = load("traffic"), load("load_report")


def test_a_seed_is_a_traffic():
    mix = TRAFFIC.Mix(requests=200, rate=5.0, seed=3)
    arrivals = TRAFFIC.make_traffic(mix)
    assert arrivals == TRAFFIC.make_traffic(mix) != TRAFFIC.make_traffic(TRAFFIC.Mix(requests=200))
    times = [a.at for a in arrivals]
    assert times == sorted(times) and times[0] > 0
    assert sum(a.tokens == mix.long for a in arrivals) == 40
    prefixes = {a.prefix: set() for a in arrivals}
    for a in arrivals:
        prefixes[a.prefix].add(a.prompt.split(".")[0])
    assert len(prefixes) == mix.prefixes and all(len(found) == 1 for found in prefixes.values())
    assert len({a.prompt for a in arrivals}) == 200


def test_gaps_are_those_of_a_poisson_process():
    gaps = np.diff([a.at for a in TRAFFIC.make_traffic(TRAFFIC.Mix(requests=20_000, rate=4.0))])
    assert abs(gaps.mean() - 0.25) < 0.01  # one seed, so this never changes; 5.7 deviations
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05


@pytest.mark.parametrize(
    "wrong", [{"requests": 0}, {"rate": 0.0}, {"rate": float("nan")}, {"long_share": 1.5}]
)
def test_a_mix_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError):
        TRAFFIC.make_traffic(TRAFFIC.Mix(**wrong))


def record(at, first, last, tokens, status=200):
    return {"at": at, "first": first, "last": last, "tokens": tokens, "status": status,
            "prompt_tokens": 10, "cached_tokens": 5, "version": "a"}  # fmt: skip


def test_a_summary_by_hand():
    records = [record(1.0, 1.5, 2.5, 11), record(2.0, 4.0, 5.0, 21), record(3.0, None, 3.1, 0, 429)]
    found = REPORT.summary(records)
    assert found["requests"] == 3 and found["failed"] == 1
    assert found["tokens_per_second"] == pytest.approx(32 / 4.0)
    assert found["first_p50_ms"] == pytest.approx((500 + 2000) / 2)
    assert found["token_p50_ms"] == pytest.approx((100 + 50) / 2)
    assert found["prefix_hits"] == pytest.approx(0.5)
    assert "failed" in REPORT.table({"x": records, "all failed": records[2:]})


def test_it_loads_a_server_that_runs(main, homework, tmp_path):
    done = subprocess.run(
        [sys.executable, "load.py", "run", "--url", f"{main.url}/v1", "--out", str(tmp_path),
         "--requests", "12", "--rate", "50", "--long", "32", "--prefix-words", "12"],
        cwd=homework, text=True, capture_output=True, timeout=PATIENCE, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [r["status"] for r in records] == [200] * 12
    assert sorted(r["tokens"] for r in records) == [16] * 10 + [32] * 2
    assert all(r["at"] <= r["first"] <= r["last"] for r in records)
    assert "tokens_per_second" in done.stdout and (tmp_path / "run.svg").stat().st_size > 10_000


def test_it_says_where_nobody_answers(homework, tmp_path):
    done = subprocess.run(
        [sys.executable, "load.py", "run", "--url", "http://127.0.0.1:1/v1", "--out", str(tmp_path)],
        cwd=homework, text=True, capture_output=True, timeout=PATIENCE, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 1 and "start `make serve` first" in done.stderr, done.stderr
