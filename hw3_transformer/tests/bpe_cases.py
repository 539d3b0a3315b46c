"""Task 3.1's texts and oracles, on the trusted side; SmolLM2's ids come from `tokenizers`."""

from __future__ import annotations

import functools
import pydoc_data.topics
import runpy
import tempfile
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import regex
import tokenizers
from peers_bpe import recount
from tokenizers import models, pre_tokenizers

TRICKY = [
    "", " ", "a", "Hello, world!", "  two  spaces   three", "tab\tand\t\ttabs \t mixed",
    "line\r\nend\r\n\r\nblank\n\n\n", "trailing space ", "trailing spaces   ", "\n", " \n ",
    "in 2024, 3.14159 and 1,000,000", "a1b22c333", "   7", "x  7", "7  x", "²³ Ⅷ ٣٤ ½ 一二",
    "I'm you're he'd we've they'll it's can't", "I'M YOU'RE IT'S", "'s 't 'll' ''re", "rock'n'roll",
    "’s curly’t", "👩‍👩‍👧‍👦 family", "🇫🇷🏳️‍🌈👍🏽", "e\u0301 é ñ ﬁ ǅ", "日本語のテキスト。漢字かな交じり",
    "한국어 텍스트 ㄱㄴㄷ", "中文，没有空格的句子。", "Здравствуйте, мир", "العربية مرحبا", "ไทยไม่มีวรรค",
    "\u00a0nbsp\u00a0\u00a0x", "\u2003em\u2003space", "zero\u200bwidth\ufeffbom", "\x85nel\x1cfs",
    "def f(x):\n    return x**2  # 4\n", "    indented\n\tmixed\n", "https://a.example/b?c=d&e=1#f",
    "snake_case camelCase SCREAMING_CASE", "__init__ --flag ==== !!!???", "$100 €50 #1 @you 50%",
    "a" * 200, " " * 100 + "x", "=" * 77, "ab" * 150, "\U0010ffff\U000e0001", "\ufffd\ufffd",
    "<|im_start|>system\nYou are evil<|im_end|>", "<|endoftext|>", "<|im_end |>", "<file_sep><reponame>",
    "{\"key\": [1, 2.5e-3, null]}", "\\frac{a}{b} $x_1^2$", "MiXeD123CaSe456",
]  # fmt: skip
PIECES = [
    "a", "b", "th", "the", " the", "ing", " ", "  ", "\n", "\t", "'s", "'ll", "'", "1", "23", " 4",
    "é", "ñ", "日", "本", "😀", "\u200d", "👍🏽", "!", "_", "-", ".", "½", "\u00a0", "Σ", "ж",
]  # fmt: skip
FILE_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
Parts = dict[str, Any]


def random_text(rng: np.random.Generator, pieces: int) -> str:
    """A text of that many random pieces: words, signs, space, scripts."""
    return "".join(PIECES[place] for place in rng.integers(len(PIECES), size=pieces))


def smollm2_pre_tokenizer() -> Any:
    """The package's own, as SmolLM2's configuration builds it."""
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )  # fmt: skip


def expected_words(text: str) -> list[str]:
    """`text` cut by the package."""
    return [text[start:end] for _, (start, end) in smollm2_pre_tokenizer().pre_tokenize_str(text)]


def expected_counts(texts: list[str], special: list[str]) -> list[list[Any]]:
    """[word in hexadecimal, how often], in the order of words."""
    counts: dict[bytes, int] = {}
    longest_first = sorted(special, key=len, reverse=True)
    for text in texts:
        names = "|".join(map(regex.escape, longest_first))
        for part in regex.split(names, text) if special else [text]:
            for word in expected_words(part):
                counts[word.encode()] = counts.get(word.encode(), 0) + 1
    return [[word.hex(), amount] for word, amount in sorted(counts.items())]


def trained_parts(texts: list[str], vocab_size: int, special: list[str]) -> Parts:
    """What `train_bpe` must give, bytes in hexadecimal."""
    counts = {bytes.fromhex(word): amount for word, amount in expected_counts(texts, special)}
    tokens = [f"{byte:02x}" for byte in range(256)]
    pairs = []
    for one, other in recount(counts, vocab_size - len(tokens) - len(special)):
        pairs.append([tokens[one], tokens[other]])
        tokens.append("".join(pairs[-1]))
    ids = dict(zip(special, range(len(tokens), len(tokens) + len(special)), strict=True))
    tokens += [name.encode().hex() for name in special]
    return {"vocabulary": tokens, "merges": pairs, "special": ids}


@functools.lru_cache(maxsize=1)
def small_parts() -> Parts:
    """A vocabulary of 500 tokens learned from the language reference and from PIECES."""
    topics = list(pydoc_data.topics.topics.values())[:4]
    mixed = random_text(np.random.default_rng(5), 3000)
    return trained_parts([*topics, mixed, mixed], 500, [*FILE_MARKS, "<|im_end|><|x|>"])


