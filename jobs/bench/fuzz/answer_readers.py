"""Readers of what language models answer, and of all that a server sends."""

import gzip
import json
import socket
import threading
from pathlib import Path

import pyarrow as pa

from actors.synthesis.captions.answers import read_caption
from actors.synthesis.factors.answers import read_answer
from actors.synthesis.language_models.answers import AnswerError
from actors.synthesis.language_models.endpoint import Endpoint, EndpointConfig
from actors.synthesis.language_models.stages import answered
from jobs.bench.fuzz.children import Reader

CAPTIONS = [
    "A red panda sleeps on a mossy branch at dusk.",
    'Sure! Here is a caption:\n\n1. **A red panda** climbs a tree.\n2. "A red panda eats."',
    "<think>The user wants a caption. OK.</think>\nCaption: A red panda walks through the snow.",
    '```json\n{"caption": "A red panda drinks from a stream.", "mode": ["a", {"b": 1}]}\n```',
    "<|channel|>final<|message|>A red panda, <b>seen</b> from above.<|end|>",
]
PHRASES = [f"by the old wall number {i}" for i in range(20)]
FACTORS = [
    json.dumps({"backgrounds": PHRASES}),
    "\n".join(f"{i}. {phrase}" for i, phrase in enumerate(PHRASES)),
    f"<think>hm</think>```json\n{json.dumps(PHRASES)}\n```",
]
LENGTH = b"THE-BODYS"
"""In headers: stands for the number of bytes of the body, which mutations change."""


def caption_answers() -> Reader:
    """The caption in an answer."""

    def read(data: bytes, folder: Path) -> None:
        _, reason = read_caption(data.decode("utf-8", "replace"), ["red panda", "firefox"])
        if reason:
            raise AnswerError(reason)

    return Reader([caption.encode() for caption in CAPTIONS], read, (AnswerError,))


def factor_answers() -> Reader:
    """The phrases or the caption in an answer."""
    caption = json.dumps({"caption": "A large red panda looks into the camera."})

    def read(data: bytes, _: Path) -> None:
        kind = "example" if b"caption" in data else "backgrounds"
        read_answer(data.decode("utf-8", "replace"), kind, "red panda")

    return Reader([text.encode() for text in (*FACTORS, caption)], read, (AnswerError,))


def server_answers() -> Reader:
    """All that a server sends: status, headers and body."""
    message = {"role": "assistant", "content": CAPTIONS[0], "refusal": None}
    answer = {"id": "x", "choices": [{"finish_reason": "stop", "index": 0, "message": message}]}
    body, head = json.dumps(answer).encode(), b"HTTP/1.1 200 OK\r\nContent-Length: " + LENGTH
    inputs = [
        head + b"\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body,
        head + b"\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(body, mtime=0),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (len(body), body),
    ]
    return Reader(inputs, _ask, (AnswerError,))


def _ask(data: bytes, _: Path) -> None:
    """Asks a server that answers with these bytes."""
    text, error = "", ""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, data), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        endpoint = Endpoint(EndpointConfig(base_url=url, model="m", timeout_s=5, tries=1))
        try:
            text = endpoint.ask("?", schema=None, seed=1, max_tokens=9, temperature=1)
        except AnswerError as refusal:
            error = str(refusal)
    rows = answered(pa.table({"prompt": ["?"]}), [(text, error)])
    if reason := rows["error"][0].as_py():
        raise AnswerError(reason)


def _serve(server: socket.socket, data: bytes) -> None:
    """Answers each question with these bytes."""
    length = str(len(data.partition(b"\r\n\r\n")[2])).encode()
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # closed
            return
        with connection:
            question = b""
            while not question.endswith(b"}"):
                question += connection.recv(1 << 16) or b"}"
            try:
                connection.sendall(data.replace(LENGTH, length, 1))
            except OSError:  # the client has had enough
                continue
