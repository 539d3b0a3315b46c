"""Words for counts and diagnostics of kernels: what was counted, and one thing to try."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autograder.testing.kernel_report import ACCESSES, COUNTS, Diagnostic, LineCount

# Counts that are no numbers of things: a limit on them is not rounded down.
RATIOS = ("worst_bank_degree",)
WASTEFUL = 1.5  # times the least, from which on a line's pattern is to blame, not their number

_DONE = {"load": "read from", "store": "written to", "atomic": "changed by atomics in"}
_UNITS = {
    "requests": "requests of warps, {done} {space} memory",
    "sectors": "sectors of 32 bytes {done} {space} memory",
    "sectors_min": "sectors of 32 bytes that would do, {done} {space} memory",
    "wavefronts": "passes (wavefronts) {done} {space} memory",
    "wavefronts_min": "passes that would do, {done} {space} memory",
    "bytes": "bytes {done} {space} memory",
}
COUNTED: dict[str, str] = {
    "barriers": "barriers (__syncthreads) of blocks",
    "warp_syncs": "barriers of warps (__syncwarp)",
    "shuffles": "shuffles and votes of warps",
    "partial_requests": "requests of warps in which some living lanes took no part",
    "worst_bank_degree": "degree of the worst bank conflict",
}
for _count in COUNTS:
    if _count not in COUNTED:
        _space, _kind, _what = _count.split("_", 2)
        COUNTED[_count] = _UNITS[_what].format(done=_DONE[_kind], space=_space)

_GUARD = (
    "compare the index with the size before the access: the last block reaches beyond the end unless "
    "the size is a multiple of the block's. For a shared array, look at the size of each dimension"
)
_DEVICE = "pass device arrays and numbers to a kernel, structs by value; nothing of the host is there"
_LOOP = "look at the condition and the step of each loop, and at a size that may be 0 or negative"
_COLLECTIVE = (
    "shuffle outside of branches, with all 32 lanes (FULL_MASK); a lane without work brings a neutral "
    "value, 0 for a sum and -inf for a maximum"
)
# What to try, by the kind that the emulator names.
_TRY: dict[str, str] = {
    "race": "a barrier between the two lines that every thread of the block passes; where many add to "
    "one place, add up first, or use atomicAdd. A shuffle orders no memory: __syncwarp() does",
    "same value race": "let one thread write, and put a barrier before the others read",
    "uninitialised": "write each element once before it is read; an accumulator in memory needs its "
    "first value: better sum in a register, and store once",
    "out of bounds": _GUARD,
    "index": "each index must fit its own dimension, tile[0][40] of tile[32][33] does not: flat access "
    "goes through a pointer",
    "use after free": "free a temporary after the last launch that uses it",
    "device pointer": "host code passes device pointers on, and never looks behind them",
    "device variable": "pass what the kernel needs as an argument",
    "host pointer": _DEVICE,
    "host variable": _DEVICE,
    "constant written": "write to an array of the device",
    "null pointer": "was the pointer set? An empty array should end before the launch",
    "another thread's variable": "share through shared memory or shuffles, not through local variables",
    "misaligned address": "take the float4 path only where the pointer and the row's length are "
    "multiples of 4 floats, and the scalar path otherwise",
    "too much shared memory": "48 kB a block: smaller tiles, or keep a part in registers",
    "barrier divergence": "guard the work with the if, not the barrier; a loop with a barrier takes the "
    "same number of turns in every thread",
    "barrier after exit": "no return before the last barrier: guard the work instead",
    "deadlock": _COLLECTIVE,
    "shuffle from an absent lane": _COLLECTIVE,
    "lane not in its mask": _COLLECTIVE,
    "bad shuffle width": "leave the width out: it is 32",
    "device function on the host": "move the call into a kernel",
    "shared memory on the host": "move the declaration into a kernel",
    "launch from a kernel": "launch from the host function, one kernel after the other",
    "invalid launch": "1 to 1024 threads a block, at least one block; return before the launch when "
    "there is nothing to do",
    "too many launches": "launch once over all the work, not once for each row or element",
    "copy with the host": "leave the data on the device: the caller brings and fetches arrays",
    "out of memory": "smaller temporaries, or write into an array that is there already",
    "host function in a kernel": "mark the function __device__, or call it before the launch",
    "too much to watch": "fewer blocks with more work each, or less shared memory",
    "step limit": _LOOP,
    "time limit": _LOOP,
    "recursion too deep": "a loop instead of the recursion",
    "stack overflow": "smaller local arrays, or shared memory",
    "division by zero": "which size may be 0?",
    "illegal address": _GUARD,
    "no return": "give every path through the function its return",
    "trap": "the kernel ended itself there",
    "bad cp.async": "copy 4, 8 or 16 bytes between addresses that are multiples of that",
    "bad copy": "compare the size in bytes with both arrays",
}
KNOWN_KINDS = frozenset(_TRY)
# Instead, where the emulator's sentence (kernels/sentences.py) has these words: (kind, words, hint).
_FOR_SENTENCES = (
    ("race", "a turn ahead",
     "one barrier says that all have written, a second one that all have read and it may be "
     "overwritten; two buffers in turn do with one"),
    ("race", "changes are lost",
     "atomicAdd; or give each place to one thread, which adds up in a register and stores once"),
    ("race", "the same memory?",
     "follow each piece of memory through the launches: who wrote it last, who reads it next? Within "
     "one launch, blocks have no order: give each place to one block, or leave the rest to a second "
     "kernel"),
    ("race", "two blocks of one launch",
     "no barrier reaches from one block to another: give each place to one block, add with "
     "atomicAdd, or leave the rest to a second kernel, which begins when this one has ended"),
    ("uninitialised", "has not arrived",
     "__pipeline_commit() closes a group of copies, __pipeline_wait_prior(0) waits for those of this "
     "thread, and a barrier behind the wait shows them to the other threads"),
    ("uninitialised", "reads shared ",
     "put a barrier between the write and the read, and fill the edge of the tile too, with 0 or what "
     "is neutral, where the matrix has ended"),
)  # fmt: skip
_OTHER = "look at the line, at the index it uses, and at who else touches that place"


def known_kind(kind: str) -> str:
    """The kind as one of KNOWN_KINDS: it is shown for hidden tests too, so it may carry no more."""
    return kind if kind in KNOWN_KINDS else "illegal address"


def hint_for_diagnostic(found: Diagnostic) -> str:
    """One thing to try."""
    for kind, words, hint in _FOR_SENTENCES:
        if found.kind == kind and words in found.message:
            return hint
    return _TRY.get(found.kind, _OTHER)


def dropped(count: int) -> str:
    """Of findings that were not kept; they are not told apart, so it is their number that is known."""
    times = f"{count:,} times" if count > 1 else "once"
    return f"beyond that something was wrong in other places, {times}; mend these first"


def number(value: float) -> str:
    """`1,572,864`, `66`, `0.75`: whole digits of a large number, three where it is none."""
    return f"{value:,.0f}" if value == int(value) or value >= 1e5 else f"{value:,g}"


def order(found: Diagnostic) -> int:
    """The place of a diagnostic among those to look at; of equals the earlier one is first.

    Copies that nobody waited for look like a race, and what a race left unwritten is read.
    """
    if not found.is_error:
        return 3
    if "has not arrived" in found.message or "not waited for" in found.message:
        return 0
    return 1 if found.kind == "race" else 2


def amount(count: str, value: float) -> str:
    """`1,024 sectors of 32 bytes written to global memory`."""
    if count in RATIOS:
        return f"the {COUNTED[count]} is {value:,.3g} (passes of a request over the fewest possible)"
    return f"{number(value)} {COUNTED[count]}"


def line_text(line: LineCount) -> str:
    """What one line cost: `global store: 32 requests, 1,024 sectors, 32 a request; 4 would do`."""
    kind = line.access.replace("_", " ")
    text = f"{kind}: {line.requests:,} request{'s' * (line.requests != 1)}"
    unit = "passes" if line.space == "shared" else "sectors"
    if line.requests:
        each, least = line.cost / line.requests, line.least / line.requests
        text += f", {line.cost:,} {unit}, {each:.3g} a request"
        text += f"; {least:.3g} would do" if line.cost > line.least else ", the least possible"
    if line.space == "shared" and line.worst_degree > 1:
        text += f"; bank conflicts of degree {line.worst_degree:.3g}"
    if line.partial:
        text += f"; {line.partial:,} with idle lanes"
    return text


def of_atomics(count: str) -> str:
    """The count of atomics that belongs to one of loads or stores; "" for other counts."""
    space, _, rest = count.partition("_")
    kind, _, what = rest.partition("_")
    return f"{space}_atomic_{what}" if kind in ("load", "store") else ""


def worth_of(count: str) -> Callable[[LineCount], float]:
    """How much a line has to do with a count; 0 where nothing."""
    if count == "worst_bank_degree":
        return lambda line: line.worst_degree - 1 if line.space == "shared" else 0
    if count == "partial_requests":
        return lambda line: line.partial
    access = next((one for one in ACCESSES if count.startswith(f"{one}_")), None)
    if access is None:
        return lambda line: 0
    field = count.removeprefix(f"{access}_")
    counted = (access, f"{access.partition('_')[0]}_atomic")
    return lambda line: getattr(line, field) if line.access in counted else 0


def hint_for_count(count: str, dear: Sequence[LineCount], too_few: bool = False) -> str:
    """One thing to try about a count that is too large, seen the lines it comes from."""
    if too_few:
        return "less than that can't do the whole work: is a part of it left out, or done elsewhere?"
    if "atomic" in count or (dear and all("atomic" in line.access for line in dear)):
        return (
            "add up first what goes to one address: in registers, over the warp with shuffles, over "
            "the block in shared memory; one atomic a block is left for each address"
        )
    if count == "barriers":
        return (
            "a barrier belongs between one thread's write and another one's read, and nowhere else; "
            "within a warp, shuffles or __syncwarp() do without it"
        )
    if count in ("shuffles", "warp_syncs"):
        return "five shuffles reduce a warp: add up in registers first, and reduce once"
    if count == "partial_requests":
        return (
            "let whole warps work or rest: if (threadIdx.x < half), not if (threadIdx.x % step == 0)"
        )
    wasteful = any(line.cost > WASTEFUL * line.least for line in dear)
    if count.startswith("shared") or count in RATIOS:
        if any(line.worst_degree > 1 and line.sample_size > 4 for line in dear):
            return (
                "lanes that read or write vectors meet in one bank (word index mod 32): pad the rows of "
                "the shared array by 4 floats, which keeps each float4 aligned, or swizzle the columns"
            )
        if wasteful or any(line.worst_degree > 1 for line in dear):
            return (
                "lanes meet in one bank (word index mod 32): pad the rows of the shared array by one "
                "word ([32][33]; by 4 where float4s are read from it too), or let threadIdx.x run along "
                "the row"
            )
        return "keep in registers what a thread uses again; a float4 takes four words at once"
    if wasteful:
        return (
            "let neighbouring lanes (threadIdx.x) touch neighbouring addresses: threadIdx.x along "
            "the contiguous dimension, on both sides, and in a loop all threads side by side, not a run "
            "to each; where the two sides disagree (a transpose), go through a tile in shared memory"
        )
    if count.endswith("requests"):
        return "read more at once (a float4 is one request), or read once and use it several times"
    return (
        "each request is as cheap as it can be, there are too many: read a value once, and keep it "
        "in registers or shared memory for all who need it"
    )

