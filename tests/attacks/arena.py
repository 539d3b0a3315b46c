"""Grades attacks, several at a time, and finds what they left behind."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autograder.batch.grade import Graded, Grading, grade_files
from autograder.course.assignment import Assignment
from autograder.course.intake import Submission
from autograder.sandbox.host import FIRST_UID, REPOSITORY, UIDS
from autograder.sandbox.processes import all_pids, look_up
from tests.attacks.homework import SECRET, SLOTS, WARMED_SLOT, make_homework, number_of

HERE = Path(__file__).parent
LANES = 3  # gradings side by side: much of an attack's time is spent waiting for a limit
HEAD_LENGTH = len(SECRET) - 20


@dataclass(frozen=True)
class Attack:
    """One file of `submissions/`, with what its first comment lines say.

    attacks: the class of ATTACKS it belongs to, and what it does; expects: a pattern of what the
    public test must then say; attempts: so many refused attempts must be confessed; report: a
    pattern in the printed text; undefended: a pattern that shows what happens without the layers.
    """

    name: str
    source: str
    tags: dict[str, str]

    @property
    def slot(self) -> int | None:
        """The slot that it needs, if it minds."""
        return int(self.tags["slot"]) if "slot" in self.tags else None


@dataclass
class Seen:
    """What a grading said of one attack."""

    points: float
    public: str
    hidden: str
    fault: bool
    grading: Fight


@dataclass
class Fight:
    """One grading of several attacks and the honest task."""

    graded: Graded
    results: dict[str, Any]
    page: str
    files: set[str]
    slots: dict[str, int] = field(default_factory=dict)

    def seen(self, attack: str) -> Seen:
        """What became of an attack."""
        number = number_of(self.slots[attack])
        public, hidden = (
            next(t for t in self.results["tests"] if t["number"] == number and is_hidden == (
                "hidden" in t.get("tags", [])))
            for is_hidden in (False, True)
        )  # fmt: skip
        fault = any("grader_fault" in t.get("extra_data", {}) for t in (public, hidden))
        points = public["score"] + hidden["score"]
        return Seen(points, public["output"], hidden["output"], fault, self)

    @property
    def honest_points(self) -> float:
        """Points of the honest task, out of 40."""
        return sum(t["score"] for t in self.results["tests"] if t["number"] == "9.7")


@functools.cache
def attacks(folder: str = "submissions") -> dict[str, Attack]:
    """Every attack of a folder by name."""
    found = {}
    for path in sorted((HERE / folder).glob("*.py")):
        source = path.read_text(encoding="utf-8")
        tags = dict(re.findall(r"^# (\w+): (.*)$", source, re.MULTILINE))
        found[path.stem] = Attack(path.stem, source, tags)
    return found


class Arena:
    """A course with one homework, a temporary folder that anyone may write, and gradings there."""

    def __init__(
        self, base: Path, make: Callable[[Path], Assignment] = make_homework,
        folder: str = "submissions",
    ) -> None:  # fmt: skip
        self.base, self.attacks = base, attacks(folder)
        self.temporary = base / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)  # as /tmp is
        base.chmod(0o755)
        self.assignment: Assignment = make(base / "course")
        self.leftover = f"leftover-{secrets.token_hex(6)}"
        self.pool = ThreadPoolExecutor(LANES)
        self.fights: dict[str, Future[Fight]] = {}
        self.bare_fights: dict[str, Future[Fight]] = {}

    def source(self, attack: Attack, results: Path) -> bytes:
        """The attack's file, with paths that it could not know so well."""
        text = (HERE / "prelude.py").read_text(encoding="utf-8") + "\n\n" + attack.source
        digest = hashlib.sha256(SECRET[HEAD_LENGTH:].encode()).hexdigest()
        for name, value in {
            "HOMEWORK_ROOT": str(self.assignment.root),
            "RESULTS_FOLDER": str(results),
            "HARNESS": str(REPOSITORY),
            "LEFTOVER_NAME": self.leftover,
            "LEFTOVER": str(self.temporary / self.leftover),
            "SECRET_HEAD_REVERSED": SECRET[:HEAD_LENGTH][::-1],
            "SECRET_TAIL_DIGEST": digest,
        }.items():
            text = text.replace(name, value)
        return text.encode()

    def fight(self, chosen: Iterable[Attack], **how: Any) -> Fight:
        """Grade these attacks, each in a slot, beside the honest file."""
        out = Path(tempfile.mkdtemp(dir=self.base, prefix="results-"))
        files = {file: self.assignment.stub_path(file).read_bytes()
                 for file in self.assignment.files}  # fmt: skip
        files["tiny/honest.py"] = self.assignment.solution_path("tiny/honest.py").read_bytes()
        free = [slot for slot in range(1, SLOTS + 1) if slot != WARMED_SLOT] + [WARMED_SLOT]
        slots = {}
        for attack in sorted(chosen, key=lambda attack: attack.slot is None):
            slot = attack.slot or free[0]
            free.remove(slot)
            slots[attack.name] = slot
            files[f"tiny/slot_{slot}.py"] = self.source(attack, out)
        graded = grade_files(self.assignment, Submission(files), out, Grading(**how))
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
        page = (out / "report.html").read_text(encoding="utf-8")
        return Fight(graded, results, page, set(os.listdir(out)), slots)

    def start(self, names: Iterable[str]) -> None:
        """Begin grading the attacks of these names, as many at a time as there are slots."""
        waiting = [self.attacks[name] for name in names if name not in self.fights]
        self.fights |= self._submit(waiting)

    def start_bare(self, names: Iterable[str]) -> None:
        """The same without Landlock and without a system-call filter: only the uid differs."""
        waiting = [self.attacks[name] for name in names if name not in self.bare_fights]
        self.bare_fights |= self._submit(waiting, layers="")

    def _submit(self, waiting: list[Attack], **how: Any) -> dict[str, Future[Fight]]:
        groups: list[list[Attack]] = [[] for _ in range(-(-len(waiting) // SLOTS))]
        fixed = [attack for attack in waiting if attack.slot]
        groups += [[] for _ in fixed[len(groups) :]]
        for group, attack in zip(groups, fixed, strict=False):
            group.append(attack)
        for attack in (attack for attack in waiting if not attack.slot):
            min(groups, key=len).append(attack)
        begun = {}
        for group in groups:
            future = self.pool.submit(self.fight, group, **how)
            begun.update((attack.name, future) for attack in group)
        return begun

    def seen(self, name: str) -> Seen:
        """What became of one attack; waits for its grading."""
        return self.fights[name].result().seen(name)

    def bare(self, name: str) -> Seen:
        """What became of one attack without the layers."""
        return self.bare_fights[name].result().seen(name)

    def finish(self) -> None:
        """Wait for every grading that was begun."""
        for future in [*self.fights.values(), *self.bare_fights.values()]:
            future.exception()

    def leftovers(self) -> list[str]:
        """Files of attacks or gradings that are still there."""
        places = [self.temporary, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/run"),
                  Path("/run/lock"), Path("/dev/mqueue"), Path.home(), self.base]  # fmt: skip
        found = [str(place / self.leftover) for place in places if (place / self.leftover).exists()]
        kept = re.compile(r"llm-systems-timing-\d+\.lock")
        found += [str(path) for path in self.temporary.iterdir() if not kept.fullmatch(path.name)]
        found += [str(path) for path in self.assignment.root.rglob("planted*")]
        return found


@contextlib.contextmanager
def swept_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose `tmp` stands for /tmp; afterwards nothing is in that, and no process is left."""
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        base = Path(folder)
        (base / "tmp").mkdir()
        (base / "tmp").chmod(0o1777)
        base.chmod(0o755)
        monkeypatch.setenv("TMPDIR", str(base / "tmp"))
        monkeypatch.setattr(tempfile, "tempdir", str(base / "tmp"))
        yield base
        assert os.listdir(base / "tmp") == []
        assert stray_processes() == []


def stray_processes(patience: float = 5.0) -> list[str]:
    """Processes that a grading left: of a throwaway user, or a zygote, without a living parent.

    One that is just being ended may be seen for a moment, so it is looked for again.
    """
    until = time.monotonic() + patience
    while (found := _orphans()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _orphans() -> list[str]:
    found = []
    for pid in all_pids():
        task = look_up(pid)
        # Other gradings on this machine are no orphans: their parents are Python, ours or theirs.
        if task is None or "python" in _command(task.parent):
            continue
        throwaway = any(FIRST_UID <= uid < FIRST_UID + UIDS for uid in task.uids)
        if throwaway or "autograder.sandbox.zygote" in _command(pid):
            found.append(f"{pid}: {_command(pid)}")
    return found


def _command(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return command.replace(b"\0", b" ").decode("utf-8", "replace")
