"""Metrics, and the admin routes: adapters, versions of the weights, canaries."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.hw5_server.servers import TOKEN, Server, homework, main, pytestmark, servers, wait

LONG = {"model": "tiny", "temperature": 0, "extra_body": {"ignore_eos": True}}


def say(server: Server, prompt: str, tokens: int = 8, **more):
    return server.client.completions.create(**{**LONG, **more}, prompt=prompt, max_tokens=tokens)


@pytest.fixture
def base(main: Server):
    """The server on its first weights again, whatever a test did, and nothing else loaded."""
    yield main
    main.test("pause?seconds=0")
    main.idle()
    status = main.admin("GET")
    if status["rollout"] and status["rollout"]["state"] == "running":
        main.admin("DELETE", "/rollout")
    if status["active"] != "base":
        if "base" not in main.admin("GET")["versions"]:
            main.admin("POST", "/weights", {"version": "base", "file": "same.safetensors"})
        main.admin("POST", "/weights/activate", {"version": "base"})
    for version in main.admin("GET")["versions"]:
        if version != "base":
            main.admin("DELETE", f"/weights/{version}")
    for name in main.admin("GET")["adapters"]:
        main.admin("DELETE", f"/adapters/{name}")


def test_metrics_can_be_parsed_and_count(main):
    def totals():
        families = text_string_to_metric_families(main.http("GET", "/metrics")[1])
        return {(s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples}

    before = totals()
    usage = say(main, "count me, please", 9).usage
    after = totals()

    def grown(*key):
        return after[key] - before.get(key, 0.0)

    assert grown("serving_prompt_tokens_total") == usage.prompt_tokens
    assert grown("serving_generated_tokens_total") == 9
    assert grown("serving_time_to_first_token_seconds_count") == 1
    assert grown("serving_step_seconds_count") == 9
    assert grown("serving_requests_total", "/v1/completions", "200") == 1
    assert after["serving_active_version", "base"] == 1.0
    assert after["serving_blocks_free",] == 2048 and after["serving_blocks_used",] == 0
    say(main, "count me, please, again " * 3, 2)
    say(main, "count me, please, again " * 3, 2)
    assert totals()["serving_prefix_hit_tokens_total",] > after["serving_prefix_hit_tokens_total",]


def test_without_a_token_there_are_no_admin_routes(servers):
    status, parsed, _ = servers["small"].http("GET", "/admin", token=TOKEN)
    assert status == 404 and parsed["error"]["message"] == "GET /admin: Not Found"


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "é"])
def test_a_wrong_token_opens_nothing(main, token):
    for method, path in (("GET", ""), ("POST", "/weights/rollback"), ("DELETE", "/adapters/x")):
        sent = None if token is None else token.encode().decode("latin-1")
        status, parsed, _ = main.http(method, f"/admin{path}", token=sent)
        assert status == 401 and parsed["error"]["code"] == "wrong_token"


@pytest.mark.parametrize(
    "path, body, status, words",
    [("/weights", {"version": "x", "file": "../../etc/passwd"}, 400, "does not lie"),
     ("/weights", {"version": "x", "file": "/etc/passwd"}, 400, "does not lie"),
     ("/weights", {"version": "x", "file": "nothing.safetensors"}, 404, "there is no"),
     ("/weights", {"version": "x", "file": "cut.safetensors"}, 400, "cut off"),
     ("/weights", {"version": "x", "file": "loud.safetensors"}, 400, "checksum"),
     ("/weights", {"version": "x", "file": "second.safetensors", "checksum": "0" * 64}, 400, "checksum"),
     ("/weights", {"version": "base", "file": "second.safetensors"}, 400, "in use"),
     ("/weights", {"version": "../x", "file": "second.safetensors"}, 400, "pattern"),
     ("/weights/activate", {"version": "x"}, 404, "not loaded"),
     ("/weights/rollback", None, 400, "go back to"),
     ("/adapters", {"name": "x", "file": "second.safetensors"}, 400, "no part of a LoRA adapter"),
     ("/adapters", {"name": "tiny", "file": "loud.safetensors"}, 400, "name of a model"),
     ("/rollout", {"version": "x"}, 404, "not loaded"),
     ("/rollout", {"version": "base"}, 400, "active already"),
     ("/rollout", {"version": "base", "steps": [0.5, 0.1]}, 400, "rising")],
)  # fmt: skip
def test_what_an_operator_gets_wrong_changes_nothing(main, path, body, status, words):
    before = main.admin("GET")
    got, parsed, _ = main.http("POST", f"/admin{path}", body, TOKEN)
    assert got == status and words in parsed["error"]["message"], parsed
    assert main.admin("GET") == before


def test_an_adapter_is_a_model_until_it_is_removed(base):
    plain = say(base, "with whom").choices[0].text
    status = base.admin("POST", "/adapters", {"name": "loud", "file": "loud.safetensors"})
    assert status["adapters"] == ["loud"]
    assert "loud" in [model.id for model in base.client.models.list()]
    assert say(base, "with whom", model="loud").choices[0].text != plain
    assert say(base, "with whom").choices[0].text == plain, "the base model has changed"
    assert base.http("POST", "/admin/adapters", {"name": "loud", "file": "loud.safetensors"},
                     TOKEN)[0] == 400  # fmt: skip
    base.admin("POST", "/adapters", {"name": "two", "file": "loud.safetensors", "scale": 0.0})
    assert say(base, "with whom", model="two").choices[0].text == plain, "its scale is 0"
    assert base.http("POST", "/admin/adapters", {"name": "three", "file": "loud.safetensors"},
                     TOKEN)[0] == 409, "there are two slots"  # fmt: skip
    base.admin("DELETE", "/adapters/loud")
    with pytest.raises(openai.NotFoundError):
        say(base, "with whom", model="loud")


def test_an_adapter_removed_while_in_use_serves_who_has_it(base):
    base.admin("POST", "/adapters", {"name": "loud", "file": "loud.safetensors"})
    alone = say(base, "in use", 60, model="loud").choices[0].text
    base.test("pause?seconds=0.01")
    stream = base.client.completions.create(
        **{**LONG, "model": "loud"}, prompt="in use", max_tokens=60, stream=True
    )
    text = next(iter(stream)).choices[0].text
    base.admin("DELETE", "/adapters/loud")
    with pytest.raises(openai.NotFoundError):
        say(base, "too late", model="loud")
    text += "".join(chunk.choices[0].text for chunk in stream)
    assert text == alone
    base.idle()
    for name in ("one", "two"):  # its slot is free again
        base.admin("POST", "/adapters", {"name": name, "file": "loud.safetensors"})


PROMPTS = [f"a stream of its own, number {n}" for n in range(20)]


async def read(client, prompt: str, started: asyncio.Event) -> tuple[str, set[str]]:
    """A streamed answer, and the versions that its chunks name."""
    text, versions = "", set()
    chunks = await client.completions.create(**LONG, prompt=prompt, max_tokens=50, stream=True)
    async for chunk in chunks:
        text += chunk.choices[0].text
        versions.add(chunk.system_fingerprint)
        started.set()
    return text, versions


async def read_all(server: Server) -> list[tuple[str, set[str]]]:
    async with server.async_client as client:
        return await asyncio.gather(*(read(client, p, asyncio.Event()) for p in PROMPTS))


def test_a_swap_while_20_requests_stream_mixes_no_answer(base):
    base.admin("POST", "/weights", {"version": "second", "file": "second.safetensors"})
    expected = {}
    for version in ("base", "second"):
        base.admin("POST", "/weights/activate", {"version": version})
        expected[version] = [text for text, _ in asyncio.run(read_all(base))]
    assert all(a != b for a, b in zip(*expected.values(), strict=True))
    base.admin("POST", "/weights/activate", {"version": "base"})
    base.test("pause?seconds=0.01")

    async def swap():
        started = asyncio.Event()
        async with base.async_client as client:
            early = [asyncio.create_task(read(client, prompt, started)) for prompt in PROMPTS]
            await started.wait()
            for version in ("second", "base", "second"):
                await asyncio.to_thread(
                    base.admin, "POST", "/weights/activate", {"version": version}
                )
            late = [asyncio.create_task(read(client, prompt, started)) for prompt in PROMPTS]
            return await asyncio.gather(*early), await asyncio.gather(*late)

    early, late = asyncio.run(swap())
    for answers in (early, late):
        for place, (text, versions) in enumerate(answers):
            assert len(versions) == 1, f"an answer of the versions {versions}"
            assert text == expected[versions.pop()][place]
    assert any(text == expected["base"][place] for place, (text, _) in enumerate(early))
    assert all(text == expected["second"][place] for place, (text, _) in enumerate(late))
    assert base.admin("POST", "/weights/rollback")["active"] == "base"
    assert say(base, PROMPTS[0], 50).choices[0].text == expected["base"][0]


def ask_users(server: Server, users: list[str], tokens: int = 2) -> list[str | None]:
    """The version that answered each user, None for an error of the engine."""

    async def one(client, user):
        try:
            answer = await client.completions.create(
                **LONG, prompt="hello", max_tokens=tokens, user=user
            )
        except openai.InternalServerError as error:
            assert error.code == "engine_failed"
            return None
        return answer.system_fingerprint

    async def all_of_them():
        async with server.async_client as client:
            return await asyncio.gather(*(one(client, user) for user in users))

    return asyncio.run(all_of_them())


def test_a_bad_canary_is_rolled_back_and_hurts_few(base):
    base.admin("POST", "/weights", {"version": "bad", "file": "bad.safetensors"})
    base.admin("POST", "/rollout", {"version": "bad", "steps": [0.3, 1.0]})
    failed = 0
    for batch in range(40):
        answers = ask_users(base, [f"user {batch * 10 + n}" for n in range(10)])
        failed += answers.count(None)
        rollout = base.admin("GET")["rollout"]
        if rollout["state"] != "running":
            break
    # 400 users at 30%: all but one in 10^40 draws give the canary 25 of them. It always fails, and
    # each failure beside two good answers multiplies the evidence by more than 1.5: 25 are enough.
    assert rollout["state"] == "rolled back" and rollout["share"] == 0.0
    canary = rollout["seen"]["canary"]
    assert canary["bad"] == canary["answers"] <= 25
    assert canary["bad"] <= failed <= canary["bad"] + 9, "those of the last ten may come too late"
    assert rollout["seen"]["stable"]["bad"] == 0
    assert set(ask_users(base, [f"user {n}" for n in range(20)])) == {"base"}
    assert base.admin("GET")["versions"] == ["base"], "a canary that was rolled back is let go"
    assert base.http("GET", "/health")[0] == 200


def test_a_good_canary_keeps_its_users_and_is_promoted(base):
    base.admin("POST", "/weights", {"version": "next", "file": "same.safetensors"})
    plan = {"version": "next", "steps": [0.5], "requests_per_step": 40, "promise": 1000.0}
    base.admin("POST", "/rollout", plan)
    for path, body in (("/rollout", plan), ("/weights/activate", {"version": "next"})):
        assert base.http("POST", f"/admin{path}", body, TOKEN)[0] == 409
    assert base.http("DELETE", "/admin/weights/next", token=TOKEN)[0] == 409
    users = [f"user {n}" for n in range(24)]
    first = ask_users(base, users)
    assert ask_users(base, users) == first and set(first) == {"base", "next"}
    while base.admin("GET")["rollout"]["state"] == "running":
        assert len(ask_users(base, users)) == 24
    status = base.admin("GET")
    assert status["rollout"]["state"] == "promoted" and status["active"] == "next"
    assert set(ask_users(base, users)) == {"next"}
    assert base.admin("POST", "/weights/rollback")["active"] == "base"


def test_a_late_first_token_is_a_bad_answer(base):
    base.admin("POST", "/weights", {"version": "next", "file": "same.safetensors"})
    base.admin("POST", "/rollout", {"version": "next", "steps": [0.5], "promise": 1e-9})
    ask_users(base, [f"user {n}" for n in range(24)])
    seen = base.admin("GET")["rollout"]["seen"]
    assert all(side["answers"] == side["bad"] > 0 for side in seen.values())
    assert base.admin("DELETE", "/rollout")["rollout"]["state"] == "rolled back"
    assert base.http("DELETE", "/admin/rollout", token=TOKEN)[0] == 409
