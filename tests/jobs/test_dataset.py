"""Datasets from disk into artifacts, and the shots that are drawn from them."""

import dataclasses
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

import actors.pictures.sources
import cluster.catalog.dataset
from actors.features.plan import encoding_plan
from actors.pictures.codec import png_bytes
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.catalog.splits import ShotRule, Split, draw_shots
from cluster.errors import ConfigError
from jobs.dataset import DatasetConfig, dataset
from jobs.shots import ShotsConfig, shots
from tests.command_line import run_module
from tests.small_trees import AWKWARD, coop_tree, folder_tree, laion_tree, picture

DTD = ("dtd", "images", "split_zhou_DescribableTextures.json")
COUNTS = {**dict.fromkeys(AWKWARD, 6), "few": 3}
MISSING, BROKEN = "class_0/train_4.jpg", "class_1/test_0.jpg"


def made(where: Path, **settings: Any) -> Dataset:
    return open_dataset(dataset(DatasetConfig(storage=str(where / "runs"), **settings)).uri)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DTD in CoOp's layout, with a file that is missing and one that is cut off."""
    folder = tmp_path_factory.mktemp("coop")
    coop_tree(folder, COUNTS, *DTD)
    images = folder / "dtd" / "images"
    (images / MISSING).unlink()
    (images / BROKEN).write_bytes((images / BROKEN).read_bytes()[:40])
    return folder


