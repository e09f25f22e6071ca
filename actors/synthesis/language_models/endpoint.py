"""An OpenAI-compatible server: one question, one answer, or one line why there is none."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray.data
from jsonargparse.typing import PositiveFloat, PositiveInt, extend_base_type
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI, OpenAIError

from actors.synthesis.language_models.stages import (
    REASON_LENGTH,
    Sampling,
    Stage,
    answered,
)
from cluster.content import unhashed
from cluster.pool import Pool


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
    """Seconds that one try waits for the server."""
    tries: PositiveInt = unhashed(6)
    """Tries per question, with exponential back-off, while the server is busy or out of reach."""
    concurrent: PositiveInt = unhashed(16)
    """Questions under way at once per worker."""


class AnswerError(ValueError):
    """There is no answer; the message says why, in one line without the key."""


class Endpoint:
    """A client of one server; may be shared by threads, cannot be pickled.

    The key is read from the environment here, and goes nowhere but into the requests' headers.
    """

    def __init__(self, cfg: EndpointConfig) -> None:
        self.cfg = cfg
        self.client = OpenAI(
            base_url=cfg.base_url,
            api_key=os.environ.get(cfg.key_variable) or "none",  # the client insists on one
            timeout=cfg.timeout_s,
            max_retries=cfg.tries - 1,
        )

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
        Raises AnswerError: an HTTP status, no answer in time, a refusal, an empty answer, or JSON
        that was cut off at `max_tokens`. Free text is returned as far as it goes.
        """
        wanted: dict[str, Any] = {} if seed is None else {"seed": seed}
        if schema is not None:
            named = {"name": "answer", "schema": schema, "strict": True}
            wanted["response_format"] = {"type": "json_schema", "json_schema": named}
        try:
            answer = self.client.chat.completions.create(
                model=self.cfg.model,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                **wanted,
            )
        except (OpenAIError, ValueError) as error:  # ValueError: what came is not JSON
            raise AnswerError(self._reason(error)) from None
        try:
            choice = answer.choices[0]
            text, refusal = choice.message.content, choice.message.refusal
        except (AttributeError, IndexError, KeyError, TypeError):
            raise AnswerError("the answer is not a chat completion") from None
        if refusal:
            raise AnswerError(self._one_line(f"refused: {refusal}"))
        if choice.finish_reason == "content_filter":
            raise AnswerError("refused: content filter")
        if schema is not None and choice.finish_reason == "length":
            raise AnswerError(f"cut off at {max_tokens} tokens")
        if not isinstance(text, str) or not text.strip():
            raise AnswerError("empty answer")
        return text.encode("utf-8", "replace").decode()  # JSON can hold half a character

    def _reason(self, error: Exception) -> str:
        cfg = self.cfg
        if isinstance(error, APITimeoutError):
            return f"no answer within {cfg.timeout_s:g} s in {cfg.tries} tries"
        if isinstance(error, APIConnectionError):
            return f"no connection to {cfg.base_url} in {cfg.tries} tries"
        if isinstance(error, APIStatusError):
            if error.status_code in (401, 403):  # the server may repeat a part of the key
                return f"HTTP {error.status_code}: the key in {cfg.key_variable} is not accepted"
            body = error.body
            detail = body.get("message", body) if isinstance(body, dict) else body
            return self._one_line(f"HTTP {error.status_code}: {detail}")
        return f"the answer cannot be read ({type(error).__name__})"

    def _one_line(self, text: str) -> str:
        text = text.replace(self.client.api_key, "***").encode("utf-8", "replace").decode()
        return " ".join(text.split())[:REASON_LENGTH]


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
