"""The emulator's counts beside those of a GPU, by Nsight Compute: `python compare_nsight.py`.

Needs a GPU, nvcc and `ncu`, and the right to read the GPU's counters. Runs the kernels of
`cuda/counts.cu` on both, prints a table, and ends with status 1 where sectors differ by more than 2%.
Bank conflicts and requests are shown, not judged: the device's conflicts include some that come of
other traffic, and nvcc may merge or split requests. Atomics and cp.async have counters of their own.

A report made before is read with `python compare_nsight.py REPORT.csv`.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent)]

from autograder import kernels  # noqa: E402
from count_cases import CASES, launch  # noqa: E402

# the emulator's count -> the device's
METRICS = {
    "global_load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "global_load_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "global_store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "global_store_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "shared_load_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "shared_store_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
}
MOST = 0.02
# Its loads go past the registers: the emulator counts them as loads, the device elsewhere.
NOT_JUDGED = {"cp.async"}
MINUTES = 20
Counts = dict[str, float]
Launch = tuple[str, Counts]  # a kernel's name and its counts


def run_cases(backend: str) -> Iterator[tuple[str, Launch]]:
    """Run each case, one launch; its name, and on the emulator its kernel and counts."""
    device = kernels.Device(backend, "full")
    module = device.load(HERE.parent / "cuda" / "counts.cu")
    for case in CASES:
        launch(case, module)
        for one in device.report()["launches"]:
            yield case.name, (plain_name(one["kernel"]), emulated(one["counts"]))


def emulated(counts: Mapping[str, float]) -> Counts:
    """The emulator's counts by the names of METRICS; a conflict is a pass more than is needed."""
    found = {name: float(counts[name]) for name in METRICS if "conflicts" not in name}
    for kind in ("load", "store"):
        passes = counts[f"shared_{kind}_wavefronts"] - counts[f"shared_{kind}_wavefronts_min"]
        found[f"shared_{kind}_conflicts"] = float(passes)
    return found


def plain_name(name: str) -> str:
    """A kernel's name without return type, namespace, template arguments and parameters."""
    return re.split(r"[<(]", re.sub(r"^void ", "", name), maxsplit=1)[0].rpartition("::")[2].strip()


def read_csv(text: str) -> list[Launch]:
    """The launches of what `ncu --csv` printed, in order: a row of it is one metric of one launch."""
    lines = text.splitlines()
    heads = (i for i, line in enumerate(lines) if line.startswith('"ID"') and '"Metric Name"' in line)
    start = next(heads, None)
    if start is None:
        raise ValueError("no table of metrics; ncu printed:\n" + "\n".join(lines[-20:]))
    names = {metric: name for name, metric in METRICS.items()}
    found: dict[str, Launch] = {}
    for row in csv.DictReader(line for line in lines[start:] if line.startswith('"')):
        if row["Metric Name"] in names:
            _, counts = found.setdefault(row["ID"], (plain_name(row["Kernel Name"]), {}))
            counts[names[row["Metric Name"]]] = float(row["Metric Value"].replace(",", ""))
    return list(found.values())


def profile() -> str:
    """What ncu prints of this file's cases on the GPU."""
    ncu = shutil.which("ncu")
    if ncu is None:
        raise SystemExit("ncu is not on PATH: it comes with Nsight Compute")
    command = [ncu, "--csv", "--page", "details", "--print-units", "base", "--target-processes", "all",
               "--metrics", ",".join(METRICS.values()), sys.executable, __file__, "--run"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES)
    if done.returncode:
        raise SystemExit(f"ncu failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def matched(
    own: Sequence[tuple[str, Launch]], device: Sequence[Launch]
) -> Iterator[tuple[str, Counts, Counts]]:
    """Each case's counts on both. ValueError where the launches are not the same ones.

    Kernels that are no case's (the runtime's, which fill memory) are left out.
    """
    known = {kernel for _, (kernel, _) in own}
    theirs = [launch for launch in device if launch[0] in known]
    if [kernel for _, (kernel, _) in own] != [kernel for kernel, _ in theirs]:
        raise ValueError(f"{len(own)} launches here and {len(theirs)} there, or in another order")
    for (name, (_, here)), (_, there) in zip(own, theirs, strict=True):
        yield name, here, there


def compare(own: Sequence[tuple[str, Launch]], device: Sequence[Launch]) -> tuple[list[str], int]:
    """The table's lines, and how many counts of sectors differ by more than MOST or are missing."""
    lines, differ = [f"{'case':<42}{'count':<24}{'emulator':>10}{'device':>10}{'ratio':>8}"], 0
    for name, here, there in matched(own, device):
        for count in METRICS:
            a, b = here[count], there.get(count)
            if not a and not b and b is not None:
                continue
            ratio = "" if b is None else f"{a / b:.3f}" if b else "inf"
            judged = count.endswith("_sectors") and name not in NOT_JUDGED
            wrong = judged and (b is None or abs(a - b) > MOST * max(a, b))
            differ += wrong
            shown = "none" if b is None else f"{b:,.0f}"
            mark = "  differs" if wrong else ""
            lines.append(f"{name:<42}{count:<24}{a:>10,.0f}{shown:>10}{ratio:>8}{mark}")
    return lines, differ


def main(arguments: Sequence[str]) -> int:
    """Compare; 1 where sectors differ."""
    if list(arguments) == ["--run"]:
        for _ in run_cases("nvcc"):
            pass
        return 0
    text = Path(arguments[0]).read_text() if arguments else profile()
    lines, differ = compare(list(run_cases("emulator")), read_csv(text))
    if not arguments:
        print(f"on {kernels.gpu.device_name()}")
    print("\n".join(lines))
    print(f"{differ} counts of sectors differ by more than {MOST:.0%}")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
