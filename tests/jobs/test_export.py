"""A base set in other programs' layouts, read back by those programs' own rules."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.pictures.codec import Encoding, png_bytes
from actors.synthesis.base_sets.exporting import Layout
from cluster.artifacts import Artifact, draft
from cluster.errors import ConfigError
from jobs.export import ExportImagesConfig, export_images

NAMES = ("okapi", "a/b", "../../x")
CAPTIONS, VIEWS = 3, 2


def picture(label: int, index: int, view: int) -> bytes:
    return png_bytes(Image.new("RGB", (8, 6), (label * 80, index * 20, view * 100)))


@pytest.fixture
def base_set(tmp_path: Path) -> Artifact:
    """Three classes; the first picture is refused, the last row is there twice."""
    rows = [
        {
            "id": f"{label}{index}{view}",
            "dataset": "toys",
            "class_name": name,
            "index": index,
            "view": view,
            "caption": f"a {name}, number {index}",
            "reason": "no sprite" if (label, index, view) == (0, 0, 0) else "",
            "image": picture(label, index, view),
        }
        for label, name in enumerate(NAMES)
        for index in range(CAPTIONS)
        for view in range(VIEWS)
    ]
    made = draft(str(tmp_path / "runs"), "images", "toys", content={}, config=None, inputs={})
    made.write_table("rows", pa.Table.from_pylist([*rows, rows[-1]]))
    return made.publish({"rows": len(rows), "refused": 1})


COUNT = len(NAMES) * CAPTIONS * VIEWS - 1


def exported(base_set: Artifact, folder: Path, layout: Layout) -> Path:
    export_images(
        ExportImagesConfig(images=base_set.uri, folder=str(folder), layout=layout, per_file=7)
    )
    return folder


def test_views_lie_side_by_side_and_keep_their_names(base_set: Artifact, tmp_path: Path) -> None:
    folder = exported(base_set, tmp_path / "out", "views")
    lines = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    assert len(lines) == COUNT
    for line in lines:
        path = folder / line["file"]
        assert path.resolve().is_relative_to(folder), "no path comes from a class name"
        label = NAMES.index(line["class_name"])
        assert path.read_bytes() == picture(label, line["index"], line["view"])
        assert line["caption"] == f"a {line['class_name']}, number {line['index']}"
    first, second = (
        {path.relative_to(folder / view) for path in (folder / view).glob("*/*.png")}
        for view in ("view1", "view2")
    )
    assert first < second
    assert len(second) == len(NAMES) * CAPTIONS
    assert len(list(folder.rglob("*.png"))) == COUNT


def test_shards_hold_picture_caption_and_card(base_set: Artifact, tmp_path: Path) -> None:
    folder = exported(base_set, tmp_path / "out", "webdataset")
    shards = sorted(folder.glob("*.tar"))
    assert [shard.name for shard in shards] == ["000000.tar", "000001.tar", "000002.tar"]
    found: dict[str, dict[str, bytes]] = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar.getmembers():
                key, _, suffix = member.name.partition(".")
                stream = tar.extractfile(member)
                assert stream is not None
                found.setdefault(key, {})[suffix] = stream.read()
    assert len(found) == COUNT
    for key, sample in found.items():
        label, index, view = map(int, key)
        card = json.loads(sample["json"])
        assert (card["class_name"], card["index"], card["view"]) == (NAMES[label], index, view)
        assert sample["png"] == picture(label, index, view)
        assert sample["txt"].decode() == card["caption"]


def test_parquet_says_that_images_are_images(base_set: Artifact, tmp_path: Path) -> None:
    folder = exported(base_set, tmp_path / "out", "parquet")
    table = pq.read_table(folder / "data")
    card = json.loads(table.schema.metadata[b"huggingface"])
    assert card["info"]["features"]["image"] == {"_type": "Image"}
    assert set(card["info"]["features"]) == set(table.column_names)
    assert table.num_rows == COUNT
    for row in table.to_pylist():
        label = NAMES.index(row["class_name"])
        assert row["image"]["bytes"] == picture(label, row["index"], row["view"])
        assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (8, 6)


def test_a_folder_that_is_not_empty_is_refused(base_set: Artifact, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"folder: '.*out' is not empty"):
        exported(base_set, tmp_path / "out", "views")


def base_set_of(where: Path, rows: list[dict[str, object]]) -> Artifact:
    made = draft(str(where / "runs"), "images", "toys", content={}, config=None, inputs={})
    common = {"view": 0, "caption": "", "reason": "", "image": picture(0, 0, 0)}
    table = pa.Table.from_pylist([{"id": str(i)} | common | row for i, row in enumerate(rows)])
    made.write_table("rows", table)
    return made.publish({"rows": len(rows), "refused": 0})


def test_files_end_as_their_pictures_are_encoded(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 6), (90, 30, 60))
    rows: list[dict[str, object]] = [
        {"dataset": "d", "class_name": "fox", "index": i, "image": encoding.encode(image)}
        for i, encoding in enumerate((Encoding(), Encoding(format="jpeg"), Encoding(format="webp")))
    ]
    images = base_set_of(tmp_path, rows)
    ends = {".png", ".jpg", ".webp"}
    views = exported(images, tmp_path / "views", "views")
    assert {path.suffix for path in (views / "view1" / "fox").iterdir()} == ends
    with tarfile.open(exported(images, tmp_path / "tar", "webdataset") / "000000.tar") as tar:
        assert ends < {f".{member.name.partition('.')[2]}" for member in tar.getmembers()}
    table = pq.read_table(exported(images, tmp_path / "parquet", "parquet") / "data")
    assert {Path(row["path"]).suffix for row in table["image"].to_pylist()} == ends


def test_two_classes_never_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["\u00e9", "e\u0301", "E", "e", "a b", "a-b", "a_b"]
    rows: list[dict[str, object]] = [
        {"dataset": dataset, "class_name": name, "index": index}
        for dataset in ("\u00e9", "e\u0301")
        for name in names
        for index in range(2)
    ]
    folder = exported(base_set_of(tmp_path, rows), tmp_path / "out", "views")
    assert capsys.readouterr().out.startswith(f"{len(rows)} images: ")
    assert len(list((folder / "view1").iterdir())) == len(names)
    assert len(list(folder.rglob("*.png"))) == len(rows)


def test_two_pictures_of_one_place_are_refused(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"dataset": "d", "class_name": "fox", "index": 0}] * 2
    with pytest.raises(ConfigError, match="two pictures are view 0 of caption 0 of class 'fox'"):
        exported(base_set_of(tmp_path, rows), tmp_path / "out", "views")