@pytest.fixture(scope="module")
def dtd(root: Path) -> Dataset:
    """Written in several files of several parts each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actors.pictures.sources, "PART_ROWS", 4)
        patch.setattr(cluster.catalog.dataset, "FILE_BYTES", 3000)
        return made(root, name="dtd", root=str(root))


def drawn_files(found: Dataset, split: Split, part: str) -> list[str]:
    ids = split.train_ids if part == "train" else split.val_ids
    file = dict(zip(found.rows["id"].to_pylist(), found.rows["path"].to_pylist(), strict=True))
    return [file[row] for row in ids]


def dassl_draw(split_file: Path, shots: int, seed: int) -> dict[str, list[str]]:
    """What CoOp draws, said again in few lines: one generator, train first, then val."""
    split = json.loads(split_file.read_text())
    random.seed(seed)
    drawn = {}
    for part, count in (("train", shots), ("val", min(shots, 4))):
        by_label: dict[int, list[str]] = {}
        for file, label, _ in split[part]:
            by_label.setdefault(label, []).append(file)
        drawn[part] = [
            file
            for files in by_label.values()
            for file in (random.sample(files, count) if len(files) >= count else files)
        ]
    return drawn


def test_missing_and_broken_images_are_rejected_rows(dtd: Dataset, root: Path) -> None:
    assert (dtd.hint, dtd.template) == ("texture", "{} texture.")
    reasons = {row["path"]: row["reason"] for row in dtd.rejected.to_pylist()}
    assert reasons.keys() == {MISSING, BROKEN}
    assert reasons[MISSING] == "no such file"
    assert "not a readable image" in reasons[BROKEN]
    assert dtd.artifact.manifest.rows == {"rows": 33 + 24 - 2, "rejected": 2}
    parts = sorted(Path(dtd.artifact.file("rows")).iterdir())
    assert len(parts) > 2
    assert pq.ParquetFile(parts[0]).num_row_groups > 1
    (row,) = dtd.rows.filter(pc.field("path") == "class_4/val_1.jpg").to_pylist()
    assert (row["class_name"], row["label"], row["split"]) == ("F-16A/B", 4, "val")
    assert dtd.images([row["id"]]) == [(root / "dtd/images/class_4/val_1.jpg").read_bytes()]


def test_what_is_written_is_not_written_twice(
    dtd: Dataset, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(root, name="dtd", root=str(root)).artifact == dtd.artifact
    assert "done before" in capsys.readouterr().err


def test_it_starts_no_ray(tmp_path: Path) -> None:
    """Where a test may start none."""
    folder_tree(tmp_path / "zoo", {"ant": 2, "plant": 2})
    settings = ("--storage", str(tmp_path / "id=7"), "--name", "zoo")
    ended = run_module("jobs.dataset", *settings, "--folder", str(tmp_path / "zoo"))
    assert ended.returncode == 0, ended.stderr
    names = {row["class_name"] for row in open_dataset(artifact_of(ended.stdout)).rows.to_pylist()}
    assert names == {"ant", "plant"}


def artifact_of(line: str) -> str:
    return str(json.loads(line)["artifact"])


def test_a_class_without_a_good_test_image_leaves_nothing_behind(tmp_path: Path) -> None:
    folder_tree(tmp_path / "zoo", {"ant": 2, "plant": 2})
    for image in (tmp_path / "zoo" / "test" / "ant").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(ConfigError, match="class 'ant' has 0 readable images in 'test'"):
        made(tmp_path, name="zoo", folder=str(tmp_path / "zoo"))
    assert not list(tmp_path.glob("runs/dataset/*"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shots_by_coops_rule_are_coops(tmp_path: Path, seed: int) -> None:
    split_file = coop_tree(tmp_path, {"ant": 9, "plant": 9, "few": 3}, *DTD)
    found = made(tmp_path, name="dtd", root=str(tmp_path))
    for count in (1, 4):
        split = draw_shots(found, count, seed, "min", "all", "coop")
        for part, files in dassl_draw(split_file, count, seed).items():
            assert sorted(drawn_files(found, split, part)) == sorted(files)
    assert all(json.loads(line)["path"] for line in split.lines.splitlines())


def test_rejected_images_take_their_part_in_coops_draw(dtd: Dataset, root: Path) -> None:
    with_it = [s for s in range(20) if MISSING in dassl_draw(root / DTD[0] / DTD[2], 1, s)["train"]]
    for seed in range(20):
        if seed in with_it:
            with pytest.raises(ConfigError, match=f"draws '{MISSING}' .* was rejected"):
                draw_shots(dtd, 1, seed, "none", "all", "coop")
        else:
            split = draw_shots(dtd, 1, seed, "none", "all", "coop")
            expected = dassl_draw(root / DTD[0] / DTD[2], 1, seed)["train"]
            assert sorted(drawn_files(dtd, split, "train")) == sorted(expected)
    assert 0 < len(with_it) < 20


def test_laion_beyond_keeps_groups_and_captions_apart(tmp_path: Path) -> None:
    laion_tree(tmp_path, "Animals", "OOP", {"crane": 0, "okapi": 1})
    laion_tree(tmp_path, "Animals", "IP", {"crane": 0, "ant": 1})
    found = made(tmp_path, name="laion_animals", root=str(tmp_path))
    names = [(concept.name, concept.group) for concept in found.concepts]
    assert names == [("ant", "IP"), ("crane", "IP"), ("crane", "OOP"), ("okapi", "OOP")]
    views = {"train": 2, "val": 1, "test": 1, "imagined": 1}
    plan = encoding_plan(found, None, views).to_pylist()
    assert len({row["id"] for row in plan}) == len(plan) == 2 * 2 * 7
    for row in plan:
        name, group = names[row["label"]]
        assert row["caption"] == f"a {name} ({group}) in the sun"
    rules: tuple[ShotRule, ...] = ("hash", "coop")
    for rule in rules:
        split = draw_shots(found, 2, 1, "min", "OOP", rule)
        assert {file.split("/")[0] for file in drawn_files(found, split, "train")} == {
            "Animals2_OOP"
        }
        every = draw_shots(found, 2, 1, "min", "all", rule)
        assert set(split.train_ids) < set(every.train_ids), "each group is drawn by itself"
        assert len(every.train_ids) == 4 * 2


def test_folders_have_no_order_to_draw_from_as_coop_does(tmp_path: Path) -> None:
    folder_tree(tmp_path / "zoo", {"ant": 2, "plant": 2})
    found = made(tmp_path, name="zoo", folder=str(tmp_path / "zoo"))
    with pytest.raises(ConfigError, match="'coop', but dataset 'zoo' has no split file"):
        draw_shots(found, 1, 1, "none", "all", "coop")
    assert len(draw_shots(found, 1, 1, "min", "all").val_ids) == 2


def test_parquet_of_the_users_own(tmp_path: Path) -> None:
    image = {"bytes": png_bytes(Image.new("RGB", (5, 5))), "path": None}
    rows: list[dict[str, Any]] = [
        {"image": image, "class_name": name, "split": split, "group": group}
        for name, group in (("ant", "IP"), ("plant", "OOP"))
        for split in ("train", "val", "test")
    ]
    rows += [
        {"image": {"bytes": b"x"}, "class_name": "ant", "split": "val", "group": None},
        {"image": image, "class_name": "ant", "split": "training", "group": "IP"},
        {"image": image, "class_name": None, "split": "train", "group": "IP"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mine.parquet")
    found = made(tmp_path, name="mine", parquet=str(tmp_path / "mine.parquet"), hint="thing")
    assert [concept.group for concept in found.concepts] == ["IP", "OOP"]
    assert Counter(found.rows["class_name"].to_pylist()) == {"ant": 3, "plant": 3}
    reasons = found.rejected["reason"].to_pylist()
    assert "not a readable image" in reasons[0]
    assert reasons[1:] == ["split 'training'; allowed: train, val, test", "no class name"]
    pq.write_table(pa.table({"image": [b""], "label": [0]}), tmp_path / "other.parquet")
    with pytest.raises(ConfigError, match="has no column 'class_name'"):
        made(tmp_path, name="other", parquet=str(tmp_path / "other.parquet"))


def test_prompts_of_every_class(tmp_path: Path, root: Path) -> None:
    said = {name.upper().replace("/", "_"): [f"one {name}", f"two {name}"] for name in COUNTS}
    (tmp_path / "cafo.json").write_text(json.dumps(said))
    settings = {"name": "dtd", "root": str(root), "prompts": str(tmp_path / "cafo.json")}
    found = made(tmp_path, **settings)
    assert found.prompts == tuple(map(tuple, said.values()))
    (tmp_path / "cafo.json").write_text(json.dumps({**said, "PLANT": [], "ANT": ["an ant"]}))
    with pytest.raises(ConfigError, match="an object of lists of texts, none empty"):
        made(tmp_path, **settings)
    (tmp_path / "cafo.json").write_text(json.dumps({"ant": ["an ant"]}))
    with pytest.raises(ConfigError, match="none for 5 of 6 classes, the first 'plant'"):
        made(tmp_path, **settings)


def test_published_shots(tmp_path: Path, root: Path, dtd: Dataset) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    drawn = dassl_draw(root / DTD[0] / DTD[2], 2, 3)
    (lists / "shot_2-seed_3.json").write_text(json.dumps(drawn))
    own = draw_shots(dtd, 1, 0, "min", "all")
    (lists / "shot_1-seed_0.jsonl").write_text(own.lines)
    settings = {"name": "dtd", "root": str(root), "shots": str(lists)}
    found = made(tmp_path, **settings)
    assert draw_shots(found, 1, 0, "min", "all", "published").lines == own.lines
    split = draw_shots(found, 2, 3, "min", "all", "published")
    assert sorted(drawn_files(found, split, "train")) == sorted(set(drawn["train"]) - {MISSING})
    assert len(draw_shots(found, 2, 3, "full", "all", "published").val_ids) == 12
    images = sorted(drawn_files(found, split, "train"))
    rows = [{"_impath": f"/elsewhere/dtd/images/{file}", "_label": 0} for file in images]
    theirs = lists / "shot_1-seed_2_train.jsonl"
    theirs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert made(tmp_path, **settings).shot_list(1, 2) == {"train": images, "val": []}
    theirs.unlink()
    with pytest.raises(ConfigError, match=r"no list of 4 shots .* allowed .*: 1-0, 2-3"):
        draw_shots(found, 4, 3, "min", "all", "published")
    (lists / "shot_2-seed_3.json").write_text('{"train": ["class_0/test_0.jpg"]}')
    with pytest.raises(ConfigError, match=r"train image 'class_0/test_0.jpg', which the dataset"):
        made(tmp_path, **settings)
    (lists / "shot_2-seed_3.json").rename(lists / "shot_2-seed_3.pkl")
    with pytest.raises(ConfigError, match="is a pickle, which may run code"):
        made(tmp_path, **settings)


def test_lists_of_shots_are_written_and_read_again(
    tmp_path: Path, root: Path, dtd: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "lists")
    cfg = ShotsConfig(dataset=dtd.artifact.uri, folder=folder, shots=[1, 2], seeds=[7])
    shots(cfg)
    one, two = (draw_shots(dtd, count, 7, "min", "all") for count in (1, 2))
    printed = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert printed == [one.hash, two.hash]
    again = made(tmp_path, name="dtd", root=str(root), shots=folder)
    assert draw_shots(again, 2, 7, "min", "all", "published").lines == two.lines
    shots(cfg)  # the same again
    with pytest.raises(ConfigError, match="holds other shots; allowed: a new folder"):
        shots(dataclasses.replace(cfg, val_policy="none"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "eurosat"}, "root: none; allowed: the folder under which eurosat lies"),
        ({"name": "eurosta", "root": "/x"}, "name: 'eurosta'; allowed with root: imagenet, "),
        ({"name": "zoo", "root": "/x", "folder": "/x"}, "root: given together with folder"),
        ({"name": "zoo", "parquet": "/x", "shots": "/x"}, "shots: '/x'; allowed with root or fold"),
        (
            {"name": "digits", "artist": "noto"},
            "artist: 'noto'; allowed for an embedded dataset of",
        ),
        ({"name": "zoo", "folder": "/x", "artist": "noto"}, "artist: 'noto'; allowed for an embe"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(tmp_path, **settings)


def test_what_a_folder_holds_besides_is_counted_named_and_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "zoo"
    folder_tree(root, {"fox": 2, "Fox": 2, "ant": 2})
    (root / "train" / "ant" / "notes.txt").write_text("x")
    (root / "train" / ".hidden").mkdir()
    (root / os.fsdecode(b"train/ant/\xff.png")).write_bytes(b"x")
    (root / "val").rename(root / "validation")
    for _ in range(2):  # an earlier run's is said again
        zoo = made(tmp_path, name="zoo", folder=str(root))
        said = capsys.readouterr().err
        assert "dataset zoo: 18 images of 3 classes, 3 rejected; " in said
        assert "(train/ant/notes.txt)" in said
        assert "(train/ant/\\xff.png)" in said
        assert "'Fox' (label 0), 'fox' (label 2)" in said
    reasons = {row["path"]: row["reason"] for row in zoo.rejected.to_pylist()}
    assert reasons["train/.hidden"] == "hidden"
    assert len(reasons) == zoo.artifact.manifest.rows["rejected"] == 3
    assert Counter(zoo.rows["split"].to_pylist()) == {"train": 6, "val": 6, "test": 6}


def test_images_without_classes_are_pictures_alone(tmp_path: Path) -> None:
    root = tmp_path / "finds"
    picture(root / "a.png")
    picture(root / "deep" / "b.png")
    os.mkfifo(root / "pipe.png")
    (root / "deep" / "README.md").write_text("x")
    picture(tmp_path / "outside" / "c.png")
    (root / "linked").symlink_to(tmp_path / "outside")
    finds = made(tmp_path, name="finds", images=str(root))
    assert sorted(finds.rows["path"].to_pylist()) == ["a.png", "deep/b.png"]
    assert set(finds.rejected["path"].to_pylist()) == {"deep/README.md", "linked", "pipe.png"}


def test_parquet_in_a_folder_with_other_files_and_other_spellings(tmp_path: Path) -> None:
    image = png_bytes(Image.new("RGB", (5, 5)))
    rows = [
        {"image": image, "class_name": name, "split": split}
        for name in ("ant", "e\u0301clair")
        for split in ("train", "validation", "test")
    ]
    folder = tmp_path / "mine"
    (folder / "more").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    rows = [row | {"class_name": "éclair", "split": "Dev"} for row in rows[:1]]
    pq.write_table(pa.Table.from_pylist(rows), folder / "more" / "b.parquet")
    (folder / "README.md").write_text("about")
    (folder / "_SUCCESS").write_text("")
    mine = made(tmp_path, name="mine", parquet=str(folder))
    assert [concept.name for concept in mine.concepts] == ["ant", "éclair"]
    assert Counter(mine.rows["split"].to_pylist()) == {"train": 2, "val": 3, "test": 2}
    assert set(mine.rejected["path"].to_pylist()) == {"README.md", "_SUCCESS"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"holds no file \*.parquet"):
        made(tmp_path, name="mine", parquet=str(tmp_path / "empty"))


def test_lists_and_prompts_are_read_with_a_byte_order_mark_and_beside_hidden_files(
    tmp_path: Path, root: Path, dtd: Dataset
) -> None:
    lists, prompts = tmp_path / "lists", tmp_path / "cafo.json"
    lists.mkdir()
    own = draw_shots(dtd, 1, 0, "min", "all")
    (lists / "shot_1-seed_0.jsonl").write_bytes(own.lines.encode("utf-8-sig"))
    (lists / ".DS_Store").write_bytes(b"\xff")
    content = json.dumps({name: [f"one {name}"] for name in COUNTS})
    prompts.write_bytes(content.encode("utf-8-sig"))
    settings = {"name": "dtd", "root": str(root), "shots": str(lists), "prompts": str(prompts)}
    found = made(tmp_path, **settings)
    assert draw_shots(found, 1, 0, "min", "all", "published").lines == own.lines
    assert found.prompts[0] == ("one ant",)
    assert "lists/.DS_Store" in found.rejected["path"].to_pylist()
    (lists / "shot_01-seed_0.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"'shot_1-seed_0\.jsonl' is the second list of 1 shots"):
        made(tmp_path, **settings)
    prompts.write_bytes(content.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"prompts: '.*cafo.json', line 1: byte 0xff is no UTF-8"):
        made(tmp_path, **{**settings, "shots": None})


def test_images_that_are_elsewhere_leave_nothing_behind(tmp_path: Path) -> None:
    coop_tree(tmp_path, {"ant": 2, "plant": 2}, *DTD)
    (tmp_path / "dtd" / "images").rename(tmp_path / "pictures")
    with pytest.raises(ConfigError, match=f"12 of all 12 .* folder: '{tmp_path}/pictures'"):
        made(tmp_path, name="dtd", root=str(tmp_path))
    assert not list(tmp_path.glob("runs/dataset/*"))


def test_a_name_longer_than_clip_reads_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "zoo"
    folder_tree(root, {"0": 1, "1": 1})
    (root / "classnames.txt").write_text(f"0 {'ant ' * 80}\n1 {'antantant' * 20}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    made(tmp_path, name="zoo", folder="~/zoo")
    said = capsys.readouterr().err
    assert "the name of class 0 has 80 tokens, and CLIP reads 75: 'ant ant" in said
    assert "the name of class 1" not in said
