"""Which of nvcc's figures belong to a launch, and how a reader is told of them.

A launch names its kernel as the source does, `tiled<G, true>`; ptxas names what was instantiated,
`matmul::tiled<2, true>`. Where several fit, their range is shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from autograder.kernels.nvcc import Resources
from autograder.testing.kernel_report import Launch

ARCHITECTURE = "sm_80"  # of the A100, for which times are modelled
_LITERAL = re.compile(r"true|false|\d+")
_CAST = re.compile(r"\([\w ]+\)")


def resources_of(launch: Launch, found: Sequence[Resources]) -> list[Resources]:
    """Those of `found` that may be the launched kernel's: by name, literal arguments, shared bytes."""
    name, arguments = _parts(launch.kernel)
    bare = name.rpartition("::")[2]
    own = [one for one in found if _parts(one.kernel)[0].rpartition("::")[2] == bare]
    own = [one for one in own if _ends(_parts(one.kernel)[0], name)] or own
    own = [one for one in own if _agree(arguments, _parts(one.kernel)[1])] or own
    # Static arrays alone: a kernel that gets more at the launch has the bytes of neither.
    return [one for one in own if one.shared == launch.shared_bytes] or own


def registers_of(launch: Launch, found: Sequence[Resources]) -> int | None:
    """Registers of one thread, the most of those that fit; None where nvcc said nothing of it."""
    own = resources_of(launch, found)
    return max(one.registers for one in own) if own else None


def register_facts(launch: Launch, found: Sequence[Resources]) -> list[tuple[str, str]]:
    """What is shown of them: registers, and spills in bytes, of one thread."""
    own = resources_of(launch, found)
    if not own:
        return []
    registers = _range([one.registers for one in own])
    among = " (by its template arguments)" if len({one.registers for one in own}) > 1 else ""
    among += f", by nvcc for {ARCHITECTURE}"
    stored, loaded = max(one.spill_stores for one in own), max(one.spill_loads for one in own)
    spills = f"{stored} bytes stored, {loaded} bytes loaded again" if stored or loaded else "none"
    return [("registers", f"{registers} a thread{among}"), ("spills", spills)]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _ends(qualified: str, name: str) -> bool:
    """Whether `name`, perhaps with some of its namespaces, is the end of the qualified name."""
    return qualified == name or qualified.endswith(f"::{name}")


def _agree(launched: Sequence[str], compiled: Sequence[str]) -> bool:
    """Whether what is written out in the launch is what was instantiated; `G` may be anything."""
    pairs = zip(launched, compiled, strict=False)
    return all(ours == theirs for ours, theirs in pairs if _LITERAL.fullmatch(ours))


def _parts(name: str) -> tuple[str, list[str]]:
    """`a::k<float, (int)4>` as `a::k` and its arguments, casts taken off."""
    bare, _, rest = name.partition("<")
    arguments, depth = [""], 0
    for sign in rest.rpartition(">")[0]:
        depth += (sign in "<(") - (sign in ">)")
        if sign == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += sign
    return bare.strip(), [_CAST.sub("", one).strip() for one in arguments if one.strip()]
