"""Many clients, slow ones, ones that leave; limits; the ends of a server."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys

import openai
import pytest

from tests.hw5_server.servers import (
    ENVIRONMENT,
    HOMEWORK,
    PATIENCE,
    Server,
    homework,
    main,
    pytestmark,
    servers,
    wait,
)

LONG = {"model": "tiny", "temperature": 0, "extra_body": {"ignore_eos": True}}


def open_stream(server: Server, prompt: str, tokens: int, receive_buffer: int | None = None):
    """A raw connection that has asked for a stream; nothing is read yet."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(PATIENCE)
    sock.connect(("127.0.0.1", server.port))
    body = json.dumps({"model": "tiny", "prompt": prompt, "max_tokens": tokens, "stream": True,
                       "temperature": 0, "ignore_eos": True}).encode()  # fmt: skip
    head = ("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")  # fmt: skip
    sock.sendall(head.encode() + body)
    return sock


def read_to_end(sock: socket.socket) -> str:
    data = b""
    while b"data: [DONE]" not in data:
        piece = sock.recv(65536)
        assert piece, "the stream ended early"
        data += piece
    sock.close()
    lines = re.findall(rb"data: (\{.*\})", data)
    return "".join(choice["text"] for line in lines for choice in json.loads(line)["choices"])


def test_64_clients_at_once_get_what_each_gets_alone(main):
    async def ask(client, number, stream):
        options = {**LONG, "prompt": f"client {number % 16}", "max_tokens": 12 + number % 16}
        if not stream:
            return (await client.completions.create(**options)).choices[0].text
        chunks = await client.completions.create(**options, stream=True)
        return "".join([chunk.choices[0].text async for chunk in chunks])

    async def all_at_once():
        async with main.async_client as client:
            return await asyncio.gather(*(ask(client, n, n % 2 == 0) for n in range(64)))

    alone = [
        main.client.completions.create(**LONG, prompt=f"client {n}", max_tokens=12 + n).choices[0].text
        for n in range(16)
    ]
    assert asyncio.run(all_at_once()) == [alone[n % 16] for n in range(64)]


def test_a_reader_who_does_not_read_holds_up_nobody(main):
    slow = [open_stream(main, f"slow {n}", 400, receive_buffer=4096) for n in range(4)]
    # All of their tokens are made, and their blocks are free, though nobody has read a byte.
    wait(lambda: main.state()["open"] >= 4 or main.metric("generated_tokens_total") > 1600)
    quick = main.client.completions.create(**LONG, prompt="quick", max_tokens=20)
    assert len(quick.choices[0].text) == 20
    main.idle()
    texts = [read_to_end(sock) for sock in slow]
    for n, text in enumerate(texts[:1]):
        alone = main.client.completions.create(**LONG, prompt=f"slow {n}", max_tokens=400)
        assert text == alone.choices[0].text


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_whoever_leaves_frees_the_blocks(main, stream):
    main.test("pause?seconds=0.02")  # 900 tokens would take 18 s
    before = main.metric("generated_tokens_total")

    async def leave():
        async with main.async_client as client:
            tasks = [
                asyncio.create_task(
                    client.completions.create(**LONG, prompt=f"leaves {n}", max_tokens=900, stream=stream)
                )
                for n in range(5)
            ]
            if stream:
                for task in tasks:
                    chunks = await task
                    await anext(aiter(chunks))
                    await chunks.close()
            else:
                while (await asyncio.to_thread(main.state))["sequences"] < 5:
                    await asyncio.sleep(0.01)
                for task in tasks:
                    task.cancel()

    asyncio.run(leave())
    wait(lambda: main.metric("blocks_used") == 0 and main.metric("requests_running") == 0)
    main.idle()
    assert main.metric("generated_tokens_total") - before < 5 * 900, "they were computed to the end"


def test_whoever_leaves_before_it_begins_is_never_computed(servers):
    small = servers["small"]  # two side by side, two wait
    small.test("hold")
    socks = [open_stream(small, f"waits {n}", 5) for n in range(4)]
    wait(lambda: small.state()["open"] == 4)
    before = small.metric("generated_tokens_total")
    small.test("step")  # the engine is held in the first one's step: after it, it takes the others
    wait(lambda: small.state()["sequences"] == 4)
    for sock in socks[2:]:
        sock.close()
    wait(lambda: small.state()["commands"] == 2)
    small.test("go")
    texts = [read_to_end(sock) for sock in socks[:2]]
    small.idle()
    assert all(len(text) == 5 for text in texts)
    assert small.metric("generated_tokens_total") - before == 10


def test_a_full_queue_says_try_again_later(servers):
    small = servers["small"]
    small.test("hold")
    socks = [open_stream(small, f"fills {n}", 5) for n in range(4)]
    wait(lambda: small.state()["open"] == 4)
    with pytest.raises(openai.RateLimitError) as caught:
        small.client.completions.create(**LONG, prompt="one too many", max_tokens=5)
    assert caught.value.code == "rate_limit_exceeded"
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert small.metric("requests_waiting") >= 2
    small.test("go")
    assert [len(read_to_end(sock)) for sock in socks] == [5] * 4
    small.idle()
    assert small.client.completions.create(**LONG, prompt="now", max_tokens=5).choices[0].text
    text = small.http("GET", "/metrics")[1]
    assert 'serving_requests_total{route="/v1/completions",status="429"} 1.0' in text


