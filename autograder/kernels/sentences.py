"""What a student is told about a fault in a kernel: one or two sentences for each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autograder.kernels.sites import true_line

Fields = Mapping[str, Any]
ATOMIC = 2  # of the emulator's numbers for accesses: load, store, atomic


def sentence(found: Fields) -> str:
    """The message of one diagnostic: where, what, who, and what it means."""
    place = f"{found['file']}:{found['line']}: " if found["line"] else ""
    kernel = f" [kernel {found['kernel']}]" if found["kernel"] else ""
    return f"{place}{_SENTENCES.get(found['kind'], _other)(found)}{kernel}"


def _who(found: Fields) -> str:
    if not found["thread"]:
        return "the host function"
    return f"thread {_index(found['thread'])} of block {_index(found['block'])}"


def _index(index: list[int]) -> str:
    """(3), (3, 1) or (3, 1, 2): as many dimensions as are used."""
    used = max((i + 1 for i, value in enumerate(index) if value), default=1)
    return "(" + ", ".join(str(value) for value in index[:used]) + ")"


def _verb(found: Fields) -> str:
    return ("reads", "writes", "updates atomically")[found["access"]]


def _memory(found: Fields) -> str:
    """The place in memory that a diagnostic is about, by the name the student knows."""
    if found["space"] == 2:
        return "a __device__ variable"
    if found["variable"]:
        return f"shared {found['variable']} at byte {found['offset']}"
    name = found["name"]
    if name is None:
        return f"byte {found['offset']} of a buffer" if found["allocation"] >= 0 else "device memory"
    label, shape, dtype = name
    return f"{label}[{found['offset'] // dtype.itemsize}]" + _unraveled(found, shape, dtype)


def _unraveled(found: Fields, shape: tuple[int, ...], dtype: Any) -> str:
    """The index by dimensions, where there are several and it is inside."""
    place = found["offset"] // dtype.itemsize
    size = 1
    for extent in shape:
        size *= extent
    if len(shape) < 2 or not 0 <= place < size:
        return ""
    index: list[int] = []
    for extent in reversed(shape):
        index.insert(0, place % extent)
        place //= extent
    return f" (row-major {tuple(index)} of {shape})"


def _race(found: Fields) -> str:
    earlier = "wrote" if found["text"] == "write" else "read"
    same = found["line"] == found["other_line"]
    other = "the same line" if same else f"line {found['other_line']}"
    who = f"thread {_index(found['other_thread'])}"
    if found["other_block"] != found["block"]:
        who += f" of block {_index(found['other_block'])}"
        order = "nothing orders two blocks of one launch but atomics with __threadfence()"
        if not same and found.get("launch") and not _uses_atomics(found["launch"]):
            order += (
                f". Does the launch in {found['launched']} write what it reads: are an input and an "
                "output of it the same memory?"
            )
    else:
        order = _turn_ahead(found) or (
            "a __syncthreads() (or __syncwarp() within a warp) must stand between them"
        )
    if found.get("lost_update"):
        order = (
            "several threads change one place, and changes are lost: += by many threads is "
            "atomicAdd, or one thread adds up"
        )
    return (
        f"race: {_who(found)} {_verb(found)} {_memory(found)}, which {who} {earlier} in "
        f"{other}; {order}"
    )


def _uses_atomics(launch: Fields) -> bool:
    """Does a launch order its blocks by atomics, or try to?"""
    return any(line["access"] == ATOMIC for line in launch["lines"])


def _turn_ahead(found: Fields) -> str:
    """Which barrier is missing, where a barrier stands between the lines already; or ""."""
    if not found.get("ahead"):
        return ""
    own = found["ahead"] < 0
    thread = found["thread"] if own else found["other_thread"]
    upper, lower = (found["line"], found["other_line"])[:: 1 if own else -1]
    return (
        f"thread {_index(thread)} is a turn ahead: the barrier in line {found['barrier']} stands between "
        f"them in one turn, and another one is missing behind line {lower}, before line {upper} comes "
        "again"
    )


def _same_value(found: Fields) -> str:
    return (
        f"{_who(found)} writes {_memory(found)}, which thread {_index(found['other_thread'])} "
        "wrote too, with the same value: harmless here, but let one thread do it"
    )


def _copy(found: Fields) -> str:
    """What is missing behind a cp.async."""
    own = found["thread"] == found["other_thread"]
    whose = "its own" if own else f"thread {_index(found['other_thread'])}'s"
    copy = f"{whose} asynchronous copy of line {found['other_line']}"
    if found["text"] == "not committed":
        return f"{copy} was not committed (__pipeline_commit) and not waited for"
    barrier = "" if own else ", and a __syncthreads() must stand behind that"
    return f"{copy} was not waited for (__pipeline_wait_prior){barrier}"


def _uninitialised(found: Fields) -> str:
    if found["text"]:
        return f"{_who(found)} reads {_memory(found)}, which has not arrived: {_copy(found)}"
    missing = "" if found["variable"] else " (is each element written before it is read?)"
    between = " Was it written, and a barrier passed, before?" if found["variable"] else ""
    return f"{_who(found)} reads {_memory(found)}, which nobody has written{missing}.{between}"


def _out_of_bounds(found: Fields) -> str:
    who = f"{_who(found)} {_verb(found)} {found['size']} bytes"
    if found["text"].startswith("the stack"):
        return f"{who} of {found['text']}"
    if found["space"] == 1:
        if not found["variable"]:
            return f"{who} of shared memory where no variable is"
        return (
            f"{who} at byte {found['offset']} of shared {found['variable']}, "
            f"which has {found['text']} bytes"
        )
    if found["allocation"] < 0:
        return f"{who} of device memory before the first buffer"
    name = found["name"]
    if name is None:
        return f"{who} at byte {found['offset']} of a buffer, past its end"
    label, shape, dtype = name
    size = 1
    for extent in shape:
        size *= extent
    return (
        f"{who} at {label}[{found['offset'] // dtype.itemsize}], but {label} has {size} elements "
        f"(shape {shape})"
    )


def _index_error(found: Fields) -> str:
    return f"{_who(found)} uses index {found['offset']} of an array of type {found['variable']}"


def _pointer(text: str) -> Callable[[Fields], str]:
    return lambda found: f"{_who(found)} {_verb(found)} {text}"


def _misaligned(found: Fields) -> str:
    return (
        f"{_who(found)} {_verb(found)} {found['size']} bytes at an address that is no multiple of "
        f"{found['size']}; a vector type such as float4 needs its full alignment"
    )


def _too_much_shared(found: Fields) -> str:
    return (
        f"shared {found['variable']} brings the block's shared memory to {found['offset']} bytes; "
        f"{found['text']} are possible"
    )


def _barrier_divergence(found: Fields) -> str:
    same = found["line"] == found["other_line"]
    other = "another one in the same line" if same else f"the one in line {found['other_line']}"
    return (
        f"{_who(found)} waits at this __syncthreads() while thread {_index(found['other_thread'])} "
        f"waits at {other}: every thread of the block must reach the same barrier, so move it out of "
        "the branch"
    )


def _barrier_after_exit(found: Fields) -> str:
    return (
        f"{found['text']} threads of block {_index(found['block'])} had returned before this "
        "__syncthreads(); current GPUs allow it, older ones hang: guard the work, not the barrier"
    )


def _deadlock(found: Fields) -> str:
    parts = []
    for group in found["text"].split(";"):
        place, _, ranges = group.partition("|")
        if not place:
            continue
        what, *where = place.split("@")
        where[:1] = [str(true_line(int(line))) for line in where[:1]]
        threads = f"threads {ranges.replace('-', '–')}"
        if what == "ended":
            parts.append(f"{threads} have returned")
        elif len(where) == 2:
            parts.append(f"{threads} wait at {what} in line {where[0]} for the lanes of {where[1]}")
        else:
            parts.append(f"{threads} wait at {what}() in line {where[0]}")
    return (
        f"deadlock in block {_index(found['block'])}: {'; '.join(parts)}. All lanes that a mask "
        "names must reach the same operation"
    )


def _absent_lane(found: Fields) -> str:
    return (
        f"{_who(found)} takes a value from lane {found['text']}, which does not take part in the "
        "shuffle (not in the mask, or it has returned): the result is undefined"
    )


def _not_in_mask(found: Fields) -> str:
    return (
        f"{_who(found)} calls a warp function with mask 0x{int(found['text']):08x}, in which its "
        "own lane is missing"
    )


def _limit(found: Fields) -> str:
    took = f"{found['text']} s of CPU time"
    if found["kind"] == "step limit":
        took = f"{int(found['text']):,} steps (accesses and turns of loops)"
    if found["variable"]:  # between two blocks
        return (
            f"the launch was stopped after {took}, before block {_index(found['block'])}; it has "
            f"{int(found['variable']):,} blocks: does a loop take more turns than it should?"
        )
    return f"{_who(found)} was stopped after {took}: does this loop end?"


def _launch(found: Fields) -> str:
    return f"the launch of {found['variable']} is not valid: {found['text']}"


def _other(found: Fields) -> str:
    return f"{found['kind']}: {found['text']}" if found["text"] else found["kind"]


_SENTENCES: dict[str, Callable[[Fields], str]] = {
    "race": _race,
    "same value race": _same_value,
    "uninitialised": _uninitialised,
    "out of bounds": _out_of_bounds,
    "index": _index_error,
    "use after free": lambda f: f"{_who(f)} {_verb(f)} {_memory(f)}, which was freed",
    "device pointer": _pointer(
        "device memory: on a GPU the host can't; copy with cudaMemcpy or let a kernel do it"
    ),
    "device variable": _pointer(
        "a __device__ variable: on a GPU the host can't; use cudaMemcpyToSymbol"
    ),
    "host pointer": _pointer(
        "memory that is not the device's: a host pointer, one that was never set, or an index far "
        "outside"
    ),
    "host variable": _pointer(
        "a variable outside of functions: a kernel sees __device__ variables only, and a host "
        "function keeps nothing from one call to the next"
    ),
    "constant written": _pointer("a constant"),
    "null pointer": _pointer("through a null pointer"),
    "another thread's variable": _pointer("another thread's local variable"),
    "misaligned address": _misaligned,
    "too much shared memory": _too_much_shared,
    "barrier divergence": _barrier_divergence,
    "barrier after exit": _barrier_after_exit,
    "deadlock": _deadlock,
    "shuffle from an absent lane": _absent_lane,
    "lane not in its mask": _not_in_mask,
    "bad shuffle width": lambda f: f"the width of a shuffle is 1, 2, 4, 8, 16 or 32, not {f['text']}",
    "device function on the host": lambda f: f"{f['text']} is for kernels, not for host functions",
    "shared memory on the host": lambda f: "__shared__ variables belong in kernels",
    "launch from a kernel": lambda f: "a kernel can't launch another one here",
    "invalid launch": _launch,
    "step limit": _limit,
    "time limit": _limit,
    "recursion too deep": lambda f: f"{_who(f)} calls more than 128 functions deep",
    "stack overflow": lambda f: f"{_who(f)} needs more than 64 kB for its local variables",
    "division by zero": lambda f: f"{_who(f)} divides an integer by zero",
    "illegal address": lambda f: f"{_who(f)} touches an address that is not there",
    "host function in a kernel": lambda f: f"{f['text']} is called in a kernel; it is for host functions",
    "copy with the host": lambda f: (
        "cudaMemcpy between the host and the device: entry points get device arrays and leave "
        "their results in device arrays; copy with cudaMemcpyDeviceToDevice only"
    ),
    "too many launches": lambda f: "more than 10,000 launches, copies and sets in one call",
    "out of memory": lambda f: "the emulator has no memory left for this launch",
    "too much to watch": lambda f: f"too much {f['text']} is used to be checked for races; use less",
    "no return": lambda f: f"{_who(f)} reaches the end of a function that has a result, without return",
    "trap": lambda f: f"{_who(f)} stopped at {f['text']}",
    "bad cp.async": lambda f: (
        f"{_who(f)} has {int(f['text']):,} asynchronous copies under way, which is as many as can wait: "
        "commit and wait for some before the next"
        if f["text"]
        else "cp.async copies 4, 8 or 16 bytes from global to shared memory, both aligned to that size; "
        f"this copies {f['size']}"
    ),
    "bad copy": lambda f: f"a copy of {f['size']} bytes, but {f['text']} is not that much of device memory",
}
