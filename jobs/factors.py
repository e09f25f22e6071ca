"""python -m jobs.factors --storage runs --datasets '[runs/dataset/animals-…]'

Per class: the attributes, backgrounds, viewpoints, lightings and degradations that captions are
made of, and example captions. From the embedded table, from a file written by hand (`--table`,
docs/factor_tables.md), or asked from a language model behind an OpenAI-compatible server:

    python -m jobs.factors … --endpoint.base_url http://127.0.0.1:8000/v1 --endpoint.model NAME
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa

from actors.embedded.sprite_factors import factor_table
from actors.synthesis.factors.asker import ask_in_rounds, reasons
from actors.synthesis.factors.questions import RECIPE as QUESTIONS_RECIPE
from actors.synthesis.factors.questions import (
    Question,
    SubjectName,
    example_questions,
    list_questions,
)
from actors.synthesis.factors.tables import (
    CLASSES_SCHEMA,
    answered_rows,
    embedded_table,
    read_factor_file,
    table_rows,
)
from actors.synthesis.language_models.endpoint import EndpointConfig
from cluster.artifacts import Artifact, Draft, draft
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.progress import already_done, show_progress
from cluster.unions import only_one

REFUSED_SCHEMA = pa.schema(
    [
        (name, pa.string())
        for name in ("dataset", "class_name", "kind", "mode", "prompt", "answer", "reason")
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorsSpec:
    """Where factors come from: the embedded table, one of your own, or a language model."""

    # What they come from has a place of its own in the hash.
    table: str | None = unhashed(None)
    """YAML file with a table of your own, instead of the embedded one (docs/factor_tables.md)."""
    endpoint: EndpointConfig | None = unhashed(None)
    """Language model that is asked, instead of the embedded table."""
    subjects: dict[str, SubjectName] = unhashed(default_factory=dict)
    """Dataset name to what its pictures show, for the questions; "object" where nothing is said.
    Backgrounds are asked of objects and actions, lights and flaws not of aerial and texture."""
    backgrounds_per: Literal["class", "dataset"] = unhashed("class")
    """Whether the language model is asked for the backgrounds of each class, or once for all."""
    accept_refused: bool = unhashed(False)
    """Publish without the answers that were refused, instead of ending and asking again next time.
    """

    def __post_init__(self) -> None:
        only_one(self, ["table", "endpoint"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorsConfig(FactorsSpec):
    """Whose classes get factors, from where, and where the table goes."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    datasets: list[str] = unhashed()
    """Artifacts of kind "dataset": paths or URIs."""


def factors(cfg: FactorsConfig) -> Artifact:
    """Writes one row per class with its lists of phrases.

    Raises ConfigError if a language model's answers were refused; the others are kept, and the next
    run asks for the refused ones alone.
    """
    datasets = [open_dataset(uri) for uri in cfg.datasets]
    name, content = _source(cfg, datasets)
    inputs = {dataset.name: dataset.artifact for dataset in datasets}
    out = draft(cfg.storage, "factors", name, config=cfg, inputs=inputs, content=content)
    if out.artifact:
        already_done("factors", out.artifact)
        return out.artifact
    if cfg.endpoint:
        answers = _asked(cfg, cfg.endpoint, datasets, out)
        refused = [answer for answer in answers if answer["reason"]]
        out.write_table("refused", pa.Table.from_pylist(refused, schema=REFUSED_SCHEMA))
        rows, counts = answered_rows(datasets, answers), {"refused": len(refused)}
    else:
        table = content["table"] if cfg.table else embedded_table()
        rows, counts = table_rows(datasets, table), {}
    with show_progress("factors", len(rows), "classes") as progress:
        out.write_table("classes", pa.Table.from_pylist(rows, schema=CLASSES_SCHEMA))
        progress.advance(len(rows))
    return out.publish({"classes": len(rows), **counts})


def _source(cfg: FactorsConfig, datasets: Sequence[Dataset]) -> tuple[str, dict[str, Any]]:
    """Name of the artifact, and the settings that change its bytes."""
    if cfg.table:
        return "table", {"table": read_factor_file(cfg.table, datasets)}
    if cfg.endpoint is None:
        return "embedded", {"table": factor_table()}
    names = [dataset.name for dataset in datasets]
    for name in cfg.subjects:
        if name not in names:
            raise ConfigError(f"subjects: {name!r} is no dataset; allowed: {', '.join(names)}")
    return cfg.endpoint.model, {
        "questions": QUESTIONS_RECIPE,
        "model": cfg.endpoint.model,
        "subjects": {name: _subject(cfg, name) for name in names},
        "backgrounds_per": cfg.backgrounds_per,
    }


def _subject(cfg: FactorsConfig, dataset: str) -> SubjectName:
    return cfg.subjects.get(dataset, "object")


def _asked(
    cfg: FactorsConfig, endpoint: EndpointConfig, datasets: Sequence[Dataset], out: Draft
) -> list[dict[str, Any]]:
    """Answers about lists and then, as they hold these lists, about example captions."""

    def ask(table: str, questions: list[Question]) -> list[dict[str, Any]]:
        again = not cfg.accept_refused
        rows = ask_in_rounds(out, table, questions, endpoint, again=again)
        refused = [row for row in rows if row["reason"]]
        if refused and not cfg.accept_refused:
            raise ConfigError(
                f"endpoint: {len(refused)} of {len(rows)} answers about {table} were refused "
                f"({reasons(refused)}); allowed: to run again, which asks only those again, or "
                "accept_refused"
            )
        return rows

    lists, examples = [], []
    for dataset in datasets:
        lists += list_questions(dataset, _subject(cfg, dataset.name), cfg.backgrounds_per)
    answers = ask("lists", lists)
    for row in answered_rows(datasets, answers):
        examples += example_questions(row, _subject(cfg, row["dataset"]))
    return answers + ask("examples", examples)


if __name__ == "__main__":
    run_job(FactorsConfig, factors)