def test_where_blocks_are_scarce_requests_are_preempted_and_answers_stay_the_same(servers):
    scarce = servers["scarce"]  # 12 blocks of 16 for 8 requests of 5 blocks each

    async def all_at_once():
        async with scarce.async_client as client:
            answers = [client.completions.create(**LONG, prompt=f"scarce {n}", max_tokens=60)
                       for n in range(8)]  # fmt: skip
            return [answer.choices[0].text for answer in await asyncio.gather(*answers)]

    together = asyncio.run(all_at_once())
    assert scarce.metric("preemptions_total") > 0
    for n in (0, 4, 7):
        alone = scarce.client.completions.create(**LONG, prompt=f"scarce {n}", max_tokens=60)
        assert together[n] == alone.choices[0].text
    with pytest.raises(openai.BadRequestError, match="maximum context length is 193"):
        scarce.client.completions.create(**LONG, prompt="x", max_tokens=500)
    scarce.idle()


def test_a_failed_engine_fails_its_requests_and_says_so(servers):
    fragile = servers["fragile"]
    assert fragile.http("GET", "/health")[0] == 200
    fragile.test("hold")
    stream = open_stream(fragile, "in the middle", 50)

    async def ask():
        async with fragile.async_client as client:
            whole = asyncio.create_task(client.completions.create(**LONG, prompt="x", max_tokens=50))
            while (await asyncio.to_thread(fragile.state))["open"] < 2:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(fragile.test, "break")
            await asyncio.to_thread(fragile.test, "go")
            with pytest.raises(openai.InternalServerError) as caught:
                await whole
            return caught.value

    error = asyncio.run(ask())
    assert error.status_code == 500 and error.code == "engine_failed"
    assert "secret" not in str(error), "what an exception says is not for clients"
    data = b""
    while piece := stream.recv(65536):
        data += piece
        if b'"error"' in data or data.endswith(b"0\r\n\r\n"):
            break
    assert b'"code": "engine_failed"' in data or b'"code":"engine_failed"' in data
    with pytest.raises(openai.InternalServerError):
        fragile.client.completions.create(**LONG, prompt="later", max_tokens=5)
    status, parsed, _ = fragile.http("GET", "/health")
    assert status == 503 and "ZeroDivisionError" in parsed["status"]
    assert fragile.metric("engine_up") == 0


def start_serving(homework, *options: str, **environment: str) -> tuple[subprocess.Popen, Server]:
    """serve.py --tiny in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "serve.py", "--tiny", "--port", "0", *options], cwd=homework,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1", **environment},
    )  # fmt: skip
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1][-3000:])
    return process, Server(int(line.rsplit(":", 1)[1].split("/")[0]))


def test_a_server_that_drains_finishes_what_runs_and_takes_nothing_new(servers):
    leaving = servers["leaving"]
    expected = leaving.client.completions.create(**LONG, prompt="to the end", max_tokens=30)
    leaving.test("hold")
    stream = open_stream(leaving, "to the end", 30)
    waiting = open_stream(leaving, "to the end", 30)
    wait(lambda: leaving.state()["open"] == 2)
    leaving.test("sigterm")
    wait(lambda: leaving.http("GET", "/health")[0] == 503)
    with pytest.raises(openai.InternalServerError) as caught:
        leaving.client.completions.create(**LONG, prompt="too late", max_tokens=5)
    assert caught.value.status_code == 503 and caught.value.code == "draining"
    assert caught.value.response.headers["retry-after"]
    leaving.test("go")
    assert read_to_end(stream) == read_to_end(waiting) == expected.choices[0].text

    def refused() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", leaving.port)) != 0

    wait(refused)


def test_sigterm_ends_serve_py_when_its_answers_have_ended(homework):
    process, server = start_serving(homework, "--quantise", "int8", "--speculate")
    try:
        assert server.http("GET", "/admin")[0] == 404, "no token was given"
        stream = open_stream(server, "to the end", 300)
        assert stream.recv(1)
        process.send_signal(signal.SIGTERM)
        assert 250 < len(read_to_end(stream)) <= 300
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_task_that_is_not_written_yet_is_named(homework, tmp_path):
    done = subprocess.run(
        [sys.executable, str(HOMEWORK / "serve.py"), "--tiny", "--port", "0"], cwd=tmp_path,
        text=True, capture_output=True, timeout=PATIENCE, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"(weights can't be swapped: .*\n)?this needs task 5\.\d: .*, which is not "
                        r"written yet\n", done.stderr), done.stderr  # fmt: skip


WRONG_OPTIONS = [
    (["--tiny", "--port", "0", "--admin-token-env", "NO_SUCH_VARIABLE"], "at least 16 printable"),
    (["--tiny", "--port", "0", "--blocks", "0"], "num_blocks is 0"),
    (["--tiny", "--port", "99999"], "can't be listened on"),
    (["--model", "serve.py", "--port", "0"], "no whole GGUF file"),
    (["--port", "0"], "make fetch"),
]
IN_ONE_PROCESS = """
import json, sys
from click.testing import CliRunner
from serve import main
results = [CliRunner().invoke(main, options) for options in json.loads(sys.argv[1])]
print(json.dumps([[r.exit_code, r.output] for r in results]))
"""


def test_wrong_options_are_told_in_a_sentence(homework, tmp_path):
    options = json.dumps([arguments for arguments, _ in WRONG_OPTIONS])
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, options], cwd=homework, text=True,
        capture_output=True, timeout=PATIENCE,
        env={**ENVIRONMENT, "LLM_SYSTEMS_DATA": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for (code, output), (arguments, words) in zip(
        json.loads(done.stdout), WRONG_OPTIONS, strict=True
    ):
        assert code == 2 and words in output, f"{arguments}: {code}, {output}"
