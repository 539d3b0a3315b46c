"""What a student is told when a kernel file can't be built."""

from __future__ import annotations

from collections.abc import Sequence


class BuildError(Exception):
    """A kernel file that was refused or did not compile.

    message: text for the student, with places as `name.cu:12`; nothing of this machine is in it.
    places: (file name relative to the source's folder, line) of each, the most telling first.
    """

    def __init__(self, message: str, places: Sequence[tuple[str, int]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.places = list(places)
        self.source_frames: list[tuple[str, int, str]] = []  # set where the folder is known


def refusal(file: str, line: int, text: str) -> BuildError:
    """A BuildError about one place."""
    return BuildError(f"{file}:{line}: {text}", [(file, line)])


class KernelError(Exception):
    """A launch that failed: the message names the kernel, the line and what happened.

    source_frames: (path, line, function) of the lines concerned, for a report with source context.
    diagnostics: the entries of the device's report that it is about.
    """

    def __init__(
        self,
        message: str,
        source_frames: Sequence[tuple[str, int, str]] = (),
        diagnostics: Sequence[dict] = (),
    ) -> None:
        super().__init__(message)
        self.source_frames = list(source_frames)
        self.diagnostics = list(diagnostics)
