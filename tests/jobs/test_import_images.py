"""Pictures of other programs become a base set."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.pictures.base_set import BaseSetRows
from actors.pictures.codec import png_bytes
from actors.synthesis.base_sets.importing import FileReader, ImportPlan, import_plan
from cluster.artifacts import Artifact
from cluster.errors import ConfigError
from cluster.pool import Pool
from jobs.export import ExportImagesConfig, export_images
from jobs.import_ import ImportImagesConfig, import_images

ONE = Pool(workers=1)
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
    return import_images(
        ImportImagesConfig(storage=str(storage), folder=str(folder), name=name, pool=ONE)
    )


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


def test_what_is_left_out_is_counted_and_named(
    ibase: Path, tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (ibase / "view1" / "okapi" / "notes.txt").write_text("none")
    (ibase / ".ipynb_checkpoints").mkdir()
    made = imported(ibase, tmp_path / "runs")
    assert made.read_table("rejected").to_pylist() == [
        {"file": ".ipynb_checkpoints", "reason": "hidden"},
        {"file": "view1/okapi/notes.txt", "reason": "no picture by the suffix '.txt'"},
    ]
    assert made.manifest.rows == {"rows": 11, "refused": 1, "rejected": 2}
    line = "import: 2 not read: .ipynb_checkpoints (hidden); view1/okapi/notes.txt (no picture by"
    said = capsys.readouterr().err
    assert "import: 1 images refused: view2/red_panda/c.png; why is in the table rows" in said
    assert line in said
    (ibase / "view1" / "okapi" / "more.txt").write_text("none")
    assert imported(ibase, tmp_path / "runs") == made, "it does not count"
    assert "import: 3 not read" in capsys.readouterr().err


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
    rows = import_plan(str(ibase / "view1"), "zoo").rows.to_pylist()
    assert {row["view"] for row in rows} == {0}
    assert len(rows) == len(CLASSES) * len(FILES)


def places(plan: ImportPlan) -> dict[str, tuple[str, int, int]]:
    """Class, caption and view of each file."""
    return {
        row["file"]: (row["class_name"], row["index"], row["view"]) for row in plan.rows.to_pylist()
    }


def write(root: Path, *files: str) -> str:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"any")
    return str(root)


def test_views_are_known_by_their_numbers_and_captions_by_their_paths(tmp_path: Path) -> None:
    views = ("view0/ash/0.png", "View10/ash/0.JPG", "view2/ash/0.avif", "view2/ash/part/1.gif")
    others = ("view1_old/ash/0.png", "ash/0.png", "view2/0.png", "0.png")
    plan = import_plan(write(tmp_path, *views, *others), "trees")
    assert places(plan) == {
        "view0/ash/0.png": ("ash", 0, 0),
        "view2/ash/0.avif": ("ash", 0, 1),
        "view2/ash/part/1.gif": ("ash", 1, 1),
        "View10/ash/0.JPG": ("ash", 0, 2),
    }
    assert plan.unread == {
        "0.png": "a picture beside the view folders",
        "ash/0.png": "a picture beside the view folders",
        "view1_old/ash/0.png": "a picture beside the view folders",
        "view2/0.png": "a picture in no class folder",
    }


def test_two_pictures_that_differ_in_their_suffixes_stay_two(tmp_path: Path) -> None:
    files = ("view1/ash/0.png", "view1/ash/0.jpg", "view2/ash/0.jpg", "view2/ash/1.jpg")
    assert places(import_plan(write(tmp_path, *files), "trees")) == {
        "view1/ash/0.jpg": ("ash", 0, 0),
        "view2/ash/0.jpg": ("ash", 0, 1),
        "view1/ash/0.png": ("ash", 1, 0),
        "view2/ash/1.jpg": ("ash", 2, 1),
    }


def test_a_folder_without_pictures_of_its_own_is_no_class(tmp_path: Path) -> None:
    files = ("ash/0.tiff", "ash/part2/0.png", "train/oak/0.png", "train/fir/0.png")
    plan = import_plan(write(tmp_path, *files), "trees")
    assert places(plan) == {"ash/0.tiff": ("ash", 0, 0), "ash/part2/0.png": ("ash", 1, 0)}
    assert list(plan.unread) == ["train/fir/0.png", "train/oak/0.png"]
    assert set(plan.unread.values()) == {
        "in a folder that holds no picture itself, so it is no class"
    }
    with pytest.raises(ConfigError, match=r"holds no picture; .*2 not read: train/fir/0.png"):
        import_plan(write(tmp_path / "other", *files[2:]), "trees")


def test_what_captions_jsonl_does_not_list_is_named(tmp_path: Path) -> None:
    line = {"file": "a.png", "dataset": "d", "class_name": "c", "index": 0, "view": 0}
    lines = json.dumps(line | {"caption": "a\u2028b"}, ensure_ascii=False)
    (tmp_path / "captions.jsonl").write_text(f"\ufeff{lines}\n\n", "utf-8")
    plan = import_plan(write(tmp_path, "a.png", "b.png", "x/c.png"), "zoo")
    assert plan.rows["caption"].to_pylist() == ["a\u2028b"]
    assert plan.unread == dict.fromkeys(("b.png", "x/c.png"), "not in captions.jsonl")


def test_a_listed_file_whose_name_cannot_be_is_refused(tmp_path: Path) -> None:
    line = {"dataset": "d", "class_name": "c", "index": 0, "view": 0, "caption": ""}
    line["file"] = f"{'9' * 400}.png"
    Path(write(tmp_path, "a.png"), "captions.jsonl").write_text(json.dumps(line))
    plan = import_plan(str(tmp_path), "zoo")
    batch = {name: np.array(plan.rows[name].to_pylist()) for name in ("file", "bytes")}
    assert FileReader(str(tmp_path))(batch)["reason"].tolist() == [
        "cannot be read (File name too long)"
    ]


def test_a_listed_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    secret = png_bytes(Image.new("RGB", (9, 9)))
    (tmp_path / "secret.png").write_bytes(secret)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "good.png").write_bytes(secret)
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret.png")
    batch = FileReader(str(tmp_path / "set"))(
        {"file": np.array(["good.png", "link.png", "none.png"])}
    )
    assert batch["image"].tolist() == [secret, b"", b""]
    assert batch["reason"].tolist() == ["", "a link that leads out of the folder", "no such file"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../secret.png"}, r"line 1: file '../secret.png'; allowed: a path inside"),
        ({"file": "/etc/passwd"}, r"line 1: file '/etc/passwd'; allowed: a path inside"),
        ({"index": "0"}, r"line 1: .* allowed are the fields file \(str\)"),
        ({"more": 1}, r"line 1: .* allowed are the fields file \(str\)"),
        ({"view": -1}, r"line 1: view -1; allowed: 0 to 2147483647"),
        ({"index": 1 << 70}, r"line 1: index 1180591620717411303424; allowed: 0 to"),
        ({"class_name": " "}, r"line 1: class_name ' '; allowed: text"),
        ({"caption": "\ud800"}, r"line 1 is no JSON \(.* surrogates not allowed\)"),
        ({"file": "a\0.png"}, r"line 1: file 'a.x00.png'; allowed: text without NUL"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict, message: str) -> None:
    line = {"file": "a.png", "dataset": "d", "class_name": "c", "index": 0, "view": 0}
    text = json.dumps(line | {"caption": ""} | change)
    (tmp_path / "captions.jsonl").write_text(f"{text}\n")
    with pytest.raises(ConfigError, match=message):
        import_plan(str(tmp_path), "zoo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "line 2 is no JSON .*; allowed: JSON"),
        (b"[" * 100_000, "line 2 is nested too deep; allowed: JSON"),
        (b'"\xe9"', "line 2: byte 0xe9 is no UTF-8; allowed: text saved as UTF-8"),
        (b"9" * 5000, "line 2 is no JSON .*; allowed: JSON"),
    ],
)
def test_a_line_that_is_no_json_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "captions.jsonl").write_bytes(b"\n" + text)
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
