"""Caption writers: each a stage of Ray Data that adds a text to rows of a plan.

The plan's rows say which caption is wanted (`caption_id`, class, `index`) and for the how many-th
time it is asked for (`counter`). Everything else about a text follows from these and from the table
of factors, so a text is the same on whichever worker and in whatever order it is written.
"""

import dataclasses
from functools import partial
from typing import Any

import pyarrow as pa
from jsonargparse.typing import PositiveInt

from actors.embedded.grammar import grammar_caption
from actors.synthesis.captions.rows import draw, draw_prompts
from actors.synthesis.language_models.endpoint import EndpointConfig, endpoint_stage
from actors.synthesis.language_models.stages import SMALL_CPUS, Sampling, Stage
from actors.synthesis.language_models.vllm import VllmConfig, vllm_stage
from cluster.errors import ConfigError
from cluster.pool import Pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriterConfig:
    """Who writes the captions, how many, and how often one is asked for."""

    per_class: PositiveInt = 300
    """Captions per class. Source: ImagineFSL."""
    attempts: PositiveInt = 4
    """How often a caption is asked for; what is refused the last time stays as a refused row. Each
    time is a pass of its own, in which engines start anew."""
    pool: Pool = dataclasses.field(default_factory=Pool)
    """Writers by the grammar, or clients of the endpoint; vLLM's engines have bounds of their own.
    """
    vllm: VllmConfig | None = None
    """Engines that write, instead of the embedded grammar."""
    endpoint: EndpointConfig | None = None
    """Server that writes, instead of the embedded grammar."""
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    """How a language model draws its words."""

    @property
    def name(self) -> str:
        """The grammar's, or the language model's."""
        model = self.vllm or self.endpoint
        return model.model if model else "grammar"

    @property
    def recipe(self) -> str:
        """Names how captions are made; part of every caption's id."""
        if not (self.vllm or self.endpoint):
            return "grammar-1"
        return f"{'vllm' if self.vllm else 'endpoint'}-1 {self.name}"

    def content(self) -> dict[str, Any]:
        """The settings that change captions."""
        content: dict[str, Any] = {
            "recipe": self.recipe, "per_class": self.per_class, "attempts": self.attempts
        }  # fmt: skip
        if self.vllm or self.endpoint:
            content |= {"sampling": self.sampling}
        if self.vllm:
            content |= {"chat": self.vllm.chat}
        return content


def writer_stage(cfg: WriterConfig, factors: str) -> Stage:
    """The stage that adds to rows of the plan what their class is, `mode`, the factors, and `text`
    or, if there is none, `error`.

    factors: URI of the artifact of kind "factors" that has the rows' classes.
    Raises ConfigError if two writers are given.
    """
    if cfg.vllm and cfg.endpoint:
        raise ConfigError(
            f"writer: vllm ({cfg.vllm.model!r}) is given beside endpoint "
            f"({cfg.endpoint.model!r}); allowed: one of the two"
        )
    if cfg.vllm:
        return _prompted(vllm_stage(cfg.vllm, cfg.sampling), factors)
    if cfg.endpoint:
        return _prompted(endpoint_stage(cfg.endpoint, cfg.sampling, cfg.pool.workers), factors)
    return lambda rows: rows.map_batches(
        GrammarWriter,
        fn_constructor_args=(factors,),
        batch_format="pyarrow",
        batch_size=None,
        **cfg.pool.map_options(),
    )


def _prompted(answer: Stage, factors: str) -> Stage:
    return lambda rows: answer(
        rows.map_batches(
            partial(draw_prompts, factors=factors),
            batch_format="pyarrow",
            num_cpus=SMALL_CPUS,
        )
    )


class GrammarWriter:
    """Writes captions by the grammar over the factors."""

    def __init__(self, factors: str) -> None:
        self.factors = factors

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = draw(batch, self.factors)
        for row in rows:
            row["text"] = grammar_caption(row["class_name"], row["hint"], row)
            row["error"] = ""
        return pa.Table.from_pylist(rows)
