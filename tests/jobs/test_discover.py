"""A discovery on local Ray: nothing of it depends on a label that it is not given."""

import dataclasses
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from actors.discovery.discoverer import DiscoveryConfig
from cluster.artifacts import Artifact, open_artifact
from cluster.errors import ConfigError
from cluster.pieces import PIECES, Pieces
from cluster.pool import Pool
from jobs.dataset import DatasetConfig, dataset
from jobs.discover import discover_all
from jobs.encode import EncodeConfig, encode
from jobs.predict import main as predict
from models.discovery.clustering import ClusteringHyper
from models.discovery.naming import NamingHyper
from tests.actors.small_world import CONCEPTS, make_dataset, make_features, picture
from tests.browser import needs_chromium, open_page
from tests.jobs.small_discovery import BASELINES, LEARNING, WAY, config
from tests.manifests import allow_changes
from tests.test_recipes import loaded


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_features(folder, make_dataset(folder))
    return folder


@pytest.fixture(scope="module")
def found(world: Path, local_ray: None) -> Artifact:
    return discover_all(config(world, baselines=BASELINES))


def test_the_recipe_says_what_is_compared() -> None:
    cfg = loaded("embedded_discovery.yaml")
    assert cfg.discoveries["zsnl-imagined-k"].clustering.clusters == 28
    assert cfg.discoveries["zsnl-imagined-every"].learning.fsnl.lr == 0.01
    assert {baseline.method for baseline in cfg.baselines.values()} == {"zero_shot", "fsnl"}


def test_everything_that_was_asked_for_is_measured(found: Artifact) -> None:
    rows = found.read_table("metrics").to_pylist()
    accuracy = {
        (r["method"], r["seed"], r["label_space"]) for r in rows if r["measure"] == "accuracy"
    }
    assert accuracy == {
        *((m, s, space) for space in ("OOP", "IP", "all") for m, s in
          [("zsnl", 0), ("zsnl", 1), ("zero-shot", 0), ("transclip", 0)]),
        ("linear-probe", 0, "all"), ("linear-probe", 1, "all"),
    }  # fmt: skip
    assert all(0 <= r["value"] <= 1 for r in rows if r["measure"] in ("clustering", "naming"))
    of_parts = {
        r["label_space"]: r for r in rows
        if (r["method"], r["seed"], r["measure"]) == ("zsnl", 0, "clustering")
    }  # fmt: skip
    # One matching: the parts' hits are those of the whole. 8 training images a class, 2 labelled.
    assert [of_parts[space]["images"] for space in ("OOP", "IP", "all")] == [24, 18, 42]
    hits = {space: round(row["value"] * row["images"]) for space, row in of_parts.items()}
    assert hits["OOP"] + hits["IP"] == hits["all"]


def test_images_and_clusters_fit_together(found: Artifact) -> None:
    clusters = found.read_table("clusters").to_pylist()
    images = found.read_table("assignments").to_pylist()
    assert len(images) == 2 * 42
    for seed in (0, 1):
        sizes = {r["cluster"]: r["images"] for r in clusters if r["seed"] == seed}
        held = [r["cluster"] for r in images if r["seed"] == seed]
        assert {c: held.count(c) for c in sizes} == sizes


def test_the_page_shows_every_cluster_with_its_name(found: Artifact) -> None:
    page = Path(found.uri, "report.html").read_text()
    names = {r["name"] for r in found.read_table("clusters").to_pylist() if r["seed"] == 0}
    assert all(f"<b>{name or '(unnamed)'}</b>" in page for name in names)
    assert page.count("data:image/png") > 2
    for heading in ("Accuracy on test images", "Clusters and names", "by themselves"):
        assert heading in page


