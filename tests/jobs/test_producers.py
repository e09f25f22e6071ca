"""Whatever makes a base set or a dataset, all that reads one can read it.

Rows are made by the workers of the jobs, here without Ray.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.curation.critic import Critic, CriticConfig
from actors.curation.critique import TABLE, critique_plans, read_critique
from actors.curation.decisions import CurationConfig, curate
from actors.embedded.sprite_factors import FACTORS
from actors.features.encoder import EncoderConfig
from actors.features.encoding import SCHEMAS, ShardEncoder, ShardPlan
from actors.features.plan import EVERYTHING, encoding_plan
from actors.features.selection import Selection
from actors.features.store import FeatureStore
from actors.pictures.base_set import BaseSetRows, open_base_set
from actors.pictures.decoded import pictures
from actors.search.cells import MethodConfig, declared_cells
from actors.search.tasks import Tasks, TaskSource
from actors.synthesis.base_sets.exporting import COLUMNS, WRITERS
from actors.synthesis.base_sets.importing import FileReader, import_plan
from actors.synthesis.painters.painter import CaptionPainter, PainterConfig
from cluster.artifacts import Artifact, Draft, draft
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.catalog.splits import draw_shots
from cluster.pieces import Pieces
from cluster.storage import filesystem
from jobs.dataset import DatasetConfig, dataset
from jobs.report.pages.curation import curation_section
from jobs.report.pages.gallery import gallery
from tests.small_trees import coop_tree, folder_tree

pytestmark = pytest.mark.long
NAME, CLASSES, VIEWS, CAPTIONS = "zoo", ("fox", "koala"), 2, 2
Workers = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make(out: Draft, table: str, plan: pa.Table, worker: Workers) -> int:
    """What `make_rows` does; returns the number of refused rows."""
    batch = {name: plan[name].to_numpy(zero_copy_only=False) for name in plan.column_names}
    rows = {name: pa.array(list(values)) for name, values in worker(batch).items()}
    out.write_table(table, pa.table(rows))
    return sum(reason != "" for reason in rows["reason"].to_pylist())


def published(storage: Path, name: str, rows: pa.Table) -> Artifact:
    out = draft(str(storage), "images", name, config=None, inputs={})
    out.write_table("rows", rows)
    refused = pc.sum(pc.not_equal(rows["reason"], "")).as_py()
    return out.publish({"rows": len(rows), "refused": refused})


def painted(storage: Path) -> Artifact:
    captions = [
        {"caption_id": f"{name} {i}", "dataset": NAME, "class_name": name, "label": label}
        | {"index": i, "group": "IP", "hint": "thing", "mode": "BG", "caption": f"A {name}."}
        | dict.fromkeys((*FACTORS, "reason"), "")
        for label, name in enumerate(CLASSES)
        for i in range(CAPTIONS)
    ]
    painter = CaptionPainter(PainterConfig().engine, VIEWS)
    return published(storage, "painted", painter(pa.Table.from_pylist(captions)))


def imported(storage: Path, folder: Path, name: str) -> Artifact:
    out = draft(str(storage), "images", name, config=None, inputs={})
    plan = import_plan(str(folder), NAME)
    refused = make(out, "rows", plan.rows, FileReader(str(folder)))
    return out.publish({"rows": len(plan.rows), "refused": refused})


def with_views(storage: Path) -> Artifact:
    """Photographs in other formats than PNG, of which one is broken and one thin."""
    folder = storage / "views"
    for view, (mode, suffix) in enumerate((("RGB", "jpg"), ("RGBA", "tiff"))):
        for label, name in enumerate(CLASSES):
            (folder / f"view{view}" / name).mkdir(parents=True)
            for i in range(CAPTIONS):
                pixels = np.random.default_rng([view, label, i]).integers(0, 256, (30, 41, 3))
                image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
                image.save(folder / f"view{view}" / name / f"{i}.{suffix}")
    Image.new("RGB", (1, 900)).save(folder / "view0" / "fox" / "thin.png")
    (folder / "view1" / "fox" / "broken.gif").write_bytes(b"GIF89a")
    return imported(storage, folder, "views")


def with_one_view(storage: Path) -> Artifact:
    for label, name in enumerate(CLASSES):
        (storage / "flat" / name).mkdir(parents=True)
        for i in range(CAPTIONS):
            pixels = np.random.default_rng([label, i]).integers(0, 65536, (40, 30))
            image = Image.fromarray(pixels.astype(np.uint16))
            image.save(storage / "flat" / name / f"{i}.png")
    return imported(storage, storage / "flat", "flat")


def exported(storage: Path) -> Artifact:
    export(with_views(storage), storage / "out", "views")
    return imported(storage, storage / "out", "exported")


BASE_SETS: dict[str, Callable[[Path], Artifact]] = {
    "painted": painted,
    "imported views": with_views,
    "imported classes": with_one_view,
    "exported and imported": exported,
}


def embedded(folder: Path) -> dict[str, Any]:
    return {"name": "digits"}


def in_folders(folder: Path) -> dict[str, Any]:
    folder_tree(folder, dict.fromkeys(CLASSES, 5))
    Image.new("RGB", (1, 900)).save(folder / "train" / "fox" / "thin.png")
    return {"name": NAME, "folder": str(folder)}


def in_parquet(folder: Path) -> dict[str, Any]:
    folder_tree(folder / "files", dict.fromkeys(CLASSES, 5))
    rows = [
        {"image": path.read_bytes(), "split": path.parts[-3], "class_name": path.parts[-2]}
        for path in sorted((folder / "files").glob("*/*/*"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return {"name": NAME, "parquet": str(folder / "rows.parquet")}


def of_coop(folder: Path) -> dict[str, Any]:
    index = "split_zhou_EuroSAT.json"
    coop_tree(folder, dict.fromkeys(CLASSES, 5), "eurosat", "2750", index)
    return {"name": "eurosat", "root": str(folder)}


def without_classes(folder: Path) -> dict[str, Any]:
    folder_tree(folder, {"deep": 6}, ("a",))
    return {"name": NAME, "images": str(folder)}


DATASETS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "embedded": embedded,
    "folders": in_folders,
    "parquet": in_parquet,
    "coop": of_coop,
    "without classes": without_classes,
}


@pytest.fixture(params=BASE_SETS)
def base_set(request: pytest.FixtureRequest, tmp_path: Path) -> Artifact:
    return BASE_SETS[request.param](tmp_path / "base")


@pytest.fixture(params=DATASETS)
def any_dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    (tmp_path / "files").mkdir()
    spec = DATASETS[request.param](tmp_path / "files")
    return open_dataset(dataset(DatasetConfig(storage=str(tmp_path), **spec)).uri)


def zoo(tmp_path: Path) -> Dataset:
    spec = in_folders(tmp_path / "zoo")
    return open_dataset(dataset(DatasetConfig(storage=str(tmp_path), **spec)).uri)


ENCODER = EncoderConfig(views=2)


def encode(
    tmp_path: Path,
    of: Dataset,
    base_set: Artifact | None,
    rows: int,
    selection: Selection = EVERYTHING,
    config: EncoderConfig = ENCODER,
) -> FeatureStore:
    """As `jobs.encode` does, of so many rows of the plan."""
    encoder = ShardEncoder(config)
    views = {"train": 2, "val": 1, "test": 1, "imagined": 1}
    plan = encoding_plan(of, BaseSetRows(base_set) if base_set else None, views, selection)
    plan = plan.take(np.linspace(0, len(plan) - 1, min(rows, len(plan))).astype(int))
    inputs = {"dataset": of.artifact} | ({"base_set": base_set} if base_set else {})
    out = draft(str(tmp_path), "features", of.name, config=None, inputs=inputs)
    encoding, pieces = ShardPlan(out, plan, views, encoder.encode.image), Pieces(out, SCHEMAS)
    for shard in encoding.shards():
        pieces.write(shard.key, encoder(shard))
    counts = encoding.write_index(pieces)
    clip = encoder.encode.clip
    extra = {
        "backbone": clip.backbone,
        "weights_hash": clip.weights_hash,
        "drawn": selection.draws is not None,
    }
    return FeatureStore(out.publish(counts, extra | encoding.extra()).uri)


def curation_of(tmp_path: Path, base_set: Artifact, of: Dataset) -> Artifact:
    """As `jobs.curate` does."""
    looks = draft(str(tmp_path), "critique", "walk", config=None, inputs={})
    critic = Critic(CriticConfig())
    make(looks, TABLE, pa.concat_tables(critique_plans(base_set, [of])), critic)
    critique = looks.publish({}, {"embed_dim": critic.clip.embed_dim})
    result = curate(*read_critique(critique), CurationConfig())
    inputs = {"base_set": base_set, f"dataset {of.name}": of.artifact}
    out = draft(str(tmp_path), "curation", "walk", config=None, inputs=inputs)
    out.write_table("decisions", result.decisions)
    out.write_table("contamination", result.contamination)
    out.write_json("summary.json", result.summary)
    return out.publish({"kept": result.summary["kept"]})


def export(base_set: Artifact, folder: Path, layout: str) -> int:
    done: list[int] = []
    fs, path = filesystem(str(folder))
    WRITERS[layout](BaseSetRows(base_set).good(COLUMNS), fs, path, 3, done.append)
    return sum(done)


def test_a_base_set_is_encoded_and_learned_on(base_set: Artifact, tmp_path: Path) -> None:
    of, count = zoo(tmp_path), BaseSetRows(base_set).count_images()
    assert count >= len(CLASSES) * CAPTIONS
    store = encode(tmp_path, of, base_set, rows=10_000)
    assert len(store.ids("imagined")) == count
    assert store.rejected == 0
    source = TaskSource(
        (of.artifact.uri,), (store.artifact.uri,), None, "min", "hand", base_set=base_set.uri
    )
    (lora,) = declared_cells([NAME], {"x": MethodConfig(method="clip_lora", shots=[1])}, {})
    tasks = Tasks(source)
    task = tasks.task(lora, tasks.split(lora, seed=0))
    assert task.imagined is not None
    assert task.imagined.images is not None
    assert len(task.imagined.images) == count
    assert task.train.images is not None
    assert len(task.train.images) == len(CLASSES)


def test_a_base_set_is_curated_and_reported(base_set: Artifact, tmp_path: Path) -> None:
    of = zoo(tmp_path)
    curation = curation_of(tmp_path, base_set, of)
    decisions = curation.read_table("decisions")
    assert len(decisions) == BaseSetRows(base_set).count_images()
    assert "broken" not in decisions["reason"].to_pylist()
    assert len(list(BaseSetRows(base_set, curation).good([]))) == curation.manifest.rows["kept"]
    assert curation_section(curation, base_set, [of.artifact])
    items = gallery(base_set, captions=10, seed=0)
    assert {item.class_name for item in items} == set(CLASSES)


def test_a_base_set_is_decoded_for_pretraining(base_set: Artifact) -> None:
    rows = BaseSetRows(base_set)
    opened = open_base_set(rows)
    assert len(opened) == rows.count_captions()
    assert opened.starts[-1] in (0, rows.count_images()), "none, or all, have a pair"
    if len(opened):
        drawn, _ = opened.draw(range(len(opened)), "0/0", (2, 1))
        assert drawn.shape == (2, len(opened), 3, opened.size, opened.size)


@pytest.mark.parametrize("layout", WRITERS)
def test_a_base_set_is_exported(base_set: Artifact, tmp_path: Path, layout: str) -> None:
    assert export(base_set, tmp_path / "out", layout) == BaseSetRows(base_set).count_images()
    assert any(path.is_file() for path in (tmp_path / "out").rglob("*"))


def test_a_dataset_is_encoded_and_its_pictures_read(any_dataset: Dataset, tmp_path: Path) -> None:
    store = encode(tmp_path, any_dataset, None, rows=12)
    assert store.rejected == 0
    assert len(store.ids("train")) > 0
    ids = any_dataset.rows["id"].to_pylist()[:5]
    assert pictures(any_dataset.artifact, ids, 32).shape == (5, 3, 32, 32)
    images = any_dataset.images(ids)
    assert all(len(image) > 0 for image in images)


def test_a_dataset_is_compared_with_a_base_set(any_dataset: Dataset, tmp_path: Path) -> None:
    base_set = painted(tmp_path / "base")
    plan = pa.concat_tables(critique_plans(base_set, [any_dataset]))
    tests = any_dataset.rows.filter(pc.field("split") == "test")
    assert plan["role"].to_pylist().count("test") == len(tests)
    looked_at = Critic(CriticConfig())(
        {
            name: values.to_numpy(zero_copy_only=False)
            for name, values in zip(plan.column_names, plan.slice(0, 10).columns, strict=True)
        }
    )
    assert set(looked_at["reason"]) == {""}


def test_shots_are_drawn_of_a_dataset(any_dataset: Dataset) -> None:
    if not any_dataset.labelled:
        pytest.skip("it has no classes to draw shots of")
    split = draw_shots(any_dataset, 2, 0, "min", "all", "hash")
    assert len(split.train_ids) == 2 * len(any_dataset.concepts)
    lines = Path(any_dataset.artifact.file("split.jsonl")).read_text("utf-8").splitlines()
    assert {json.loads(line)["id"] for line in lines} == set(any_dataset.rows["id"].to_pylist())
