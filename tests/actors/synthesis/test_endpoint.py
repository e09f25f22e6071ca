"""The client of OpenAI-compatible servers, against one that does what real ones do sometimes."""

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from actors.synthesis.language_models.endpoint import AnswerError, Endpoint, EndpointConfig

KEY = "sentinel-5d20c4"
SILENCE = 0
"""As a status: no answer for half a second."""


def completion(content: Any = "fine", finish: str = "stop", **message: Any) -> str:
    choice = {"index": 0, "finish_reason": finish, "message": {"content": content, **message}}
    return json.dumps({"object": "chat.completion", "choices": [choice]})


class Scripted(BaseHTTPRequestHandler):
    """Gives the answers of `script` (status, body), one per request; keeps what it was sent."""

    script: list[tuple[int, str]]
    heard: list[tuple[str | None, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append((self.headers["Authorization"], body))
        status, answer = self.script.pop(0)
        if status == SILENCE:
            return time.sleep(0.5)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer.encode())

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


def test_a_silent_server_is_left(endpoint: Endpoint) -> None:
    hasty = Endpoint(dataclasses.replace(endpoint.cfg, timeout_s=0.1))
    with pytest.raises(AnswerError, match=r"^no answer within 0.1 s in 2 tries$"):
        ask(hasty, (SILENCE, ""), (SILENCE, ""))
