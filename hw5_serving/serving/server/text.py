"""Tokens to text as they come, and stop strings, whichever way tokens cut them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class TextStream(Protocol):
    """Text of tokens that come one after the other; half a character waits for its rest."""

    def push(self, token: int) -> str: ...

    def flush(self) -> str: ...


class Tokenizer(Protocol):
    """What the server needs of a tokenizer: `serving.tokenizer.Tokenizer`, or `tiny.ByteTokenizer`."""

    stop_ids: tuple[int, ...]
    vocab_size: int

    def encode(self, text: str) -> list[int]: ...

    def chat(self, messages: list[dict[str, str]]) -> list[int]: ...

    def stream(self) -> TextStream: ...


class StopMatcher:
    """Cuts a text before the stop string that is complete first; never gives out a part of one.

    Where several are complete at the same character, the one that began first counts. What comes out
    depends on the text alone, not on the pieces in which it came.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = list(stops)
        self.stopped = False
        self._held = ""

    def push(self, piece: str) -> str:
        """What may be shown after `piece` came; the rest waits. "" once it has stopped."""
        if self.stopped:
            return ""
        if not self.stops:
            return piece
        text = self._held + piece
        found = [(text.find(stop) + len(stop), -len(stop)) for stop in self.stops if stop in text]
        if found:
            self.stopped, self._held = True, ""
            end, minus = min(found)
            return text[: end + minus]
        keep = max(_overlap(text, stop) for stop in self.stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What waited, at the end of the answer: it became no stop string."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, but not all of it."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)


class AnswerText:
    """An answer's text: special tokens left out, cut at a stop string, tokens counted."""

    def __init__(
        self, stream: TextStream, stops: Sequence[str], end_ids: Iterable[int] = ()
    ) -> None:
        self.matcher = StopMatcher(stops)
        self.tokens = 0
        self._stream = stream
        self._end_ids = frozenset(end_ids)

    def push(self, tokens: Iterable[int]) -> str:
        """The text that is certain after these tokens; those after a stop string don't count."""
        text = ""
        for token in tokens:
            if self.matcher.stopped:
                break
            self.tokens += 1
            if token not in self._end_ids:
                text += self.matcher.push(self._stream.push(token))
        return text

    def finish(self) -> str:
        """The rest: what was half a character, or the beginning of a stop string."""
        return self.matcher.push(self._stream.flush()) + self.matcher.flush()
