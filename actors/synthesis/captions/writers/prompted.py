"""Captions by a language model: prompts in front of it, captions out of its answers behind it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from actors.synthesis.captions.answers import read_caption
from actors.synthesis.captions.rows import class_key, class_table, draw_prompts
from actors.synthesis.language_models.stages import SMALL_CPUS, Sampling, Stage
from cluster.pool import Pool


@dataclass(frozen=True, kw_only=True)
class PromptedWriter(ABC):
    """A language model as a caption writer, see `WriterEngine`; its engine is a subclass's."""

    model: str
    """The model's name."""
    sampling: Sampling = field(default_factory=Sampling)
    """How the model draws its words."""

    @property
    def name(self) -> str:
        """The model's."""
        return self.model

    @property
    @abstractmethod
    def recipe(self) -> str:
        """Names how captions are made; part of every caption's id."""

    @abstractmethod
    def answers(self, pool: Pool) -> Stage:
        """The stage of the model."""

    def stage(self, factors: str, pool: Pool) -> Stage:
        options: dict[str, Any] = {"batch_format": "pyarrow", "num_cpus": SMALL_CPUS}
        answer = self.answers(pool)
        draw, read = partial(draw_prompts, factors=factors), partial(read_captions, factors=factors)
        return lambda rows: answer(rows.map_batches(draw, **options)).map_batches(read, **options)


def read_captions(batch: pa.Table, factors: str) -> pa.Table:
    """Rows with an answer as `text` to rows with the caption in it, or with `error` why it is none.

    The line that comes nearest to a caption stays as `text` beside its error.
    """
    table, rows = class_table(factors), batch.to_pylist()
    for row in rows:
        if not row["error"]:
            known = table[class_key(row["dataset"], row["class_name"])]
            names = [known["class_name"], *(known.get("synonyms") or [])]
            row["text"], row["error"] = read_caption(row["text"], names)
    return pa.Table.from_pylist(rows, batch.schema)
