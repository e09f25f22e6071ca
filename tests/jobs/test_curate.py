"""One run of the whole job on painted pictures among which bad ones have been planted."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from actors.curation.decisions import CurationConfig
from actors.embedded.imagined_scenes import Scene, paint, sprite_codes
from actors.embedded.sprite_factors import factor_table
from actors.embedded.target_scenes import photograph
from actors.features.plan import encoding_plan
from actors.pictures.base_set import open_base_set_rows
from actors.pictures.codec import decode_rgb, png_bytes
from actors.pictures.places import texts_of_ids
from cluster.artifacts import Artifact, draft
from cluster.catalog.dataset import SCHEMA, Concept, Dataset, publish_dataset
from cluster.errors import ConfigError
from cluster.pool import Pool
from cluster.rows import row_id, row_rng
from jobs.curate import CurateConfig, curate
from jobs.export import ExportImagesConfig, export_images
from jobs.report.job import PAGE, ReportConfig, report
from tests.jobs.report.report_artifacts import write_sources

CLASSES = {"fox": "IP", "airplane": "IP", "chicken": "OOP"}
CAPTIONS, VIEWS = 5, 4
PLANTED = {
    ("fox", 3, 3): "contaminated",
    ("fox", 4, 0): "duplicate",
    ("fox", 4, 1): "duplicate",
    ("fox", 4, 2): "flat",
    ("fox", 4, 3): "broken",
}
Key = tuple[str, int, int]


def jpeg(picture: Image.Image, quality: int) -> bytes:
    picture.save(buffer := io.BytesIO(), "JPEG", quality=quality)
    return buffer.getvalue()


def cropped(picture: Image.Image) -> Image.Image:
    """Two pixels off its left side and its top, in the old size."""
    return picture.crop((2, 2, *picture.size)).resize(picture.size, Image.Resampling.BICUBIC)


def zoo(storage: Path) -> Dataset:
    """Two photographs per class and split."""
    rows = []
    for label, (name, group) in enumerate(CLASSES.items()):
        for split in ("train", "val", "test"):
            for index in range(2):
                row = row_id("zoo", name, index, 0, split)
                picture = photograph(sprite_codes()[name], row_rng(row))
                rows.append(
                    {
                        "id": row,
                        "dataset": "zoo",
                        "class_name": name,
                        "label": label,
                        "group": group,
                        "split": split,
                        "image": png_bytes(picture),
                    }
                )
    out = draft(str(storage), "dataset", "zoo", content={}, config={}, inputs={})
    concepts = [Concept(name, group) for name, group in CLASSES.items()]
    return publish_dataset(
        out, pa.Table.from_pylist(rows, SCHEMA), concepts, hint="thing", template="a photo of a {}."
    )


def painted(test_image: bytes) -> list[dict[str, Any]]:
    rows: dict[Key, dict[str, Any]] = {}
    for name, group in CLASSES.items():
        for index in range(CAPTIONS):
            for view in range(VIEWS):
                row = row_id("zoo", name, index, view, "painted")
                scene = Scene(name, background=list(factor_table()["backgrounds"])[index])
                rows[name, index, view] = {
                    "id": row,
                    "dataset": "zoo",
                    "class_name": name,
                    "group": group,
                    "label": list(CLASSES).index(name),
                    "index": index,
                    "view": view,
                    "caption": f"A photo of a {name}." if index else "",
                    "reason": "",
                    "image": png_bytes(paint(scene, row)),
                }
    first, second = (decode_rgb(rows["fox", index, 0]["image"]) for index in (0, 1))
    first.save(again := io.BytesIO(), "PNG", compress_level=0)
    broken = rows["fox", 4, 3]["image"]
    planted = (
        jpeg(cropped(decode_rgb(test_image)), 75),
        again.getvalue(),
        jpeg(second, 40),
        png_bytes(Image.new("RGB", (96, 96), (90, 120, 200))),
        broken[: len(broken) // 2],
    )
    for key, image in zip(PLANTED, planted, strict=True):
        rows[key]["image"] = image
    refused = rows["fox", 0, 0] | {"id": "f" * 32, "view": 9, "image": b"", "reason": "no sprite"}
    return [*rows.values(), refused]


@dataclasses.dataclass(frozen=True)
class Curated:
    cfg: CurateConfig
    dataset: Dataset
    base_set: Artifact
    artifact: Artifact

    def decisions(self) -> dict[Key, dict[str, Any]]:
        rows = self.artifact.read_table("decisions").to_pylist()
        return {(row["class_name"], row["index"], row["view"]): row for row in rows}

    def refused(self) -> set[str]:
        return {row["id"] for row in self.decisions().values() if not row["kept"]}


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Curated:
    storage = tmp_path_factory.mktemp("curate")
    dataset = zoo(storage)
    (test_image,) = dataset.images([row_id("zoo", "chicken", 1, 0, "test")])
    out = draft(str(storage), "images", "zoo", content={}, config={}, inputs={})
    rows = painted(test_image)
    out.write_table("rows", pa.Table.from_pylist(rows))
    base_set = out.publish({"rows": len(rows), "refused": 1})
    cfg = CurateConfig(
        storage=str(storage),
        base_set=base_set.uri,
        datasets=[dataset.artifact.uri],
        pool=Pool(workers=1),
    )
    return Curated(cfg, dataset, base_set, curate(cfg))


def test_what_was_planted_is_found_with_its_reason(curated: Curated) -> None:
    found = curated.decisions()
    assert {key: found[key]["reason"] for key in PLANTED} == PLANTED
    assert found["fox", 4, 0]["detail"] == found["fox", 0, 0]["id"]
    assert found["fox", 4, 1]["detail"] == found["fox", 1, 0]["id"]
    assert found["fox", 3, 3]["detail"] == row_id("zoo", "chicken", 1, 0, "test")
    assert "not a readable image" in found["fox", 4, 3]["detail"]


def test_nothing_else_is_lost_beyond_the_bound(curated: Curated) -> None:
    others = {row["reason"] for key, row in curated.decisions().items() if key not in PLANTED}
    assert others <= {"", "low score"}
    summary = curated.artifact.read_json("summary.json")
    assert summary["offered"] == len(CLASSES) * CAPTIONS * VIEWS, "less what the painter refused"
    assert summary["kept"] == summary["offered"] - len(curated.refused())
    assert summary["test_images"] == {"zoo": 6}
    for of_class in summary["classes"]:
        assert of_class["kept_share"] >= 0.7
        assert of_class["offered"] == CAPTIONS * VIEWS


def test_the_audit_lists_pairs_on_both_sides_of_the_threshold(curated: Curated) -> None:
    pairs = curated.artifact.read_table("contamination").to_pylist()
    (refused,) = [pair for pair in pairs if pair["listed"] == "refused"]
    assert refused["imagined_id"] == curated.decisions()["fox", 3, 3]["id"]
    assert refused["test_class_name"] == "chicken"
    others = [pair for pair in pairs if pair["listed"] == "closest by cosine"]
    assert len(others) == 20
    assert max(pair["cosine"] for pair in others) < refused["cosine"]


def test_what_is_done_is_not_done_twice(
    curated: Curated, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curate(curated.cfg) == curated.artifact
    assert "curate: done before" in capsys.readouterr().err
    milder = dataclasses.replace(curated.cfg, rules=CurationConfig(min_kept_share=1.0))
    other = curate(milder)
    assert other.uri != curated.artifact.uri
    assert other.read_json("summary.json")["low score"] == 0
    assert "critique:" not in capsys.readouterr().err, "no picture is looked at again"


def test_readers_leave_out_what_is_refused(curated: Curated, tmp_path: Path) -> None:
    rows = open_base_set_rows(curated.base_set.uri, curated.artifact.uri)
    kept = {row["id"] for row in curated.decisions().values() if row["kept"]}
    assert len(kept) == rows.count_images() == len(curated.decisions()) - len(curated.refused())
    export_images(
        ExportImagesConfig(
            images=curated.base_set.uri,
            curation=curated.artifact.uri,
            folder=str(tmp_path / "out"),
            layout="views",
        )
    )
    lines = [json.loads(x) for x in (tmp_path / "out" / "captions.jsonl").read_text().splitlines()]
    found = curated.decisions()
    assert {found[x["class_name"], x["index"], x["view"]]["id"] for x in lines} == kept
    views = {"train": 1, "val": 1, "test": 1, "imagined": 1}
    plan = texts_of_ids(encoding_plan(curated.dataset, rows, views))
    imagined = np.array(plan["split"].to_pylist()) == "imagined"
    assert set(plan.filter(imagined)["id"].to_pylist()) == kept
    bare = open_base_set_rows(curated.base_set.uri)
    assert rows.identity != bare.identity, "decoded pictures are not shared"
    assert rows.inputs.keys() == {"base_set", "curation"}
    assert bare.count_captions() == len(CLASSES) * CAPTIONS
    assert rows.count_captions() == bare.count_captions() - 1  # all of fox's last are refused


def test_a_curation_of_another_base_set_is_refused(curated: Curated, tmp_path: Path) -> None:
    out = draft(str(tmp_path), "images", "other", content={}, config={}, inputs={})
    other = out.publish({"rows": 0, "refused": 0})
    with pytest.raises(ConfigError, match=r"curation: '.*' is of another base set; allowed"):
        open_base_set_rows(other.uri, curated.artifact.uri)


def test_the_report_shows_what_is_refused_and_why(curated: Curated, tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    made = report(
        ReportConfig(
            storage=str(tmp_path),
            results=sources.results.uri,
            adapted=sources.adapted.uri,
            base_set=curated.base_set.uri,
            curation=curated.artifact.uri,
            datasets=[curated.dataset.artifact.uri],
        )
    )
    page = Path(made.file(PAGE)).read_text()
    section = page[page.index('id="curation"') : page.index('id="chosen"')]
    for reason in PLANTED.values():
        assert f"<figcaption>{reason}" in section
    assert section.count('alt="test image"') == 1 + 8 + 8
    assert made.read_table("contamination").num_rows == 1 + 20 + 20
    assert made.read_table("curation")["class_name"].to_pylist()[0] == "fox"
    assert Path(made.file("figures", "curation.png")).is_file()