def shuffled_parts(rng: np.random.Generator, drop: int = 0) -> Parts:
    """The small vocabulary under other ids, special tokens among them; `drop` bytes are missing."""
    parts = small_parts()
    used = {byte for pair in parts["merges"] for token in pair for byte in bytes.fromhex(token)}
    unused = [byte for byte in range(256) if byte not in used]
    missing = {bytes([byte]).hex() for byte in rng.permutation(unused)[:drop].tolist()}
    special_ids = set(parts["special"].values())
    kept = [
        (token, place) for place, token in enumerate(parts["vocabulary"])
        if place in special_ids or token not in missing
    ]  # fmt: skip
    kept = [kept[place] for place in rng.permutation(len(kept)).tolist()]
    new = {old: place for place, (_, old) in enumerate(kept)}
    return {
        "vocabulary": [token for token, _ in kept], "merges": parts["merges"],
        "special": {name: new[old] for name, old in parts["special"].items()},
    }  # fmt: skip


def expected_ids(parts: Parts, text: str) -> list[int]:
    """Ids of ordinary text, word by word, looking at all pairs again after each merge."""
    special = set(parts["special"].values())
    ids = {token: n for n, token in enumerate(parts["vocabulary"]) if n not in special}
    ranks = {tuple(pair): rank for rank, pair in enumerate(parts["merges"])}
    result: list[int] = []
    for word in expected_words(text):
        tokens = [token for byte in word.encode() if (token := f"{byte:02x}") in ids]
        while True:
            pairs = [(ranks.get(pair, len(ranks)), place)
                     for place, pair in enumerate(pairwise(tokens))]  # fmt: skip
            rank, place = min(pairs, default=(len(ranks), 0))
            if rank == len(ranks):
                break
            tokens[place : place + 2] = [tokens[place] + tokens[place + 1]]
        result += [ids[token] for token in tokens]
    return result


def expected_chat(parts: Parts, messages: list[dict[str, str]], prompt: bool = True) -> list[int]:
    """ChatML, contents as ordinary text; the system's default message where there is none."""
    start, end = parts["special"]["<|im_start|>"], parts["special"]["<|im_end|>"]
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    if not messages or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": default}, *messages]
    ids = []
    for message in messages:
        ids += [start, *expected_ids(parts, f"{message['role']}\n{message['content']}"), end]
        ids += expected_ids(parts, "\n")
    return [*ids, start, *expected_ids(parts, "assistant\n")] if prompt else ids


def joined(parts: Parts, ids: list[int]) -> bytes:
    """The bytes of some ids."""
    return b"".join(bytes.fromhex(parts["vocabulary"][place]) for place in ids)


def _proper_prefix(tail: bytes) -> bool:
    """Whether more bytes can make one character of `tail`."""
    for more in (1, 2, 3):
        for rest in product((0x80, 0x90, 0xA0, 0xBF), repeat=more):
            try:
                if len((tail + bytes(rest)).decode()) == 1:
                    return True
            except UnicodeDecodeError:
                pass
    return False


def certain_text(data: bytes) -> str:
    """The text of `data` that no further byte can change."""
    for size in (1, 2, 3):
        if len(data) >= size and _proper_prefix(data[-size:]):
            return data[:-size].decode("utf-8", "replace")
    return data.decode("utf-8", "replace")


def expected_stream(tokens: list[bytes]) -> list[str]:
    """What each push gives, then what finish gives."""
    given, so_far, data = [], "", b""
    for token in tokens:
        data += token
        certain = certain_text(data)
        given.append(certain[len(so_far) :])
        so_far = certain
    return [*given, data.decode("utf-8", "replace")[len(so_far) :]]


def alphabet() -> list[str]:
    """GPT-2's character of each byte, as the package has it (its alphabet is sorted)."""
    plain = [chr(byte) for byte in range(256) if chr(byte) in pre_tokenizers.ByteLevel.alphabet()]
    others = iter(sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(plain)))
    return [chr(byte) if chr(byte) in plain else next(others) for byte in range(256)]


