"""What the kernel says a process used: read by the trusted side, never told by the worker."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from autograder.sandbox.failures import GraderFault, WorkerFailure
from autograder.sandbox.processes import look_up

# More than two ticks of any kernel (100 a second at least): what a clock in ticks may be behind.
TICKS_SECONDS = 0.02


class KernelAccounts:
    """CPU time and memory of the process `pid`."""

    pid: int

    def _died(self) -> WorkerFailure:
        """The failure to raise when the process is gone."""
        raise NotImplementedError

    def cpu_seconds(self) -> float:
        """CPU time the process has used, by the kernel's account (all of its threads).

        Threads are counted to the nanosecond while they live. The process's own clock also has
        those that ended, but runs in ticks once a limit on CPU time is set: it is the lower bound.
        """
        try:
            clock = time.clock_gettime(((~self.pid) << 3) | 2)
            return max(sum(self.thread_seconds()), clock - TICKS_SECONDS)
        except OSError:
            return float("nan")

    def thread_seconds(self) -> list[float]:
        """CPU seconds of each living thread, by the kernel's account."""
        seconds = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it just ended
                seconds.append(int((task / "schedstat").read_text().split()[0]) / 1e9)
        return seconds

    def queued_seconds(self) -> float:
        """Seconds the main thread was ready to run and waited for a processor; 0 if unknown."""
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError):
            return 0.0

    def resident_bytes(self) -> int:
        """Resident memory now (VmRSS)."""
        return self._status_bytes("VmRSS")

    def peak_bytes(self) -> int:
        """The most resident memory since `reset_peak` (VmHWM)."""
        return self._status_bytes("VmHWM")

    def reset_peak(self) -> None:
        """Start measuring the peak anew (Linux: 5 into /proc/PID/clear_refs)."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # the next call says so
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status_bytes(self, field_name: str) -> int:
        try:
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith(field_name + ":"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
        if sys.platform == "linux" and look_up(self.pid) is None:
            raise self._died()
        raise GraderFault(f"{field_name} of a worker can't be read: memory is measured on Linux")
