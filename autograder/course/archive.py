"""Zips that come out the same, byte for byte, from the same files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The earliest time that a zip can hold: contents decide the bytes, not the clock.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


@dataclass(frozen=True)
class Member:
    """The content of a zip's member, and whether it can be run."""

    content: bytes
    executable: bool = False


def write_zip(target: Path, members: Mapping[str, Member]) -> Path:
    """Write `members` (name -> content), sorted by name, to `target` in one step."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name in sorted(members):
                member = members[name]
                info = zipfile.ZipInfo(name, _EPOCH)
                info.create_system = _UNIX
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (0o100755 if member.executable else 0o100644) << 16
                archive.writestr(info, member.content)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
