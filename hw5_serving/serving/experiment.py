"""What the scripts share: their start, fetched data, a log of JSON lines. Given."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def task_of(error: NotImplementedError) -> str:
    """The task that is not written yet; other errors of this type (torch has some) are raised on."""
    text = str(error)
    if not text.startswith("task "):
        raise error
    return text


def run_script(main: Callable[[], object]) -> None:
    """Run a script's `main`; where it needs a task that is not written yet, say so in one line."""
    try:
        main()
    except NotImplementedError as error:
        sys.exit(f"this needs {task_of(error)}, which is not written yet")


def find_data(pattern: str) -> Path | None:
    """A file or folder that `make fetch` put into its cache, by the end of its path, or None."""
    chosen = os.environ.get("LLM_SYSTEMS_DATA")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places = [Path(chosen)] if chosen else [Path("/var/cache/llm-systems"), home / "llm-systems"]
    return next((path for place in places for path in sorted(place.rglob(pattern))), None)


class JsonLines:
    """A file that gets one JSON object a line, at once; what it held before is replaced."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")

    def write(self, **record: Any) -> None:
        """Add a line."""
        print(json.dumps(record), file=self._file, flush=True)
