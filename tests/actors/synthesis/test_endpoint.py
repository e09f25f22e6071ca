"""The client of OpenAI-compatible servers, against one that does what real ones do sometimes."""

import contextlib
import dataclasses
import json
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from actors.synthesis.language_models.answers import AnswerError
from actors.synthesis.language_models.endpoint import MOST_BYTES, Endpoint, EndpointConfig
from cluster.errors import ConfigError

KEY = "sentinel-5d20c4"
SILENCE = 0
"""As a status: no answer for half a second."""
DRIPS = 1
"""As a status: a byte every tenth of a second, for as long as somebody reads."""


def completion(content: Any = "fine", finish: str = "stop", **message: Any) -> str:
    choice = {"index": 0, "finish_reason": finish, "message": {"content": content, **message}}
    return json.dumps({"object": "chat.completion", "choices": [choice]})


class Scripted(BaseHTTPRequestHandler):
    """Gives the answers of `script` (status, body), one per request; keeps what it was sent."""

    script: list[tuple[int, str]]
    heard: list[tuple[str | None, dict[str, Any]]]
    zipped = b""
    """What is sent as gzip instead of the script's body."""
    drip = ""
    """What is sent before the first drop."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append((self.headers["Authorization"], body))
        status, answer = self.script.pop(0)
        if status == SILENCE:
            return time.sleep(0.5)
        if status == DRIPS:
            return self.drops()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if self.zipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have read enough
            self.wfile.write(self.zipped or answer.encode())

    def drops(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.wfile.write(self.drip.encode())
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.1)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("SOME_KEY", KEY)
    Scripted.script, Scripted.heard = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        yield Endpoint(EndpointConfig(base_url=url, model="m", key_variable="SOME_KEY", tries=2))
        server.shutdown()


def ask(endpoint: Endpoint, *script: tuple[int, str], schema: dict[str, Any] | None = None) -> str:
    Scripted.script = list(script)
    return endpoint.ask("hello", schema=schema, seed=7, max_tokens=9, temperature=0.5, top_p=0.9)


def test_question_and_key_arrive(endpoint: Endpoint) -> None:
    schema = {"type": "object"}
    assert ask(endpoint, (200, completion("{}")), schema=schema) == "{}"
    ((authorization, question),) = Scripted.heard
    assert authorization == f"Bearer {KEY}"
    assert question == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "seed": 7,
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "chat_template_kwargs": {"enable_thinking": False},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        },
    }


def test_a_busy_server_is_asked_again(endpoint: Endpoint) -> None:
    assert ask(endpoint, (429, "{}"), (200, completion())) == "fine"
    assert len(Scripted.heard) == 2


def test_free_text_may_be_cut_off(endpoint: Endpoint) -> None:
    assert ask(endpoint, (200, completion("a fox in", "length"))) == "a fox in"


def test_half_a_character_is_replaced(endpoint: Endpoint) -> None:
    assert ask(endpoint, (200, completion("fox \ud83e"))) == "fox ?"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([(503, "{}"), (503, "{}")], "HTTP 503: {}"),
        ([(400, '{"error": {"message": "too\\n long"}}')], "HTTP 400: too long"),
        ([(400, f'{{"message": "no {KEY}"}}')], "HTTP 400: no ***"),
        (
            [(401, f'{{"message": "no {KEY[:8]}"}}')],
            "HTTP 401: the key in SOME_KEY is not accepted",
        ),
        ([(200, "<html>")], "the answer cannot be read (JSONDecodeError)"),
        ([(200, "[]")], "the answer is not a chat completion"),
        ([(200, '{"choices": []}')], "the answer is not a chat completion"),
        ([(200, '{"choices": [{"message": 3}]}')], "the answer is not a chat completion"),
        ([(200, completion(None, refusal="I\ncannot"))], "refused: I cannot"),
        ([(200, completion("", "content_filter"))], "refused: content filter"),
        ([(200, completion(" \n"))], "empty answer"),
        ([(200, completion(["fox"]))], "empty answer"),
        ([(200, completion('{"a', "length"))], "cut off at 9 tokens"),
    ],
)
def test_no_answer_is_one_line(
    endpoint: Endpoint, answers: list[tuple[int, str]], reason: str
) -> None:
    with pytest.raises(AnswerError) as raised:
        ask(endpoint, *answers, schema={"type": "object"})
    assert str(raised.value) == reason
    assert Scripted.script == []


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY[:6]}****{KEY[-4:]}.",
        f"key={KEY.upper()}",
        f"the key {KEY[3:9]} is not known",
        " ".join(f"{a}{b}{c}" for a, b, c in zip(KEY[::3], KEY[1::3], KEY[2::3], strict=True)),
        "Authorization: Basic c2VudGluZWwtNWQyMGM0OnNlbnRpbmVs",
    ],
)
@pytest.mark.parametrize("status", [400, 404, 500])
def test_no_part_of_a_key_is_in_a_reason(endpoint: Endpoint, status: int, text: str) -> None:
    answer = json.dumps({"error": {"message": text}})
    with pytest.raises(AnswerError, match=rf"^HTTP {status}: |^\*\*\*$") as raised:
        ask(endpoint, *[(status, answer)] * 2)
    shown = str(raised.value).casefold()
    assert not [part for i in range(len(KEY) - 3) if (part := KEY[i : i + 4]) in shown]
    assert "".join(c for c in KEY if c.isalnum()) not in "".join(c for c in shown if c.isalnum())
    assert "c2VudG" not in str(raised.value)


def test_a_key_that_no_header_can_hold_is_not_repeated(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", f"{KEY}\r\nX-Other: 1")
    with pytest.raises(ConfigError, match=r"^key_variable: 'SOME_KEY' holds no key") as raised:
        Endpoint(endpoint.cfg)
    assert KEY not in str(raised.value)
    monkeypatch.setenv("SOME_KEY", f"{KEY}\n")  # as files of secrets end
    assert ask(Endpoint(endpoint.cfg), (200, completion())) == "fine"
    assert Scripted.heard[-1][0] == f"Bearer {KEY}"


def test_an_answer_with_the_key_in_it_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(AnswerError, match=r"^the answer repeats a part of the key$"):
        ask(endpoint, (200, completion(f"A fox with {KEY} on it.")))
    with pytest.raises(AnswerError, match=r"^refused: \*\*\* is mine$"):
        ask(endpoint, (200, completion(None, refusal=f"{KEY} is mine")))


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_knows_no_thoughts_is_asked_without(endpoint: Endpoint, status: int) -> None:
    unknown = '{"error": {"message": "Unrecognized request argument: chat_template_kwargs"}}'
    assert ask(endpoint, (status, unknown), (200, completion())) == "fine"
    assert ask(endpoint, (200, completion())) == "fine"
    asked = ["chat_template_kwargs" in question for _, question in Scripted.heard]
    assert asked == [True, False, False]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("[" * 200_000, r"the answer cannot be read \(RecursionError\)"),
        (completion() + " " * MOST_BYTES, "the answer is larger than 1048576 bytes"),
        (json.dumps({"choices": [{}] * 200_000}), "the answer is not a chat completion"),
        (json.dumps({"choices": [0] * 10**6}), "the answer is larger than 1048576 bytes"),
    ],
)
def test_an_answer_without_end_is_left(endpoint: Endpoint, answer: str, reason: str) -> None:
    with pytest.raises(AnswerError, match=f"^{reason}$"):
        ask(endpoint, (200, answer))


def test_a_compressed_answer_is_read_within_the_bound(endpoint: Endpoint) -> None:
    for size, outcome in ((10, "fine"), (10**8, "larger than 1048576 bytes")):
        packer = zlib.compressobj(wbits=31)
        zipped = packer.compress(completion().encode())
        for _ in range(size // 10**7 + 1):
            zipped += packer.compress(b" " * min(size, 10**7))
        Scripted.zipped = zipped + packer.flush()
        try:
            said = ask(endpoint, (200, ""))
        except AnswerError as error:
            said = str(error)
        finally:
            Scripted.zipped = b""
        assert outcome in said


@pytest.mark.parametrize("drip", ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_drips_is_left(endpoint: Endpoint, drip: str) -> None:
    """A byte at a time, of a header or of a body, without an end."""
    slow = Endpoint(dataclasses.replace(endpoint.cfg, timeout_s=0.6))
    Scripted.drip = drip
    try:
        with pytest.raises(AnswerError, match=r"^no answer within 0.6 s in 2 tries$"):
            ask(slow, (DRIPS, ""), (DRIPS, ""))
    finally:
        Scripted.drip = ""


def test_a_silent_server_is_left(endpoint: Endpoint) -> None:
    hasty = Endpoint(dataclasses.replace(endpoint.cfg, timeout_s=0.1))
    with pytest.raises(AnswerError, match=r"^no answer within 0.1 s in 2 tries$"):
        ask(hasty, (SILENCE, ""), (SILENCE, ""))