def test_a_saved_model_answers(
    found: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").write_bytes(picture("any"))
    model = Path(found.uri) / "models" / "toys--zsnl--0"
    predict([str(model), str(tmp_path / "x.png"), "--top", "1"])
    (answer,) = capsys.readouterr().out.splitlines()
    assert json.loads(answer)["names"][0] in {concept.name for concept in CONCEPTS}


def test_a_run_goes_on_where_it_stopped(
    found: Artifact, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is broken off when all pieces are there, and one of them is lost."""
    cfg = config(world, storage="broken", seeds=[1])
    gather, lost = Pieces.gather, "toys--zsnl--1.parquet"
    there: list[dict[str, int]] = []

    def noted(self: Pieces, keys: Iterable[str]) -> dict[str, int]:
        folder = Path(self.draft.file(PIECES, "metrics"))
        there.append({path.name: path.stat().st_mtime_ns for path in folder.iterdir()})
        if len(there) == 1:
            raise KeyboardInterrupt
        return gather(self, keys)

    monkeypatch.setattr(Pieces, "gather", noted)
    with pytest.raises(KeyboardInterrupt):
        discover_all(cfg)
    (unfinished,) = (world / "broken").rglob(f"{PIECES}/metrics/{lost}")
    unfinished.unlink()
    again = discover_all(cfg).read_table("metrics").to_pylist()
    first, second = there
    assert {name for name in second if second[name] != first[name]} == {lost}
    expected = [row for row in found.read_table("metrics").to_pylist() if row["method"] == "zsnl"]
    assert [row for row in again if row["method"] == "zsnl"] == [
        row for row in expected if row["seed"] == 1
    ]


def test_labels_of_unlabelled_images_change_nothing(
    found: Artifact, world: Path, tmp_path: Path
) -> None:
    """Those of OOP classes are turned round, in the dataset and in the index of its features."""
    for kind in ("dataset", "features"):
        shutil.copytree(world / kind, tmp_path / kind)
    labelled = labelled_by(world, seed=0)
    for table in (*tmp_path.glob("dataset/*/rows"), *tmp_path.glob("features/*/index")):
        for path in table.glob("*.parquet"):
            turned = [turn(row, labelled) for row in pa.parquet.read_table(path).to_pylist()]
            schema = pa.parquet.read_schema(path)
            pa.parquet.write_table(pa.Table.from_pylist(turned, schema), path)
        allow_changes(table.parent)
    same = discover_all(config(tmp_path, storage="turned", seeds=[0]))
    for name in ("clusters", "assignments"):
        expected = [row for row in found.read_table(name).to_pylist() if row["seed"] == 0]
        assert same.read_table(name).to_pylist() == expected
    measured = [r for r in same.read_table("metrics").to_pylist() if r["measure"] == "clustering"]
    assert measured  # of other labels, so other numbers, but nothing that was found


def labelled_by(world: Path, seed: int) -> set[str]:
    from cluster.catalog.dataset import open_dataset
    from cluster.catalog.splits import draw_shots

    (path,) = world.glob("dataset/*")
    return set(draw_shots(open_dataset(str(path)), WAY.labelled, seed, "full", "IP").train_ids)


def turn(row: dict, labelled: set[str]) -> dict:
    """An OOP training image that no one labelled becomes one of the next OOP class."""
    if row["split"] != "train" or row["id"] in labelled or row["label"] < 3:
        return row
    label = 3 + (row["label"] - 2) % 3
    return row | {"label": label, "class_name": CONCEPTS[label].name}


def test_images_without_classes_are_clustered_and_named(local_ray: None, tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for index in range(12):
        (tmp_path / "images" / "deep" / f"{index}.png").write_bytes(picture(f"{index % 3}"))
    (tmp_path / "images" / "notes.txt").write_text("no image")
    made = dataset(
        DatasetConfig(storage=str(tmp_path), name="finds", images=str(tmp_path / "images"))
    )
    assert made.manifest.rows == {"rows": 12, "rejected": 1}
    encode(EncodeConfig(storage=str(tmp_path), datasets=[made.uri], pool=Pool(workers=1)))
    (tmp_path / "names.txt").write_text("okapi\n\n  quokka \nkinkajou\nviolin\nokapi\n")
    way = DiscoveryConfig(
        candidates=str(tmp_path / "names.txt"),
        clustering=ClusteringHyper(clusters=3),
        naming=NamingHyper(min_margin=None),
        learning=LEARNING,
    )
    job = config(tmp_path, discoveries={"zsnl": way}, seeds=[0], baselines=BASELINES)
    found = discover_all(job)
    clusters = found.read_table("clusters").to_pylist()
    assert sorted(row["images"] for row in clusters) == [4, 4, 4]
    assert len({row["name"] for row in clusters}) == 3
    assert {r["name"] for r in clusters} <= {"okapi", "quokka", "kinkajou", "violin"}
    assert len(found.read_table("metrics")) == 0
    by_images = dataclasses.replace(way, naming=NamingHyper(by="imagined"))
    with pytest.raises(ConfigError, match=r"^discoveries.zsnl on finds: .*no image of candidate"):
        discover_all(config(tmp_path, discoveries={"zsnl": by_images}, seeds=[0]))
    with pytest.raises(ConfigError, match=r"discoveries.zsnl.clustering.clusters: none"):
        discover_all(config(tmp_path, discoveries={"zsnl": WAY_OF_NAMES}, seeds=[0]))
    assert open_artifact(found.uri, "discovery").manifest.rows["assignments"] == 12


WAY_OF_NAMES = DiscoveryConfig(candidates=__file__)


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (DiscoveryConfig(candidates="nowhere.txt"), "candidates: 'nowhere.txt' cannot be read"),
        (DiscoveryConfig(labelled=0), "clustering.clusters: none"),
        (DiscoveryConfig(labelled=9), "shots: 9"),
    ],
)
def test_what_cannot_run_is_refused_beforehand(
    way: DiscoveryConfig, message: str, world: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        discover_all(config(world, storage="refused", discoveries={"zsnl": way}))
    assert not (world / "refused").exists()


def test_a_name_stands_for_one_line(world: Path) -> None:
    with pytest.raises(ConfigError, match="names two lines"):
        config(world, discoveries={"zero-shot": WAY}, baselines=BASELINES)
    with pytest.raises(ConfigError, match="names two lines"):
        config(world, discoveries={"k-means": WAY})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyper": {"bisections": -1}}, r"^baselines.probe.hyper.bisections: -1; allowed: int ≥0"),
        ({"teacher": True}, "^baselines.probe: trials or a teacher"),
    ],
)
def test_a_bad_baseline_is_one_line(change: dict, message: str, world: Path) -> None:
    probe = dataclasses.replace(BASELINES["linear-probe"], **change)
    with pytest.raises(ConfigError, match=message):
        config(world, baselines={"probe": probe})


@needs_chromium
def test_a_browser_opens_the_page_without_an_error(found: Artifact) -> None:
    assert open_page(Path(found.uri, "report.html")) == []
