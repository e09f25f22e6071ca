"""Captions by the embedded grammar over the factors."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from actors.embedded.grammar import grammar_caption
from actors.synthesis.captions.rows import draw
from actors.synthesis.language_models.stages import Stage
from cluster.pool import Pool


@dataclass(frozen=True, kw_only=True)
class GrammarConfig:
    """The embedded grammar, which has no settings but its version; see `WriterEngine`."""

    recipe: Literal["grammar-1"] = "grammar-1"
    """Names how captions are made; part of every caption's id."""

    name: ClassVar[str] = "grammar"

    def stage(self, factors: str, pool: Pool) -> Stage:
        return lambda rows: rows.map_batches(
            GrammarWriter,
            fn_constructor_args=(factors,),
            batch_format="pyarrow",
            batch_size=None,
            **pool.map_options(),
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
