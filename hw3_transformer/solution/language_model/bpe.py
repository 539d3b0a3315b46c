"""Task 3.1: learning a byte-level BPE vocabulary.

    trained = train_bpe(documents, vocab_size=4096, special_tokens=["<|endoftext|>"])
    tokenizer = Tokenizer(trained.vocabulary, trained.merges, trained.special_tokens)

Sennrich, Haddow, Birch 2016 (https://arxiv.org/abs/1508.07909) for the merging; GPT-2 for bytes as
the alphabet and for the pattern that cuts text into words.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import regex

# GPT-2's: English contractions, then letters, numbers or other signs with one space before them,
# then space. `\s+(?!\S)` leaves the last space of a run to the word behind it.
GPT2_PATTERN = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# One character that counts as a number: 7, but also ², Ⅷ and ٣.
NUMBER = regex.compile(r"(\p{N})")


@dataclass(frozen=True)
class TrainedBPE:
    """A vocabulary and how its tokens are put together.

    vocabulary: the bytes of each id: 256 single bytes, one token per merge, the special tokens.
    merges: (left, right) in the order learned; merge number i made token 256 + i.
    special_tokens: text -> id.
    """

    vocabulary: list[bytes]
    merges: list[tuple[bytes, bytes]]
    special_tokens: dict[str, int] = field(default_factory=dict)


def valid_text(text: str) -> str:
    """`text` with surrogate pairs joined, and U+FFFD for a lone surrogate, which has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def split_at_special_tokens(text: str, special_tokens: Iterable[str]) -> Iterator[str]:
    """Ordinary text and special tokens in turn, starting and ending with text (perhaps "").

    Where two special tokens begin at the same place, the longer one is taken.
    """
    names = sorted(special_tokens, key=len, reverse=True)
    if not names:
        return iter([text])
    return iter(regex.split("(" + "|".join(map(regex.escape, names)) + ")", text))


def pre_tokenize(text: str) -> list[str]:
    """The words that BPE works in, as SmolLM2 cuts them; their concatenation is `text`.

    First every number character (`NUMBER`) becomes a word of its own, then `GPT2_PATTERN` cuts each
    piece between them, as if there were no other text. "in 2024!" -> "in", " ", "2", "0", "2",
    "4", "!".
    """
    # BEGIN SOLUTION 3.1
    words: list[str] = []
    for piece in NUMBER.split(text):
        words += GPT2_PATTERN.findall(piece)
    return words
    # END SOLUTION


def count_words(texts: str | Iterable[str], special_tokens: Iterable[str] = ()) -> Counter[bytes]:
    """How often each word, as UTF-8, occurs in one text or in several.

    texts: read once, one text in memory at a time. A special token is no word, and no word reaches
    across one. Text goes through `valid_text` first.
    """
    # BEGIN SOLUTION 3.1
    special_tokens = list(special_tokens)
    counts: Counter[str] = Counter()
    for text in [texts] if isinstance(texts, str) else texts:
        parts = split_at_special_tokens(valid_text(text), special_tokens)
        for place, part in enumerate(parts):
            if place % 2 == 0:
                counts.update(pre_tokenize(part))
    return Counter({word.encode(): count for word, count in counts.items()})
    # END SOLUTION


def learn_merges(words: Mapping[bytes, int], count: int) -> list[tuple[int, int]]:
    """The first `count` merges for these words (word -> how often): pairs of ids.

    Ids 0 to 255 are the bytes; merge number i makes id 256 + i. Each step takes the pair of
    neighbouring ids that occurs most often over all words (each place counts once per occurrence of
    the word; in "aaa" the pair (a, a) occurs twice); of equals, the smallest pair, that is the
    smaller left id, then the smaller right id. Inside a word it is merged from left to right.
    Ends early when no word has two ids left.

    Cost: a merge must look only at the words that hold its pair. Counting all words again for each
    merge is 8 times too slow for full marks.
    """
    # BEGIN SOLUTION 3.1
    sequences = [list(word) for word in words]
    amounts = list(words.values())
    pair_counts: defaultdict[tuple[int, int], int] = defaultdict(int)
    holders: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for place, (sequence, amount) in enumerate(zip(sequences, amounts, strict=True)):
        for pair in pairwise(sequence):
            pair_counts[pair] += amount
            holders[pair].add(place)
    # Counts of pairs that are in the heap only fall, so an entry promises too much, never too
    # little: one that does is put back with what is true.
    heap = [(-amount, pair) for pair, amount in pair_counts.items()]
    heapq.heapify(heap)
    merges: list[tuple[int, int]] = []
    while len(merges) < count and heap:
        promised, best = heapq.heappop(heap)
        true = pair_counts[best]
        if -promised != true:
            if true > 0:
                heapq.heappush(heap, (-true, best))
            continue
        if true <= 0:
            continue
        made = 256 + len(merges)
        merges.append(best)
        changed: defaultdict[tuple[int, int], int] = defaultdict(int)
        for place in holders.pop(best):
            before, amount = sequences[place], amounts[place]
            after = merge_pair(before, best, made)
            if len(after) == len(before):
                continue  # an earlier merge took this word's occurrences
            sequences[place] = after
            for pair in pairwise(before):
                changed[pair] -= amount
            for pair in pairwise(after):
                changed[pair] += amount
                if made in pair:
                    holders[pair].add(place)
        for pair, difference in changed.items():
            if difference:
                pair_counts[pair] += difference
                if made in pair:
                    heapq.heappush(heap, (-pair_counts[pair], pair))
    return merges
    # END SOLUTION


def merge_pair(ids: Sequence[int], pair: tuple[int, int], made: int) -> list[int]:
    """`ids` with every occurrence of `pair`, from left to right, replaced by `made`."""
    # BEGIN SOLUTION 3.1
    left, right = pair
    result: list[int] = []
    place, last = 0, len(ids) - 1
    while place <= last:
        if ids[place] == left and place < last and ids[place + 1] == right:
            result.append(made)
            place += 2
        else:
            result.append(ids[place])
            place += 1
    return result
    # END SOLUTION


def train_bpe(
    texts: str | Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()
) -> TrainedBPE:
    """A vocabulary of `vocab_size` tokens at most, learned from one text or several.

    Ids: the bytes 0 to 255, then one token per merge (`learn_merges` on `count_words`), then the
    special tokens in the order given, so that the last id is the last special token also where the
    texts hold fewer merges than asked for. Raises ValueError if there is no room for the bytes and
    the special tokens, or if a special token is empty or there twice.
    """
    # BEGIN SOLUTION 3.1
    room = vocab_size - 256 - len(special_tokens)
    if room < 0:
        raise ValueError(
            f"vocab_size {vocab_size} has no room for 256 bytes and {len(special_tokens)} special "
            "tokens"
        )
    if "" in special_tokens or len(set(special_tokens)) < len(special_tokens):
        raise ValueError(f"a special token is empty or there twice: {list(special_tokens)}")
    vocabulary = [bytes([byte]) for byte in range(256)]
    merges = []
    for left, right in learn_merges(count_words(texts, special_tokens), room):
        merges.append((vocabulary[left], vocabulary[right]))
        vocabulary.append(vocabulary[left] + vocabulary[right])
    special = {name: len(vocabulary) + place for place, name in enumerate(special_tokens)}
    return TrainedBPE([*vocabulary, *(name.encode() for name in special)], merges, special)
    # END SOLUTION
