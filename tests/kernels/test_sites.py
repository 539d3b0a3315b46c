"""Each barrier and warp function of a line is told apart, and lines come back as they were."""

from __future__ import annotations

import pytest

from autograder.kernels.edits import MARKER, Edit, apply
from autograder.kernels.errors import BuildError
from autograder.kernels.screen import words
from autograder.kernels.sites import LINES, MOST_OF_A_LINE, meeting_places, true_line
from autograder.kernels.tokens import tokenize


def numbered(text: str, others: tuple[Edit, ...] = ()) -> dict[str, list[int]]:
    """Names -> the lines that a compiler gives to each place where they stand."""
    edits = meeting_places(tokenize(text, "k.cu").tokens, others)
    changed = apply(text, edits)
    assert MARKER.sub("", changed).replace("\n", "") == text.replace("\n", ""), "other text changed"
    found: dict[str, list[int]] = {}
    line = 1
    for part in changed.split("\n"):
        if marker := MARKER.fullmatch(part):
            line = int(marker[1])
            continue
        for token in tokenize(part, "k.cu").tokens:
            if token.kind == "name":
                found.setdefault(token.text, []).append(line)
        line += 1
    return found


CASES = {
    "__syncthreads();\n__syncthreads();": [1, 2],
    "if (a) __syncthreads(); else __syncthreads(); last;": [1, 1 + LINES],
    "__syncthreads(); __syncthreads(); __syncthreads();": [1, 1 + LINES, 1 + 2 * LINES],
    "first;\n{ __syncthreads(); } { __syncthreads(\n); last; }": [2, 2 + LINES],
    "b ? __syncthreads() : f(__syncthreads());": [1, 1 + LINES],
}


@pytest.mark.parametrize("text", CASES)
def test_barriers_of_a_line_have_numbers_of_their_own(text):
    found = numbered(text)
    assert found["__syncthreads"] == CASES[text]
    assert [true_line(line) for line in CASES[text]] == [line % LINES for line in CASES[text]]
    for name, line in (("last", text.count("\n") + 1), ("first", 1)):
        assert found.get(name, [line]) == [line], "what stands around keeps its line"


def test_a_call_within_a_call_leaves_the_outer_one_its_number():
    found = numbered("x = __any_sync(m, __shfl_sync(m,\na, __popc(b)), c); __shfl_sync(m, d, e);\nf;")
    assert found["__any_sync"] == [1]
    assert found["__shfl_sync"] == [1 + LINES, 2]
    assert found["a"] == [2 + LINES] and found["c"] == [2] and found["f"] == [3]


def test_a_method_is_marked_from_its_object_on():
    found = numbered("a.sync(); (*b).sync(); c::d<3>(e)->sync(); g[h].sync(); i; cg::sync(j);")
    assert [found[name][0] // LINES for name in "abcgij"] == [0, 1, 2, 3, 0, 4]


def test_what_is_replaced_is_left_alone():
    text = "x = f(any(a), any(b)); any(c);"
    place = text.index("any(b)")
    assert numbered(text, (Edit(place, place + 3, "z"),))["any"] == [1, 1, 1 + 2 * LINES]


def test_only_calls_are_numbered_and_not_without_end():
    assert numbered("int sync, any; sync = all; sync < any > all; Sum{} + Sum{};")["sync"] == [1, 1, 1]
    with pytest.raises(BuildError, match="too many barriers"):
        meeting_places(tokenize("__syncwarp();" * (MOST_OF_A_LINE + 1), "k.cu").tokens)


@pytest.mark.parametrize(
    "text", ["auto f = &__syncthreads;", "f(__shfl_sync<float>);", "f(&cg::thread_block::sync);",
             "f(cg::thread_block::sync);", "__syncthreads(x);", "__shfl_sync(a, b, c, d, e);",
             "f(sync<cg::thread_block>);", "decltype(__syncwarp) g;", "f(&T::shfl_down<int>);"],
)  # fmt: skip
def test_meeting_places_are_only_called(text):
    with pytest.raises(BuildError, match=r"^k\.cu:2: \w+ (can only be called|takes )"):
        words(tokenize(f"int first;\n{text}", "k.cu").tokens, after_macros=True)


def test_ordinary_calls_and_names_pass():
    text = """using cg::sync; bool all = x < y, any = a.any(b); Kind k = Kind::all; int sync = 3 < all;
    __shfl_down_sync(m, v, 1); __shfl_sync<float>(m, v, 0, 16); cg::sync<B>(b); t.shfl(a, b); sync;"""
    words(tokenize(text, "k.cu").tokens, after_macros=True)
