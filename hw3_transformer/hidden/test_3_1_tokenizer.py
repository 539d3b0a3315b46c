"""Hidden tests of task 3.1: long texts and words, missing bytes, broken UTF-8, refusals."""

from __future__ import annotations

import os
import pydoc_data.topics
from pathlib import Path

import drivers_bpe as drivers
import numpy as np
import regex
from bpe_cases import (
    TRICKY,
    check_ids,
    expected_chat,
    expected_ids,
    expected_stream,
    first_difference,
    gguf_file,
    joined,
    random_text,
    shuffled_parts,
    small_parts,
    smollm2,
    trained_parts,
)
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure, assert_equal, packaged

MEGABYTE = 1_000_000


@number("3.1")
@weight(0.75)
def test_smollm2_on_a_megabyte(student, rng):
    """SmolLM2's ids of a megabyte of prose, source code and odd strings; back to the same text."""
    path = packaged("smollm2")
    text = "\n".join(pydoc_data.topics.topics.values())
    sources = sorted(Path(os.__file__).parent.glob("*.py"))
    for place in rng.permutation(len(sources)):
        text += sources[place].read_text("utf-8", "replace")
        text += random_text(rng, 50) + TRICKY[int(rng.integers(len(TRICKY)))]
        if len(text) >= MEGABYTE:
            break
    text = text[:MEGABYTE].replace("\U0010ffff", "")
    oracle = smollm2(path)
    expected = oracle.encode(text).ids
    tokenizer = student.session(drivers.Text, path=str(path))
    got = tokenizer.call("encode_bytes", data=np.frombuffer(text.encode(), np.uint8))
    assert isinstance(got, np.ndarray), "not ids"
    wrong = first_difference(got.tolist(), expected, oracle.id_to_token)
    assert not wrong, f"SmolLM2's ids of a long text: {wrong}"
    back = tokenizer.call("decode_array", ids=np.array(expected[: len(expected) // 4], np.int32))
    start = text.encode()[: len(back)]
    assert len(back) > MEGABYTE // 8 and back.tobytes() == start, "decode is not the text again"


@number("3.1")
@weight(0.75)
def test_a_long_word_costs_no_square(student, rng):
    """One word of 4,096 letters costs at most 3 times the CPU time of eight words of 512."""
    letters = np.frombuffer(b"abcd", np.uint8)
    parts = trained_parts(["".join(rng.choice(list("abcd"), 300))], 256 + 40, [])
    tokenizer = student.session(drivers.Text, **parts)
    tokenizer.call("encode_lengths", data=letters, size=4)
    ratios = []
    for _ in range(3):
        spent = []
        data = rng.choice(letters, 4096)
        for size in (512, 4096):
            before = student.worker.cpu_seconds()
            got = tokenizer.call("encode_lengths", data=data, size=size)
            spent.append(student.worker.cpu_seconds() - before)
            assert len(got) == 4096 // size, "not one length for each word"
        ratios.append(spent[1] / spent[0])
        if ratios[-1] <= 3:
            break
    student.measure(Measure(name="one long word / eight short ones", value=min(ratios), full=3))
    assert min(ratios) <= 3, (
        f"a word 8 times as long costs {8 * min(ratios):.0f} times as much: keep the pairs of a "
        "word in a heap, and its tokens in a linked list"
    )
    word = data.tobytes().decode()[:1500]
    (got,) = tokenizer.call("encode", texts=[word])
    check_ids(got, expected_ids(parts, word), parts, "encode of a word of 1500 letters", "")


@number("3.1")
@weight(0.5)
def test_missing_bytes_surrogates_and_long_special_tokens(student, rng):
    """encode leaves bytes out that the vocabulary lacks, and replaces lone surrogates."""
    parts = shuffled_parts(rng, drop=12)
    held = {token for token in parts["vocabulary"] if len(token) == 2}
    lost = [byte for byte in range(256) if f"{byte:02x}" not in held]
    tokenizer = student.session(drivers.Text, **parts)
    texts = [f"!{chr(byte)}!{chr(byte)}th{chr(byte)}e" for byte in lost]
    texts += [random_text(rng, 30) for _ in range(20)]
    for text, got in zip(texts, tokenizer.call("encode", texts=texts), strict=True):
        check_ids(got, expected_ids(parts, text), parts, f"encode({text!r}), bytes missing", "")
    odd = [[0xD83D], [97, 0xDC00, 98], [0xD83D, 0xDE00], [0xDE00, 0xD83D, 49]]
    plain = ["\ufffd", "a\ufffdb", "😀", "\ufffd\ufffd1"]
    for points, text, got in zip(odd, plain, tokenizer.call("encode", texts=odd), strict=True):
        check_ids(got, expected_ids(parts, text), parts, f"encode of code points {points}", "")
    text, special = "x<|im_end|><|x|>y<|im_end|><|x", parts["special"]
    (got,) = tokenizer.call("encode", texts=[text], allowed="all")
    expected = [*expected_ids(parts, "x"), special["<|im_end|><|x|>"], *expected_ids(parts, "y")]
    expected += [special["<|im_end|>"], *expected_ids(parts, "<|x")]
    check_ids(got, expected, parts, f"encode({text!r}), all special tokens allowed", "")


@number("3.1")
@weight(0.5)
def test_streams_of_broken_bytes(student, rng):
    """stream and decode on any bytes: truncated, overlong and lone ones; one stream after another."""
    parts = small_parts()
    tokenizer = student.session(drivers.Text, **parts)
    lead = [0x41, 0x80, 0xBF, 0xC0, 0xC3, 0xE0, 0xE6, 0xED, 0xA0, 0x97, 0xA5, 0xF0, 0x9F, 0xF4, 0xFF]
    rows = [rng.choice(lead, int(rng.integers(1, 14))).tolist() for _ in range(150)]
    rows += [rng.integers(0, len(parts["vocabulary"]), 30).tolist() for _ in range(10)]
    # Python's incremental decoder holds ED A0 (half a surrogate) back for a byte more than needed.
    rows = [row for row in rows if not regex.search(rb"\xed[\xa0-\xbf]", joined(parts, row))]
    for row, given in zip(rows, tokenizer.call("stream", ids=rows), strict=True):
        tokens = [bytes.fromhex(parts["vocabulary"][place]) for place in row]
        assert_equal(given, expected_stream(tokens), name=f"push and finish for {tokens}")
    for row, whole in zip(rows, tokenizer.call("decode", ids=rows), strict=True):
        data = joined(parts, row)
        assert_equal(whole, data.decode("utf-8", "replace"), name=f"decode of {data!r}")


@number("3.1")
@weight(0.25)
def test_what_makes_no_sense_is_refused(student, rng):
    """ValueError: ids outside the vocabulary, unknown special tokens and roles, other tokenizers."""
    parts = small_parts()
    size = len(parts["vocabulary"])
    for bad in (size, -1):
        student.raises(drivers.decoded_once, "ValueError", ids=[65, bad], **parts)
    student.raises(drivers.encoded_once, "ValueError", text="a", allowed=["<|no|>"], **parts)
    student.raises(
        drivers.chatted_once, "ValueError", messages=[{"role": "root", "content": "x"}], **parts
    )
    for model, pre in (("llama", "smollm"), ("gpt2", "gpt-2")):
        file = gguf_file(parts, model, pre)
        student.raises(drivers.encoded_once, "ValueError", text="a", allowed=[], file=file)
    messages = [{"role": "system", "content": "2 <|im_start|>"}, {"role": "user", "content": ""}]
    tokenizer = student.session(drivers.Text, **parts)
    got = tokenizer.call("chat", messages=messages)
    check_ids(got, expected_chat(parts, messages), parts, f"encode_chat({messages})", "")
