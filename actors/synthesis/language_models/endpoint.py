"""An OpenAI-compatible server: one question, one answer, or one line why there is none."""

import asyncio
import json
import os
import random
import re
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import pyarrow as pa
import ray.data
from jsonargparse.typing import PositiveFloat, PositiveInt, extend_base_type

from actors.synthesis.language_models.answers import AnswerError
from actors.synthesis.language_models.redaction import redacted, shares
from actors.synthesis.language_models.stages import NO_THOUGHTS, Sampling, Stage, answered
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.pool import Pool

MOST_BYTES = 2**20
"""Of an answer's body, decoded: many times what the longest texts here take."""
BUSY = frozenset({408, 409, 425, 429})
"""Statuses, beside those from 500, after which a question is asked again."""
LONGEST_PAUSE_S = 30.0
"""Seconds between two tries at most, also where the server asks for more."""


def _check_url(_: type, value: str) -> None:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", value):
        raise ValueError("allowed: http(s)://HOST/PATH, with no user, password or query in it")


def _check_variable(_: type, value: str) -> None:
    # Neither message repeats the value: it may be a key.
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        raise ValueError("allowed: the name of an environment variable, in capitals")


if TYPE_CHECKING:
    HttpUrl = str
    VariableName = str
else:
    HttpUrl = extend_base_type("HttpUrl", str, _check_url)
    VariableName = extend_base_type("VariableName", str, _check_variable)


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """A server that speaks OpenAI's chat completions, and how patient its client is."""

    base_url: HttpUrl = unhashed()
    """Such as https://api.openai.com/v1 or http://127.0.0.1:8000/v1."""
    model: str
    """The model's name on that server."""
    key_variable: VariableName = unhashed("OPENAI_API_KEY")
    """Environment variable of the worker that holds the key; a server without keys needs none."""
    timeout_s: PositiveFloat = unhashed(60)
    """Seconds that one try waits for the whole answer."""
    tries: PositiveInt = unhashed(6)
    """Tries per question, with exponential back-off, while the server is busy or out of reach."""
    concurrent: PositiveInt = unhashed(16)
    """Questions under way at once per worker."""


