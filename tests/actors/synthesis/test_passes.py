"""Captions in passes, on a table of factors so small that captions must repeat."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from actors.synthesis.captions.acceptance import content_words
from actors.synthesis.captions.passes import caption_plan
from actors.synthesis.captions.writer import WriterConfig
from cluster.artifacts import Artifact, draft
from cluster.rows import row_id
from jobs.synthesize import SynthesizeConfig, artifacts, synthesize

PER_CLASS, ATTEMPTS = 6, 2
COMMON = {"dataset": "toys", "group": "IP", "hint": "thing", "lightings": [], "degradations": []}
CLASSES = [
    COMMON | {"class_name": "fox", "attributes": ["small", "large"], "viewpoints": ["from above"],
              "backgrounds": ["in the snow", "on a beach", "in a forest", "at sea"]},
    COMMON | {"class_name": "../a/b", "attributes": [f"colour {i}" for i in range(90)],
              "viewpoints": ["from above", "from below"], "backgrounds": ["in the snow"]},
    # 2 captions can be made of it
    COMMON | {"class_name": "koala", "attributes": ["small", "large"], "viewpoints": [],
              "backgrounds": []},
]  # fmt: skip
WRITER = WriterConfig(per_class=PER_CLASS, attempts=ATTEMPTS)


@pytest.fixture(scope="module")
def factors(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    storage = tmp_path_factory.mktemp("factors")
    out = draft(str(storage), "factors", "toys", content={}, config={}, inputs={})
    rows = [row | {"label": label} for label, row in enumerate(CLASSES)]
    out.write_table("classes", pa.Table.from_pylist(rows))
    return out.publish({"classes": len(rows)})


@pytest.fixture(scope="module")
def written(
    factors: Artifact, tmp_path_factory: pytest.TempPathFactory, local_ray: None
) -> Artifact:
    storage = str(tmp_path_factory.mktemp("written"))
    return synthesize(
        SynthesizeConfig(storage=storage, factors=factors.uri, writer=WRITER, painter=None)
    )


def test_another_seed_makes_other_captions(factors: Artifact, tmp_path: Path) -> None:
    """Their texts follow from their ids; those of seed 0 are the recipe's own."""
    plans = [
        caption_plan(str(tmp_path), factors, replace(WRITER, seed=seed), config=None)
        for seed in (0, 1)
    ]
    own, other = (plan.caption_id("toys", "fox", 2) for plan in plans)
    assert own == row_id("toys", "fox", 2, 0, WRITER.engine.recipe) != other
    assert plans[0].draft.content_hash != plans[1].draft.content_hash


def test_every_caption_is_settled_once(written: Artifact) -> None:
    rows = written.read_table("rows").to_pylist()
    assert [(row["class_name"], row["index"]) for row in rows if row["class_name"] == "fox"] == [
        ("fox", index) for index in range(PER_CLASS)
    ]
    assert len({row["caption_id"] for row in rows}) == len(rows) == PER_CLASS * len(CLASSES)
    for row in rows:
        assert row["class_name"] in row["caption"]


def test_accepted_captions_differ_and_refused_ones_were_asked_for_again(written: Artifact) -> None:
    rows = written.read_table("rows").to_pylist()
    for name in ("fox", "koala"):
        accepted = [
            content_words(row["caption"])
            for row in rows
            if row["class_name"] == name and not row["reason"]
        ]
        assert len(set(accepted)) == len(accepted) > 1
    refused = [row for row in rows if row["reason"]]
    assert {row["counter"] for row in refused} == {ATTEMPTS - 1}
    assert [row["class_name"] for row in refused].count("koala") == PER_CLASS - 2
    assert written.manifest.rows == {"rows": len(rows), "refused": len(refused)}


def test_refusals_are_counted_per_class_and_reason(written: Artifact) -> None:
    counts = {
        (row["class_name"], row["reason"]): row["count"]
        for row in written.read_table("refusals").to_pylist()
    }
    assert counts["koala", "near-duplicate of caption …"] >= (PER_CLASS - 2) * ATTEMPTS
    assert ("../a/b", "near-duplicate of caption …") not in counts
    assert sum(counts.values()) == sum(written.manifest.extra["refusals"].values())


def test_nothing_of_the_way_stays_in_the_artifact(written: Artifact) -> None:
    folder = Path(written.uri)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"manifest.json", "refusals/part-0.parquet", "rows/part-0.parquet"}


def test_one_pipeline_makes_what_the_jobs_make_one_by_one(
    factors: Artifact, written: Artifact, tmp_path: Path
) -> None:
    storage = str(Path(written.uri).parents[1])
    apart = synthesize(SynthesizeConfig(storage=storage, captions=written.uri))
    texts, together = artifacts(
        SynthesizeConfig(storage=str(tmp_path), factors=factors.uri, writer=WRITER)
    )
    assert texts.read_table("rows").equals(written.read_table("rows"))
    assert texts.read_table("refusals").equals(written.read_table("refusals"))
    assert texts.manifest.content_hash == written.manifest.content_hash
    assert together.read_table("rows").equals(apart.read_table("rows"))
    assert together.manifest.content_hash == apart.manifest.content_hash
    assert together.manifest.rows == apart.manifest.rows
