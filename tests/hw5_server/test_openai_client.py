"""What the stock `openai` client gets from the server, and what it is told when it asks wrongly."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import openai
import pytest

from tests.hw5_server.servers import HOMEWORK, Server, homework, main, pytestmark, servers

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hé, 東京?"}]


def chat(server: Server, **more):
    """A greedy chat answer."""
    options = {"model": "tiny", "messages": CHAT, "temperature": 0, "max_tokens": 30, **more}
    return server.client.chat.completions.create(**options)


def plain(server: Server, prompt="The cat", **more):
    """A greedy completion."""
    options = {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 30, **more}
    return server.client.completions.create(**options)


def test_a_chat_answer_has_all_that_the_client_expects(main):
    answer = chat(main)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length") and answer.system_fingerprint == "base"
    prompt = sum(len(f"{m['role']}\n{m['content']}".encode()) + 3 for m in CHAT)
    assert answer.usage.prompt_tokens == prompt + len("assistant\n") + 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_parts_of_a_message_are_its_text(main):
    parts = [CHAT[0], {"role": "user", "content": [{"type": "text", "text": "Hé, "},
                                                   {"type": "text", "text": "東京?"}]}]  # fmt: skip
    assert chat(main, messages=parts).choices[0].message.content == chat(main).choices[0].message.content


def test_a_stream_is_the_same_answer_in_pieces(main):
    whole = chat(main)
    chunks = list(chat(main, stream=True, stream_options={"include_usage": True}))
    *said, last = chunks
    assert said[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in said) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in said[:-1]] == [None] * (len(said) - 1)
    assert said[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(c.usage is None for c in said) and len({c.id for c in chunks}) == 1
    assert last.choices == []
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(last.usage, name) == getattr(whole.usage, name)
    assert len(said) > 10, "the pieces came in one lump"


def test_a_stream_without_the_option_has_no_usage(main):
    assert all(chunk.usage is None and chunk.choices for chunk in chat(main, stream=True))


def test_a_completion_streamed_and_whole(main):
    whole = plain(main)
    assert whole.object == "text_completion"
    assert "".join(c.choices[0].text for c in plain(main, stream=True)) == whole.choices[0].text
    assert plain(main, max_tokens=7).choices[0].text == whole.choices[0].text[:7]
    assert plain(main, max_tokens=openai.omit).usage.completion_tokens <= 16


def test_token_ids_are_a_prompt_and_one_prompt_may_stand_in_a_list(main):
    text = plain(main).choices[0].text
    for prompt in (list(b"The cat"), ["The cat"], [list(b"The cat")]):
        assert plain(main, prompt=prompt).choices[0].text == text


def test_max_completion_tokens_goes_before_max_tokens(main):
    answer = chat(main, max_completion_tokens=3, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 3 and answer.choices[0].finish_reason == "length"


def test_a_seed_repeats_an_answer_and_others_differ(main):
    def text(seed):
        return plain(main, temperature=2.0, seed=seed, extra_body={"ignore_eos": True}).choices[0].text

    assert text(1) == text(1) and len({text(seed) for seed in range(5)}) > 1


def test_top_p_of_zero_and_a_tiny_temperature_are_greedy(main):
    greedy = plain(main).choices[0].text
    assert plain(main, temperature=2.0, top_p=0.0).choices[0].text == greedy
    assert plain(main, temperature=1e-300).choices[0].text == greedy


def test_an_answer_ends_with_the_models_end_token(main):
    async def ask(client, number, **more):
        return await client.completions.create(
            model="tiny", prompt=f"question {number}", temperature=2.0, seed=number, max_tokens=100,
            **more,
        )  # fmt: skip

    async def all_at_once():
        async with main.async_client as client:
            answers = await asyncio.gather(*(ask(client, number) for number in range(40)))
            place = [answer.choices[0].finish_reason for answer in answers].index("stop")
            return answers[place], await ask(client, place, extra_body={"ignore_eos": True})

    answer, longer = asyncio.run(all_at_once())
    tokens = answer.usage.completion_tokens
    assert tokens < 100 == longer.usage.completion_tokens
    assert longer.choices[0].text[: tokens - 1] == answer.choices[0].text


def test_a_repeated_prompt_is_found_in_the_prefix_cache(main):
    prompt = "a prompt of more than two blocks, that nobody asked before"
    first = plain(main, prompt, max_tokens=2).usage.prompt_tokens_details.cached_tokens
    again = plain(main, prompt, max_tokens=2).usage.prompt_tokens_details.cached_tokens
    assert first == 0 and again == len(prompt) // 16 * 16


def test_the_models_are_listed(main):
    names = [model.id for model in main.client.models.list()]
    assert names[0] == "tiny"
    assert main.client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        main.client.models.retrieve("gpt-5")


def test_embeddings_are_those_of_transformers(main):
    if "all-MiniLM-L6-v2" not in [model.id for model in main.client.models.list()]:
        pytest.skip("needs the real data (minilm): run make fetch")
    with np.load(HOMEWORK / "tests" / "golden" / "minilm.npz") as golden:
        pairs = [(str(s), v) for s, v in zip(golden["sentences"], golden["vectors"], strict=True) if s]
    sentences = [sentence for sentence, _ in pairs]
    for options in ({}, {"encoding_format": "float"}):  # the client asks for base64 by itself
        answer = main.client.embeddings.create(model="all-MiniLM-L6-v2", input=sentences, **options)
        got = np.array([row.embedding for row in answer.data])
        np.testing.assert_allclose(got, np.stack([v for _, v in pairs]), rtol=0, atol=2e-6)
        assert [row.index for row in answer.data] == list(range(len(pairs)))
        assert answer.usage.prompt_tokens > 2 * len(pairs)
    one = main.client.embeddings.create(model="all-MiniLM-L6-v2", input=sentences[0], dimensions=384)
    np.testing.assert_allclose(one.data[0].embedding, pairs[0][1], rtol=0, atol=2e-6)
    for wrong in ({"input": "x " * 300}, {"input": [[40_000]]}, {"input": []}, {"input": ["a", ""]},
                  {"input": "a", "dimensions": 3}):  # fmt: skip
        with pytest.raises(openai.BadRequestError):
            main.client.embeddings.create(model="all-MiniLM-L6-v2", **wrong)


def test_without_an_encoder_embeddings_say_what_is_missing(servers):
    with pytest.raises(openai.InternalServerError, match="make fetch") as caught:
        servers["small"].client.embeddings.create(model="all-MiniLM-L6-v2", input="a")
    assert caught.value.status_code == 503 and caught.value.code == "no_encoder"


WRONG = [
    ({"n": 2}, "n", "one answer"),
    ({"best_of": 3}, "best_of", "one answer"),
    ({"temperature": -1}, "temperature", "greater than or equal to 0"),
    ({"temperature": "1"}, "temperature", "number"),
    ({"top_p": 1.5}, "top_p", "less than or equal to 1"),
    ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": True}, "max_tokens", "integer"),
    ({"max_tokens": 1020}, "prompt", "maximum context length is 1024"),
    ({"prompt": "x" * 2000}, "prompt", "maximum context length"),
    ({"prompt": ""}, "prompt", "empty"),
    ({"prompt": []}, "prompt", "empty"),
    ({"prompt": ["a", "b"]}, "prompt", "one a request"),
    ({"prompt": [3, 999]}, None, "token id"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
    ({"stop": ""}, "stop", "empty"),
    ({"logprobs": 3}, "logprobs", "does not support"),
    ({"presence_penalty": 0.5}, "presence_penalty", "does not support"),
    ({"seed": 2**70}, "seed", "less than"),
    ({"stream_options": {"include_usage": True}}, None, "only allowed when stream"),
    ({"max_token": 5}, "max_token", "Unrecognized"),
    ({"prompt": "\ud800"}, "prompt", "Unicode"),
]


@pytest.mark.parametrize("more, param, words", WRONG, ids=[next(iter(case[0])) for case in WRONG])
def test_a_wrong_argument_is_named(main, more, param, words):
    body = {"model": "tiny", "prompt": "The cat", **more}
    status, parsed, _ = main.http("POST", "/v1/completions", raw=json.dumps(body).encode())
    assert status == 400, parsed
    error = parsed["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" and words in error["message"], error
    assert (error["param"] or "").split(".")[0] == (param or ""), error


@pytest.mark.parametrize(
    "messages, words",
    [([], "at least 1"), ([{"role": "robot", "content": "x"}], "role"),
     ([{"role": "user"}], "must provide"),
     ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "type")],
)  # fmt: skip
def test_a_wrong_conversation_is_refused(main, messages, words):
    with pytest.raises(openai.BadRequestError, match="messages") as caught:
        chat(main, messages=messages)
    assert words in str(caught.value)


def test_an_unknown_model_is_not_found(main):
    with pytest.raises(openai.NotFoundError, match="there are: tiny") as caught:
        plain(main, model="gpt-5")
    assert caught.value.code == "model_not_found" and caught.value.param == "model"


@pytest.mark.parametrize(
    "raw, status",
    [(b'{"model": "tiny", ', 400), (b"", 400), (b"[1, 2]", 400), (b"\xff\xfe", 400),
     (b"[" * 100_000, 400), (b'{"model": "tiny", "prompt": "x", "temperature": NaN}', 400),
     (b'{"model": "tiny", "prompt": "' + b"x" * 300_000 + b'"}', 413)],
    ids=["cut", "empty", "list", "bytes", "deep", "nan", "large"],
)  # fmt: skip
def test_whatever_is_sent_the_answer_is_an_error_object(main, raw, status):
    got, parsed, _ = main.http("POST", "/v1/completions", raw=raw)
    assert got == status and parsed["error"]["message"], parsed


def test_other_routes_and_methods_too(main):
    assert main.http("GET", "/v1/nothing")[:2][0] == 404
    status, parsed, headers = main.http("GET", "/v1/completions")
    assert status == 405 and "error" in parsed and "POST" in headers["allow"]
