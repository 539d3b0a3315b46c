"""The order in which a warp's lanes are let run where they part: by the program, not by addresses.

A compiler may put a loop's body behind the code that follows the loop. Here the basic blocks of each
function are ranked so that a block comes before those it leads to, and the whole of a loop before
what follows it; so lanes that have left a loop wait for those still in it, as on a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
_INSTRUCTION = re.compile(r"^ +([0-9a-f]+):\t(\S+)(?:\s+(.*))?$")
_TARGET = re.compile(r"(?:^|[\s,])([0-9a-f]+) <")
_ENDS = {"ret", "retq", "ud2", "hlt", "brk"}
_ALWAYS = {"jmp", "jmpq", "b"}
_SOMETIMES = re.compile(r"j[a-z]{1,4}|b\.\w+|cbn?z|tbn?z")


@dataclass
class _Block:
    """A stretch of code without jumps inside; `next`: addresses that may follow it."""

    addresses: list[int] = field(default_factory=list)
    next: list[int] = field(default_factory=list)


def ranks(disassembly: str) -> dict[int, int]:
    """Rank of the address of each instruction in objdump's listing; compared within a function."""
    found: dict[int, int] = {}
    for instructions in _functions(disassembly):
        blocks = _reached(_blocks(instructions))
        for start in ordered(list(blocks), {at: block.next for at, block in blocks.items()}):
            for address in blocks[start].addresses:
                found[address] = len(found)
    return found


def _functions(disassembly: str) -> Iterable[list[tuple[int, str, int]]]:
    """(address, mnemonic, jump target or -1) of each function's instructions."""
    current: list[tuple[int, str, int]] = []
    for line in disassembly.splitlines():
        if _FUNCTION.match(line):
            if current:
                yield current
            current = []
        elif parts := _INSTRUCTION.match(line):
            jumps = parts[2] in _ALWAYS or _SOMETIMES.fullmatch(parts[2])
            target = _TARGET.search(parts[3] or "") if jumps else None
            current.append((int(parts[1], 16), parts[2], int(target[1], 16) if target else -1))
    if current:
        yield current


def _blocks(instructions: list[tuple[int, str, int]]) -> dict[int, _Block]:
    """The basic blocks of a function by their first address, in order of addresses."""
    own = {address for address, _, _ in instructions}
    leaders = {instructions[0][0]} | {target for _, _, target in instructions if target in own}
    blocks: dict[int, _Block] = {}
    block = _Block()
    fresh = True
    for place, (address, name, target) in enumerate(instructions):
        if fresh or address in leaders:
            block = blocks[address] = _Block()
        block.addresses.append(address)
        following = instructions[place + 1][0] if place + 1 < len(instructions) else -1
        fresh = name in _ENDS or name in _ALWAYS or bool(_SOMETIMES.fullmatch(name))
        if target in own:
            block.next.append(target)
        falls = name not in _ENDS and name not in _ALWAYS and following >= 0
        if falls and (fresh or following in leaders):
            block.next.append(following)
    return blocks


def _reached(blocks: dict[int, _Block]) -> dict[int, _Block]:
    """The blocks that the first one leads to: padding between blocks is code too, never run."""
    first = next(iter(blocks))
    seen, waiting = {first}, [first]
    while waiting:
        for to in blocks[waiting.pop()].next:
            if to not in seen:
                seen.add(to)
                waiting.append(to)
    return {at: block for at, block in blocks.items() if at in seen}


def ordered(nodes: list[int], following: Mapping[int, list[int]]) -> list[int]:
    """The nodes, each before those that follow it; a loop from its head on, whole, then the rest.

    nodes: the entry first. Loops within loops are ordered in the same way.
    """
    result: list[int] = []
    for component in _components(nodes, following):
        if len(component) == 1:
            result += component
            continue
        inside = set(component)
        entered = {to for node in nodes if node not in inside for to in following[node]}
        head = nodes[0] if nodes[0] in inside else min(entered & inside, default=component[0])
        rest = [head, *(node for node in component if node != head)]
        cut = {node: [to for to in following[node] if to in inside and to != head] for node in rest}
        result += ordered(rest, cut)
    return result


def _components(nodes: list[int], following: Mapping[int, list[int]]) -> list[list[int]]:
    """Strongly connected components in topological order (Kosaraju's two walks)."""
    known = set(nodes)
    finished: list[int] = []
    seen: set[int] = set()
    for root in nodes:
        stack = [(root, iter(following[root]))] if root not in seen else []
        seen.add(root)
        while stack:
            node, rest = stack[-1]
            step = next((to for to in rest if to in known and to not in seen), None)
            if step is None:
                finished.append(node)
                stack.pop()
            else:
                seen.add(step)
                stack.append((step, iter(following[step])))
    before: dict[int, list[int]] = {node: [] for node in nodes}
    for node in nodes:
        for to in following[node]:
            if to in known:
                before[to].append(node)
    components: list[list[int]] = []
    seen = set()
    for root in reversed(finished):
        if root in seen:
            continue
        component, waiting = [], [root]
        seen.add(root)
        while waiting:
            node = waiting.pop()
            component.append(node)
            for other in before[node]:
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        components.append(sorted(component))
    return components
