import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from cluster.artifacts import draft
from cluster.catalog.dataset import (
    SCHEMA,
    SPLIT_COLUMNS,
    Concept,
    Dataset,
    open_dataset,
    publish_dataset,
)
from cluster.catalog.splits import draw_shots
from cluster.errors import ConfigError
from cluster.manifest import MANIFEST
from cluster.rows import digest, row_id

CONCEPTS = (Concept("okapi", "OOP"), Concept("cat", "IP"), Concept("../../x", "IP"))
IMAGES = {"train": 20, "val": 8, "test": 3}


def png(shade: int) -> bytes:
    Image.new("L", (2, 2), shade).save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


def dataset_rows(images: dict[str, int] = IMAGES) -> pa.Table:
    rows = [
        {
            "id": row_id("toys", concept.name, index, 0, split),
            "dataset": "toys",
            "class_name": concept.name,
            "label": label,
            "group": concept.group,
            "split": split,
            "image": png(index),
        }
        for label, concept in enumerate(CONCEPTS)
        for split, count in images.items()
        for index in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def publish(storage: Path, rows: pa.Table) -> Dataset:
    toy_draft = draft(str(storage), "dataset", "toys", content={}, config=None, inputs={})
    template = "a photo of a {}, a type of toy."
    return publish_dataset(toy_draft, rows, CONCEPTS, hint="toy", template=template)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return publish(tmp_path_factory.mktemp("toys"), dataset_rows())


def test_a_dataset_comes_back(toys: Dataset) -> None:
    opened = open_dataset(toys.artifact.uri)
    assert (opened.name, opened.concepts, opened.hint) == ("toys", CONCEPTS, "toy")
    assert opened.template.format("cat") == "a photo of a cat, a type of toy."
    assert opened.rows.column_names == [*SPLIT_COLUMNS, "order"]
    assert opened.rows.num_rows == len(CONCEPTS) * sum(IMAGES.values())


def test_images_come_in_the_order_that_was_asked_for(toys: Dataset) -> None:
    ids = [row_id("toys", "cat", index, 0, "train") for index in (7, 2, 5)]
    assert toys.images(ids) == [png(7), png(2), png(5)]
    with pytest.raises(KeyError):
        toys.images(["0" * 32])


def test_split_file_and_its_hash_agree(toys: Dataset) -> None:
    lines = Path(toys.artifact.file("split.jsonl")).read_text()
    assert lines.count("\n") == toys.rows.num_rows
    assert toys.split_hash == digest(lines).hex()


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    rows = dataset_rows()
    only = rows.filter([name != "cat" for name in rows["class_name"].to_pylist()])
    with pytest.raises(ConfigError, match="class 'cat' has 0 images; allowed: at least 1"):
        publish(tmp_path, only)
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_draw_is_the_same_again_and_for_rows_in_another_order(
    toys: Dataset, tmp_path: Path
) -> None:
    turned = publish(tmp_path, dataset_rows().take(list(range(toys.rows.num_rows))[::-1]))
    first, again, other = (draw_shots(d, 4, 0, "min", "all") for d in (toys, toys, turned))
    assert first == again == other
    assert first.hash == other.hash


def test_shots_per_class_and_no_row_twice(toys: Dataset) -> None:
    split = draw_shots(toys, 16, 0, "min", "all")
    assert (len(split.train_ids), len(split.val_ids)) == (16 * 3, 4 * 3)
    assert len({*split.train_ids, *split.val_ids}) == 20 * 3


def test_rows_come_from_their_own_splits(toys: Dataset) -> None:
    split = draw_shots(toys, 16, 0, "full", "all")
    where = dict(zip(toys.rows["id"].to_pylist(), toys.rows["split"].to_pylist(), strict=True))
    assert {where[row] for row in split.train_ids} == {"train"}
    assert {where[row] for row in split.val_ids} == {"val"}


@pytest.mark.parametrize(("policy", "count"), [("none", 0), ("min", 2), ("full", 8)])
def test_validation_policies(toys: Dataset, policy: str, count: int) -> None:
    split = draw_shots(toys, 2, 0, policy, "all")  # type: ignore[arg-type]
    assert len(split.val_ids) == count * 3


@pytest.mark.parametrize(
    ("concepts", "names"),
    [
        ("OOP", {"okapi"}),
        ("IP", {"cat", "../../x"}),
        ("base", {concept.name for concept in CONCEPTS[:2]}),
        ("new", {CONCEPTS[2].name}),
    ],
)
def test_groups(toys: Dataset, concepts: str, names: set[str]) -> None:
    split = draw_shots(toys, 1, 0, "min", concepts)  # type: ignore[arg-type]
    rows = toys.rows.filter(pa.compute.field("id").isin(split.train_ids))
    assert set(rows["class_name"].to_pylist()) == names


def test_more_shots_begin_with_the_fewer(toys: Dataset) -> None:
    one, four = (draw_shots(toys, shots, 5, "none", "IP").train_ids for shots in (1, 4))
    assert (one[0], one[1]) == (four[0], four[4])


def test_seeds_draw_other_rows(toys: Dataset) -> None:
    assert len({draw_shots(toys, 4, seed, "none", "all").hash for seed in range(5)}) == 5


@pytest.mark.parametrize(("column", "value"), [("id", "f" * 32), ("group", "IP")])
def test_hash_changes_with_any_row(toys: Dataset, tmp_path: Path, column: str, value: str) -> None:
    rows = dataset_rows()
    place = rows.column_names.index(column)
    values = pa.array([value, *rows[column].to_pylist()[1:]], SCHEMA.types[place])
    changed = publish(tmp_path, rows.set_column(place, SCHEMA.field(column), values))
    assert changed.split_hash != toys.split_hash
    every_row = [draw_shots(dataset, 20, 0, "full", "all").hash for dataset in (toys, changed)]
    assert every_row[0] != every_row[1]


def test_too_few_images_name_class_and_count(tmp_path: Path) -> None:
    few = publish(tmp_path, dataset_rows({"train": 5, "val": 1, "test": 1}))
    with pytest.raises(
        ConfigError, match=r"16 train images of class 'okapi'.* has 5; allowed: .*5"
    ):
        draw_shots(few, 16, 0, "min", "all")
    with pytest.raises(ConfigError, match=r"4 val images of class 'okapi'.* has 1; allowed: .*1"):
        draw_shots(few, 4, 0, "min", "all")
    assert len(draw_shots(few, 4, 0, "full", "all").val_ids) == 3


def test_no_shots_are_no_split(toys: Dataset) -> None:
    with pytest.raises(ConfigError, match="shots: 0; allowed: 1 or more"):
        draw_shots(toys, 0, 0, "min", "all")


def test_the_hash_of_a_split_is_that_of_its_lines(toys: Dataset) -> None:
    split = draw_shots(toys, 2, 0, "min", "all")
    assert digest(split.lines).hex() == split.hash
    assert split.lines.count("\n") == 12


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concepts", None),
        ("concepts", [{"name": "ant"}]),
        ("concepts", [{"name": "ant", "group": "IP", "x": 1}]),
        ("concepts", [{"name": 7, "group": "IP"}]),
        ("hint", 7),
        ("template", []),
        ("split_hash", None),
        ("prompts", "no"),
        ("shots", {"1-1": 1}),
    ],
)
def test_a_manifest_that_is_no_dataset_is_one_line(tmp_path: Path, name: str, value: Any) -> None:
    toys = publish(tmp_path, dataset_rows())
    manifest = Path(toys.artifact.uri, MANIFEST)
    content = json.loads(manifest.read_text())
    extras: list[dict[str, Any]] = [content["extra"] | {name: value}, {}]
    for extra in extras:
        manifest.write_text(json.dumps(content | {"extra": extra}))
        with pytest.raises(ConfigError, match=r"dataset: the manifest of .* says of \w+ .*; allow"):
            open_dataset(toys.artifact.uri)
