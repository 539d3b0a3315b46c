"""Stop strings: whichever way the text is cut into tokens, the same end, and no part of one shown."""

from __future__ import annotations

import importlib.util
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hw5_server.servers import HOMEWORK, homework, main, pytestmark, servers


def load_text():
    """serving.server.text by its path: it needs nothing of the homework."""
    spec = importlib.util.spec_from_file_location(
        "hw5_server_text", HOMEWORK / "serving" / "server" / "text.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TEXT = load_text()


def by_characters(text: str, stops: list[str]) -> tuple[str, bool]:
    """What should be shown: read a character at a time, until one completes a stop string."""
    for end in range(1, len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            return text[: end - max(map(len, ended))], True
    return text, False


@given(
    st.text("ab", max_size=14), st.lists(st.text("ab", min_size=1, max_size=4), max_size=4),
    st.lists(st.integers(0, 14), max_size=6),
)  # fmt: skip
def test_the_cut_does_not_depend_on_the_pieces(text, stops, cuts):
    matcher = TEXT.StopMatcher(stops)
    expected, stopped = by_characters(text, stops)
    shown = ""
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for begin, end in itertools.pairwise(places):
        shown += matcher.push(text[begin:end])
        assert expected.startswith(shown), "something was shown that belongs to a stop string"
        # What is held back could still become one: no more waits than must.
        held = text[len(shown) : end]
        assert matcher.stopped or not held or any(stop.startswith(held) for stop in stops)
    assert matcher.stopped == stopped
    assert shown + matcher.flush() == expected


def answer(main, stream=False, **more):
    return main.client.completions.create(
        model="tiny", prompt="Once upon", temperature=0, max_tokens=60, stream=stream,
        extra_body={"ignore_eos": True}, **more,
    )  # fmt: skip


def test_an_answer_ends_before_a_stop_string(main):
    text = answer(main).choices[0].text
    stop = text[20:24]  # of four tokens: the tiny model's are bytes
    cut = text[: text.find(stop)]
    got = answer(main, stop=stop)
    assert got.choices[0].text == cut and got.choices[0].finish_reason == "stop"
    assert got.usage.completion_tokens == len(cut) + len(stop), "tokens up to the stop string count"
    pieces = [chunk.choices[0] for chunk in answer(main, stream=True, stop=["never there", stop])]
    assert "".join(piece.text for piece in pieces) == cut
    assert pieces[-1].finish_reason == "stop"
    main.idle()  # the engine does not go on with it


def test_the_beginning_of_a_stop_string_is_shown_when_it_goes_on_otherwise(main):
    text = answer(main).choices[0].text
    stop = text[-3:] + "~~~~"
    got = answer(main, stop=stop)
    assert got.choices[0].text == text and got.choices[0].finish_reason == "length"
    assert "".join(c.choices[0].text for c in answer(main, stream=True, stop=stop)) == text


def test_a_stop_string_at_the_very_beginning_gives_an_empty_answer(main):
    text = answer(main).choices[0].text
    got = answer(main, stop=text[0])
    assert got.choices[0].text == "" and got.choices[0].finish_reason == "stop"
    chat = main.client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "x"}], temperature=0, max_tokens=5
    ).choices[0].message.content  # fmt: skip
    chunks = list(main.client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "x"}], temperature=0, max_tokens=5,
        stop=chat[0], stream=True,
    ))  # fmt: skip
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", None]
    assert chunks[-1].choices[0].finish_reason == "stop"
