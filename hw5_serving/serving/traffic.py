"""Given: made-up traffic for a server, the same at every run: who comes when, asking what.

Open loop: people come when they come, however long the others wait (a closed loop, where each client
asks again when it has its answer, hides a slow server by asking less). Arrivals are a Poisson process.
Four answers of five are short and one is long; prompts share prefixes, as those of one application
share its system prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WORDS = [
    "the", "a", "river", "stone", "light", "under", "over", "winter", "summer", "paper",
    "engine", "quiet", "little", "great", "old", "new", "open", "door", "window", "garden",
    "road", "mountain", "sea", "ship", "letter", "number", "question", "answer", "people",
    "child", "teacher", "music", "bread", "water", "fire", "cloud", "rain", "bird", "horse",
    "tree", "leaf", "root", "hand", "eye", "voice", "morning", "evening", "city", "village",
    "market", "bridge", "tower", "clock", "mirror", "story", "word", "name", "song", "field",
    "island",
]  # fmt: skip


@dataclass(frozen=True)
class Arrival:
    """One request: seconds after the start, prompt, length of the answer, number of the prefix."""

    at: float
    prompt: str
    tokens: int
    prefix: int
    user: str


@dataclass(frozen=True)
class Mix:
    """What the traffic is made of. rate: requests a second, on average."""

    requests: int = 60
    rate: float = 2.0
    short: int = 16
    long: int = 128
    long_share: float = 0.2
    prefixes: int = 4
    prefix_words: int = 60
    own_words: int = 12
    users: int = 40
    seed: int = 0


def make_traffic(mix: Mix) -> list[Arrival]:
    """The requests, in the order in which they come. ValueError for a mix that makes no sense."""
    if min(mix.requests, mix.short, mix.long, mix.prefixes, mix.own_words, mix.users) < 1:
        raise ValueError(f"{mix}: counts must be 1 or more")
    if not mix.rate > 0 or not 0 <= mix.long_share <= 1 or mix.prefix_words < 0:
        raise ValueError(f"{mix}: a rate above 0 and shares in [0, 1] are needed")
    random = np.random.default_rng(mix.seed)

    def words(count: int) -> str:
        return " ".join(WORDS[place] for place in random.integers(len(WORDS), size=count))

    prefixes = [words(mix.prefix_words) for _ in range(mix.prefixes)]
    times = np.cumsum(random.exponential(1 / mix.rate, mix.requests))
    # Exactly the share, in random places: 20% of 60 requests by coin are 12 ± 3.
    long = np.zeros(mix.requests, bool)
    long[: round(mix.long_share * mix.requests)] = True
    random.shuffle(long)
    arrivals = []
    for at, is_long in zip(times, long, strict=True):
        prefix = int(random.integers(mix.prefixes))
        prompt = f"{prefixes[prefix]}. {words(mix.own_words)}".strip(". ")
        user = f"user {random.integers(mix.users)}"
        tokens = mix.long if is_long else mix.short
        arrivals.append(Arrival(float(at), prompt, tokens, prefix, user))
    return arrivals
