"""Marked regions of Python files: found with `tokenize`, judged with `ast`."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.course.marks import Comment, MarkError, Region, Replacement, pair_marks

_LAYOUT = (
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
)  # fmt: skip
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class _Block:
    """A list of statements, and where it stands.

    `chain` are the ids of the enclosing statement lists up to the function, itself last.
    """

    body: list[ast.stmt]
    function: _Function | None
    name: str
    chain: tuple[int, ...]


def replacements(
    text: str, path: Path | str, tasks: Collection[str] | None
) -> list[Replacement]:
    """What to put in the place of each marked region; raises MarkError."""
    try:
        tree = ast.parse(text)
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except SyntaxError as error:
        raise MarkError(f"{path}:{error.lineno or 1}: {error.msg}; correct the solution") from None
    except (tokenize.TokenError, ValueError) as error:
        raise MarkError(f"{path}:1: cannot be read as Python: {error}") from None
    regions = pair_marks(_comments(tokens, text.split("\n")), "#", path, tasks)
    code_lines = [(t.start[0], t.end[0]) for t in tokens if t.type not in _LAYOUT]
    blocks = list(_blocks(tree))
    first_of: dict[_Function, tuple[Region, _Block]] = {}
    found = []
    for region in regions:
        block = _block_of(region, blocks, code_lines, path)
        assert block.function is not None
        first = first_of.setdefault(block.function, (region, block))
        if first[0] is region:
            what = f"task {region.task}: {block.name}"
            found.append(Replacement(region, f'raise NotImplementedError("{what}")'))
        else:
            _check_later(region, block, first, path)
            found.append(Replacement(region, ""))
    return found


def _comments(tokens: list[tokenize.TokenInfo], lines: list[str]) -> list[Comment]:
    return [
        Comment(*t.start, t.string[1:], not lines[t.start[0] - 1][: t.start[1]].strip())
        for t in tokens
        if t.type == tokenize.COMMENT
    ]


def _blocks(tree: ast.Module) -> Iterator[_Block]:
    """Every list of statements in the module."""
    waiting: list[tuple[ast.AST, _Function | None, str, tuple[int, ...]]] = [(tree, None, "", ())]
    while waiting:
        node, function, name, chain = waiting.pop()
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            children = getattr(node, field, None)
            if not isinstance(children, list) or not children:
                continue
            if field in ("handlers", "cases"):  # not statements, but they hold some
                waiting.extend((child, function, name, chain) for child in children)
                continue
            block = _Block(children, function, name, (*chain, id(children)))
            yield block
            for child in children:
                if isinstance(child, _Function):
                    waiting.append((child, child, _dotted(name, child.name), ()))
                elif isinstance(child, ast.ClassDef):
                    waiting.append((child, function, _dotted(name, child.name), block.chain))
                else:
                    waiting.append((child, function, name, block.chain))


def _dotted(outer: str, name: str) -> str:
    return f"{outer}.{name}" if outer else name


def _first_line(statement: ast.stmt) -> int:
    """A decorated definition begins with its first decorator."""
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _block_of(
    region: Region,
    blocks: list[_Block],
    code_lines: list[tuple[int, int]],
    path: Path | str,
) -> _Block:
    """The block whose statements the region holds, whole, and nothing else."""
    where = f"{path}:{region.begin}"
    inside = [span for span in code_lines if region.begin < span[0] < region.end]
    if not inside:
        raise MarkError(f"{where}: nothing stands between these marks; remove them")
    for block in blocks:
        held = [
            statement
            for statement in block.body
            if region.begin < _first_line(statement) and (statement.end_lineno or 0) < region.end
        ]
        # The outermost block comes first, so what it holds can't be part of a larger statement.
        if not held:
            continue
        first, last = _first_line(held[0]), held[-1].end_lineno or 0
        if any(start < first or end > last for start, end in inside):
            break
        if block.function is None:
            raise MarkError(
                f"{where}: marks stand inside a function, so that the stub can say which one is "
                "to be written; move them into one"
            )
        if held[0].col_offset != region.column:
            raise MarkError(f"{where}: indent this mark like the line below it")
        return block
    raise MarkError(f"{where}: marks go around whole statements of one block; move them")


def _check_later(
    region: Region, block: _Block, first: tuple[Region, _Block], path: Path | str
) -> None:
    """A second region vanishes, which is right only if the first one's raise always precedes it."""
    where = f"{path}:{region.begin}"
    if region.task != first[0].task:
        raise MarkError(
            f"{where}: {block.name} already belongs to task {first[0].task} (line "
            f"{first[0].begin}); split the function, or use one task number"
        )
    if first[1].chain[-1] not in block.chain:
        raise MarkError(
            f"{where}: the stub could pass by the first mark of {block.name} (line "
            f"{first[0].begin}); put one pair of marks around both"
        )