class Endpoint:
    """A client of one server; may be shared by threads, cannot be pickled.

    The key is read from the environment here, and goes nowhere but into the requests' headers. Of
    a server's answer at most MOST_BYTES are read, for at most `timeout_s` from the first byte sent
    to the last one received. ConfigError for a key that no header can hold.
    """

    def __init__(self, cfg: EndpointConfig) -> None:
        self.cfg, self._key = cfg, os.environ.get(cfg.key_variable, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(
                f"key_variable: {cfg.key_variable!r} holds no key; allowed: printable ASCII"
            )
        self._url = f"{cfg.base_url.rstrip('/')}/chat/completions"
        self._proxy = _proxy(self._url)
        self._template: dict[str, Any] = {"chat_template_kwargs": NO_THOUGHTS}

    def ask(
        self,
        prompt: str,
        *,
        schema: dict[str, Any] | None,
        seed: int | None,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
    ) -> str:
        """The server's answer, not empty: valid UTF-8, nothing else about it is certain.

        schema: a JSON schema that the server is to keep to; its answer is still to be checked.
        seed: in 0..2**63 - 1; few servers promise the same answer for the same seed.
        Models that can are told not to think aloud; a server that refuses to be told so is asked
        without. Raises AnswerError: an HTTP status, no answer in time or a larger one, a refusal,
        an empty answer, or JSON that was cut off at `max_tokens`. Free text is returned as far as
        it goes.
        """
        question: dict[str, Any] = {
            "model": self.cfg.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
        }
        if seed is not None:
            question["seed"] = seed
        if schema is not None:
            named = {"name": "answer", "schema": schema, "strict": True}
            question["response_format"] = {"type": "json_schema", "json_schema": named}
        answer = self._answer(question)
        return self._text(answer, max_tokens, whole=schema is not None)

    def _answer(self, question: dict[str, Any]) -> Any:
        """The server's JSON. Raises AnswerError."""
        template = self._template  # another thread may set it meanwhile
        status, body = asyncio.run(self._asked(question | template))
        if template and status in (400, 422) and b"chat_template" in body:
            self._template = {}
            status, body = asyncio.run(self._asked(question))
        if not 200 <= status < 300:
            raise AnswerError(self._status(status, body))
        return _json(body)

    async def _asked(self, question: dict[str, Any]) -> tuple[int, bytes]:
        """HTTP status and body, after as many tries as are allowed. Raises AnswerError."""
        for left in reversed(range(self.cfg.tries)):
            why, pause = "", ""
            try:
                async with asyncio.timeout(self.cfg.timeout_s):
                    status, headers, body = await self._try(question)
                if not left or (status < 500 and status not in BUSY):
                    return status, body
                pause = headers.get("Retry-After", "")
            except TimeoutError:
                why = f"no answer within {self.cfg.timeout_s:g} s in {self.cfg.tries} tries"
            except (aiohttp.ClientError, OSError):
                why = f"no connection to {self.cfg.base_url} in {self.cfg.tries} tries"
            if not left:
                break
            await asyncio.sleep(_pause(self.cfg.tries - left, pause))
        raise AnswerError(why)

    async def _try(self, question: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        limits = aiohttp.ClientTimeout(total=None)  # the caller's is for all of it
        async with (
            aiohttp.ClientSession(
                timeout=limits, auto_decompress=False, proxy=self._proxy, headers=headers
            ) as session,
            session.post(self._url, json=question, allow_redirects=False) as answer,
        ):
            body = await _bounded(answer.content)
            encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
            return answer.status, answer.headers, _decoded(body, encoding)

    def _text(self, answer: Any, max_tokens: int, *, whole: bool) -> str:
        try:
            choice = answer["choices"][0]
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
        except (AttributeError, IndexError, KeyError, TypeError):
            raise AnswerError("the answer is not a chat completion") from None
        if refusal:
            words = refusal if isinstance(refusal, str) else "in no words"
            raise AnswerError(redacted(f"refused: {words}", self._key))
        if choice.get("finish_reason") == "content_filter":
            raise AnswerError("refused: content filter")
        if whole and choice.get("finish_reason") == "length":
            raise AnswerError(f"cut off at {max_tokens} tokens")
        if not isinstance(text, str) or not text.strip():
            raise AnswerError("empty answer")
        if len(self._key) >= 8 and shares(text, self._key, 8):
            raise AnswerError("the answer repeats a part of the key")
        return text.encode("utf-8", "replace").decode()  # JSON can hold half a character

    def _status(self, status: int, body: bytes) -> str:
        if status in (401, 403):
            return f"HTTP {status}: the key in {self.cfg.key_variable} is not accepted"
        return redacted(f"HTTP {status}: {_message(body)}", self._key)


def _message(body: bytes) -> str:
    """What the body of an error says: its message, where it has one."""
    text = body.decode("utf-8", "replace")
    try:
        answer = json.loads(text)
        if isinstance(answer, dict):
            answer = answer.get("error", answer)
            return str(answer.get("message", answer) if isinstance(answer, dict) else answer)
    except (ValueError, RecursionError):
        pass
    return text


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


async def _bounded(stream: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for part in stream.iter_any():
        body += part
        if len(body) > MOST_BYTES:
            raise AnswerError(f"the answer is larger than {MOST_BYTES} bytes")
    return bytes(body)


def _decoded(body: bytes, encoding: str) -> bytes:
    """The body as it was before a server encoded it, which it was not asked to do."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise AnswerError("the answer is compressed in a way that was not asked for")
    try:
        decoded = zlib.decompressobj(wbits=47).decompress(body, MOST_BYTES + 1)
    except zlib.error:
        raise AnswerError("the answer cannot be decompressed") from None
    if len(decoded) > MOST_BYTES:
        raise AnswerError(f"the answer is larger than {MOST_BYTES} bytes")
    return decoded


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # the second: thousands of brackets
        raise AnswerError(f"the answer cannot be read ({type(error).__name__})") from None


def _pause(tries: int, asked_for: str) -> float:
    """Seconds until the next try: what the server asks for, else exponentially more each time."""
    if re.fullmatch(r"\d{1,3}", asked_for):
        return min(float(asked_for), LONGEST_PAUSE_S)
    return float(min(0.5 * 2 ** (tries - 1), 8.0) * random.uniform(0.75, 1))


def endpoint_stage(cfg: EndpointConfig, sampling: Sampling, pool: Pool) -> Stage:
    """Texts from a server, as answers to the prompts; see `Endpoint` for what is no answer.

    pool: of clients, each with `cfg.concurrent` questions under way. Whether the same seed gives
    the same text is the server's to say.
    """

    def stage(rows: ray.data.Dataset) -> ray.data.Dataset:
        return rows.map_batches(
            _Asker,
            fn_constructor_args=(cfg, sampling),
            batch_format="pyarrow",
            batch_size=4 * cfg.concurrent,
            **pool.map_options(),
        )

    return stage


class _Asker:
    """Asks one server for the texts of a batch, many at a time."""

    def __init__(self, cfg: EndpointConfig, sampling: Sampling) -> None:
        self.endpoint, self.sampling = Endpoint(cfg), sampling
        self.threads = ThreadPoolExecutor(cfg.concurrent)

    def __call__(self, rows: pa.Table) -> pa.Table:
        prompts, seeds = rows["prompt"].to_pylist(), rows["seed"].to_pylist()
        return answered(rows, self.threads.map(self._answer, prompts, seeds))

    def _answer(self, prompt: str, seed: int) -> tuple[str, str]:
        """Text and error."""
        try:
            return self.endpoint.ask(prompt, schema=None, seed=seed, **asdict(self.sampling)), ""
        except AnswerError as error:
            return "", str(error)
