"""How long a worker's start and end take, with and without the layers of confinement.

    python tests/sandbox/measure_worker_start.py [--torch] [--repeat 100]

Median milliseconds of fork + apply + exit + wait in a process that has numpy (or torch) imported,
the forms taken in turn so that a busy machine slows all of them alike. Not a test.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

from autograder.sandbox import confinement
from autograder.sandbox.confinement import Confinement
from autograder.sandbox.probe import ProbeLimits

UID = 31995


def once(body: Callable[[], object]) -> float:
    """Milliseconds from before the fork until the child is reaped."""
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--repeat", type=int, default=100)
    options = parser.parse_args()
    __import__("torch" if options.torch else "numpy")
    work = tempfile.mkdtemp()
    if os.geteuid() == 0:
        os.chown(work, UID, UID)
    limits = ProbeLimits(memory_mb=16384)
    environment = confinement.clean_environment(work)
    os.environ.clear()
    os.environ.update(environment)  # as a zygote has it

    def form(**layers: bool) -> Callable[[], object]:
        prepared = confinement.prepare(Confinement(limits, **layers))
        uid = UID if prepared.drops_uid else None
        return lambda: confinement.apply(
            prepared, work=work, uid=uid, keep_fds=[], environment=environment
        )

    forms: dict[str, Callable[[], object]] = {
        "bare fork": lambda: None,
        "+ uid, rlimits, session": form(landlock=False, seccomp=False),
        "+ seccomp": form(landlock=False),
        "+ Landlock": form(),
    }
    gc.collect()
    gc.freeze()
    times: dict[str, list[float]] = {name: [] for name in forms}
    kills = []
    for _ in range(options.repeat):
        for name, body in forms.items():
            times[name].append(once(body))
        start = time.perf_counter()
        confinement.kill_everything(UID, ancestor=os.getpid())
        kills.append((time.perf_counter() - start) * 1e3)
    for name, values in times.items():
        print(f"{name:26} {statistics.median(values):6.2f} ms")
    print(f"{'kill_everything (nobody)':26} {statistics.median(kills):6.2f} ms")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
