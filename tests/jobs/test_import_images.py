"""Pictures of other programs become a base set."""

import json
from pathlib import Path

import pytest
from PIL import Image

from actors.pictures.base_set import BaseSetRows
from actors.pictures.codec import png_bytes
from actors.synthesis.base_sets.importing import import_plan
from cluster.artifacts import Artifact
from cluster.errors import ConfigError
from jobs.export import ExportImagesConfig, export_images
from jobs.import_ import ImportImagesConfig, import_images

CLASSES, FILES, VIEWS = ("okapi", "red_panda"), ("a.png", "b.png", "c.png"), ("view1", "view2")


@pytest.fixture
def ibase(tmp_path: Path) -> Path:
    """View folders; in the second view one picture is missing and one is cut off."""
    root = tmp_path / "ibase"
    for v, view in enumerate(VIEWS):
        for c, name in enumerate(CLASSES):
            (root / view / name).mkdir(parents=True)
            for f, file in enumerate(FILES):
                data = png_bytes(Image.new("RGB", (9, 9), (v * 90, c * 90, f * 90)))
                (root / view / name / file).write_bytes(data)
    (root / "view2" / "okapi" / "b.png").unlink()
    cut = root / "view2" / "red_panda" / "c.png"
    cut.write_bytes(cut.read_bytes()[:40])
    return root


def imported(folder: Path, storage: Path, name: str = "zoo") -> Artifact:
    return import_images(ImportImagesConfig(storage=str(storage), folder=str(folder), name=name))


def test_view_folders_are_captions_with_views(ibase: Path, tmp_path: Path, local_ray: None) -> None:
    made = imported(ibase, tmp_path / "runs")
    rows = made.read_table("rows").to_pylist()
    assert len(rows) == len(CLASSES) * len(FILES) * len(VIEWS) - 1
    (refused,) = [row for row in rows if row["reason"]]
    assert refused["file"] == "view2/red_panda/c.png"
    assert "not a readable image" in refused["reason"]
    for row in rows:
        assert row["class_name"] == row["file"].split("/")[1].replace("_", " ")
        assert row["index"] == FILES.index(Path(row["file"]).name)
        assert VIEWS[row["view"]] == row["file"].split("/")[0]
        assert row["reason"] or row["image"] == (ibase / row["file"]).read_bytes()
    assert BaseSetRows(made).count_captions() == 4, (
        "a caption whose second view is missing or bad has no pair"
    )
    assert imported(ibase, tmp_path / "runs") == made, "done before"


def test_a_storage_named_like_a_column_gives_the_same_rows(
    ibase: Path, tmp_path: Path, local_ray: None
) -> None:
    odd = imported(ibase, tmp_path / "runs" / "id=7" / "view=2?x")
    plain = imported(ibase, tmp_path / "runs" / "plain")
    assert odd.read_table("rows").equals(plain.read_table("rows"))
    assert BaseSetRows(odd).count_captions() == BaseSetRows(plain).count_captions()


def test_what_was_exported_comes_back(ibase: Path, tmp_path: Path, local_ray: None) -> None:
    first = imported(ibase, tmp_path / "runs")
    views = str(tmp_path / "out")
    export_images(ExportImagesConfig(images=first.uri, folder=views, layout="views"))
    second = imported(tmp_path / "out", tmp_path / "runs", name="other")

    def content(made: Artifact) -> list[dict]:
        columns = ["id", "dataset", "class_name", "index", "view", "caption", "image", "reason"]
        return [row for row in made.read_table("rows", columns).to_pylist() if not row["reason"]]

    assert content(second) == content(first)


def test_a_folder_per_class_is_one_view(ibase: Path) -> None:
    rows = import_plan(str(ibase / "view1"), "zoo").to_pylist()
    assert {row["view"] for row in rows} == {0}
    assert len(rows) == len(CLASSES) * len(FILES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../secret.png"}, r"line 1: file '../secret.png'; allowed: a path inside"),
        ({"file": "/etc/passwd"}, r"line 1: file '/etc/passwd'; allowed: a path inside"),
        ({"index": "0"}, r"line 1: .* allowed are the fields file \(str\)"),
        ({"more": 1}, r"line 1: .* allowed are the fields file \(str\)"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict, message: str) -> None:
    line = {"file": "a.png", "dataset": "d", "class_name": "c", "index": 0, "view": 0}
    text = json.dumps(line | {"caption": ""} | change)
    (tmp_path / "captions.jsonl").write_text(f"{text}\n")
    with pytest.raises(ConfigError, match=message):
        import_plan(str(tmp_path), "zoo")


def test_two_files_of_one_place_are_named(ibase: Path) -> None:
    (ibase / "view1" / "red panda").mkdir()
    (ibase / "view1" / "red panda" / "a.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"are both view 0 of caption 0 of class 'red panda'"):
        import_plan(str(ibase), "zoo")


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no picture; allowed: view1/CLASS/file"):
        import_plan(str(tmp_path), "zoo")
    with pytest.raises(ConfigError, match="is no folder"):
        import_plan(str(tmp_path / "nowhere"), "zoo")