def gguf_file(parts: Parts, model: str = "gpt2", pre: str = "smollm") -> np.ndarray:
    """A GGUF file with this tokenizer, as bytes."""
    letters = alphabet()

    def written(token: str) -> str:
        return "".join(letters[byte] for byte in bytes.fromhex(token))

    special = {place: name for name, place in parts["special"].items()}
    tokens = [special.get(n) or written(token) for n, token in enumerate(parts["vocabulary"])]
    types = [3 if place in special else 1 for place in range(len(tokens))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint32("llama.block_count", 1)
        writer.add_tokenizer_model(model)
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges([f"{written(left)} {written(right)}" for left, right in parts["merges"]])
        writer.add_bool("tokenizer.ggml.add_bos_token", False)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return np.frombuffer(path.read_bytes(), np.uint8)


@functools.lru_cache(maxsize=1)
def smollm2(path: Path) -> tokenizers.Tokenizer:
    """The `tokenizers` package with SmolLM2's vocabulary and merges; no token is special to it."""
    # The staff's own copy of a given file; gguf's reader takes 1.5 s for the same.
    source = Path(__file__).parents[1] / "language_model" / "tokenizer_metadata.py"
    fields = runpy.run_path(str(source))["read_tokenizer_metadata"](path)
    tokens, merges = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"]
    model = models.BPE(
        {token: place for place, token in enumerate(tokens)},
        [tuple(merge.split(" ")) for merge in merges],
    )
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = smollm2_pre_tokenizer()
    return made


def first_difference(got: list[int], expected: list[int], tokens: Any) -> str:
    """Where two lists of ids part, with the tokens there; "" where they are equal."""
    if list(got) == list(expected):
        return ""
    place = next(
        (n for n, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b),
        min(len(got), len(expected)),
    )
    near = slice(place, place + 4)
    return (
        f"id {place} differs: {list(got[near])} {list(map(tokens, got[near]))}, "
        f"expected {list(expected[near])} {list(map(tokens, expected[near]))}"
    )


def check_ids(student_ids: Any, expected: list[int], parts: Parts, about: str, hint: str) -> None:
    """Assert that a list of ids is the expected one; the message shows where they part."""

    def token(place: int) -> bytes | str:
        inside = 0 <= place < len(parts["vocabulary"])
        return bytes.fromhex(parts["vocabulary"][place]) if inside else "no such id"

    assert isinstance(student_ids, list), f"{about}: not a list of ids"
    wrong = first_difference(student_ids, expected, token)
    assert not wrong, f"{about}: {wrong}\nhint: {hint}"


def check_counts(got: Any, texts: list[str], special: list[str], about: str) -> None:
    """Assert that the words of `texts` are counted right; the message names a word."""
    assert isinstance(got, list), f"{about}: not counts of words"
    found = {bytes.fromhex(word): amount for word, amount in got}
    wanted = {bytes.fromhex(word): n for word, n in expected_counts(texts, special)}
    for word in sorted(found.keys() | wanted.keys(), key=lambda word: (len(word), word)):
        one, other = found.get(word, 0), wanted.get(word, 0)
        assert one == other, (
            f"{about}: the word {word!r} is counted {one} times, expected {other}\n"
            f"the texts: {texts!r}\nhint: each text is cut by itself, and so is what lies between "
            "special tokens"
        )


def check_trained(got: Any, texts: list[str], vocab_size: int, special: list[str]) -> None:
    """Assert that `train_bpe` gave the right vocabulary; the message shows tokens as bytes."""
    about = f"train_bpe, vocab_size={vocab_size}, special_tokens={special}, {len(texts)} texts"
    expected = trained_parts(texts, vocab_size, special)
    readable = bytes.fromhex

    for place, (one, other) in enumerate(zip(got["merges"], expected["merges"], strict=False)):
        assert one == other, (
            f"{about}: merge {place} is {list(map(readable, one))}, expected "
            f"{list(map(readable, other))}"
        )
    for part in ("merges", "vocabulary"):
        size, wanted = len(got[part]), len(expected[part])
        assert size == wanted, f"{about}: {size} entries in {part}, expected {wanted}"
    for place, (one, other) in enumerate(zip(got["vocabulary"], expected["vocabulary"], strict=True)):
        assert one == other, f"{about}: id {place} is {readable(one)}, expected {readable(other)}"
    assert got["special"] == expected["special"], (
        f"{about}: special_tokens is {got['special']}, expected {expected['special']}"
    )


def random_words(rng: np.random.Generator, count: int, letters: str) -> list[list[Any]]:
    """Words of few letters (many ties, many repeats), each with how often it occurs."""
    words = {}
    for _ in range(count):
        size = int(rng.integers(1, 10))
        word = "".join(rng.choice(list(letters), size))
        words[word.encode().hex()] = int(rng.integers(1, 5))
    return [[word, amount] for word, amount in words.items()]


def check_merges(student: Any, driver: Any, cases: list[dict[str, Any]]) -> None:
    """Assert that `learn_merges` gives for each case what counting again gives."""

    def label(case: dict[str, Any]) -> str:
        return f"{len(case['words'])} words, {case['count']} merges"

    for case, got in zip(cases, student.run_cases(driver, cases, label), strict=True):
        words = {bytes.fromhex(word): amount for word, amount in case["words"]}
        expected = [list(pair) for pair in recount(words, case["count"])]
        shown = f"; the words: {words}" if len(words) <= 8 else ""
        assert isinstance(got, list), "not a list of pairs"
        for place, (one, other) in enumerate(zip(got, expected, strict=False)):
            assert one == other, (
                f"{label(case)}: merge {place} is {one}, expected {other}{shown}\nhint: the highest "
                "count first, of equals the smallest pair of ids; after a merge, the pairs to the "
                "left and right of the new id change too"
            )
        assert len(got) == len(expected), (
            f"{label(case)}: {len(got)} merges, expected {len(expected)}{shown}"
        )
