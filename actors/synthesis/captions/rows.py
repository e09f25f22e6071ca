"""Rows of a plan of captions, with all that follows from their identity and the factors."""

from functools import cache
from typing import Any

import pyarrow as pa

from actors.synthesis.captions.prompts import caption_prompt, draw_examples
from actors.synthesis.factors.drawing import draw_factors
from cluster.artifacts import open_artifact
from cluster.rows import digest, row_seed

CLASS_COLUMNS = ("dataset", "class_name", "label", "group", "hint")
"""What a caption's row keeps of its class."""


def draw_prompts(batch: pa.Table, factors: str) -> pa.Table:
    """Adds to rows of the plan what their class is, `mode`, the factors, and `prompt` and `seed`
    for a language model."""
    table, rows = class_table(factors), draw(batch, factors)
    for row in rows:
        key = asking(row["caption_id"], row["counter"])
        known = table[class_key(row["dataset"], row["class_name"])]
        row["prompt"] = caption_prompt(row, draw_examples(key, row, known))
        row["seed"] = row_seed(key)
    return pa.Table.from_pylist(rows)


def draw(batch: pa.Table, factors: str) -> list[dict[str, Any]]:
    """Rows of the plan, with what their class is, `mode` and the factors."""
    table, rows = class_table(factors), batch.to_pylist()
    for row in rows:
        known = table[class_key(row["dataset"], row["class_name"])]
        row |= {name: known[name] for name in CLASS_COLUMNS}
        row |= draw_factors(asking(row["caption_id"], row["counter"]), known)
    return rows


def asking(caption_id: str, counter: int) -> str:
    """Identity of one asking for a caption; the first is the caption's own."""
    return f"{caption_id}/{counter}" if counter else caption_id


def class_key(dataset: str, class_name: str) -> str:
    """Identity of a class over all datasets, 32 hex digits."""
    return digest(dataset, class_name).hex()


@cache
def class_table(factors: str) -> dict[str, dict[str, Any]]:
    """Class key to the class's row in the table of factors; read once per process."""
    rows = open_artifact(factors, "factors").read_table("classes").to_pylist()
    return {class_key(row["dataset"], row["class_name"]): row for row in rows}
