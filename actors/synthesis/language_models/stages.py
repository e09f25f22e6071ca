"""Language models as stages of Ray Data: rows with a prompt in, the same rows with a text out.

A stage reads `prompt` (str) and `seed` (int64, 0 or more), lets every other column pass as it is,
and adds `text` (str; empty if there is none) and `error` (str; empty, or one line why there is no
text). A request that fails for good is such a row; a machine fault is Ray's, which starts the
engine or the worker again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import ray.data
from jsonargparse.typing import NonNegativeFloat, PositiveInt, restricted_number_type

from actors.synthesis.language_models.redaction import REASON_LENGTH

Stage = Callable[[ray.data.Dataset], ray.data.Dataset]
SMALL_CPUS = 0.25
"""What a step asks Ray for that packs rows, or waits for a server."""
NO_THOUGHTS = {"enable_thinking": False}
"""What chat templates that know it are told, so that a model answers without thinking aloud."""

if TYPE_CHECKING:
    Share = float
else:
    Share = restricted_number_type("Share", float, [(">", 0), ("<=", 1)])


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn. The defaults are ImagineFSL's for captions."""

    temperature: NonNegativeFloat = 0.8
    """0 always takes the likeliest token."""
    top_p: Share = 0.9
    """Share of the probability that the candidates hold together."""
    max_tokens: PositiveInt = 100
    """New tokens at most."""


def answered(rows: pa.Table, answers: Iterable[tuple[str, str]]) -> pa.Table:
    """The rows with text and error, of which one is empty and the other is not."""
    prompts = rows["prompt"].to_pylist()
    outcomes = [_outcome(p, *answer) for p, answer in zip(prompts, answers, strict=True)]
    texts = pa.array([text for text, _ in outcomes], pa.string())
    errors = pa.array([error for _, error in outcomes], pa.string())
    return rows.append_column("text", texts).append_column("error", errors)


def _outcome(prompt: str, text: str, error: str) -> tuple[str, str]:
    if not prompt:
        return "", "empty prompt"
    if error:
        return "", " ".join(error.split())[:REASON_LENGTH]
    return (text, "") if text.strip() else ("", "empty answer")
