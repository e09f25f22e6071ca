from pathlib import Path

import pytest
from PIL import Image

from actors.image_folder import read_image_folder
from actors.images import BadImageError, decode_rgb, png_bytes
from cluster.artifacts import ConfigError


def write_images(root: Path, classes: dict[str, int]) -> None:
    for name, count in classes.items():
        for split in ("train", "val", "test"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.new("RGB", (20, 30), (i, len(name), 7))
                (root / split / name / f"{i}.png").write_bytes(png_bytes(image))


def test_a_truncated_image_is_a_rejected_row(tmp_path: Path) -> None:
    write_images(tmp_path, {"red_panda": 3, "okapi": 3})
    broken = tmp_path / "train" / "okapi" / "1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    (tmp_path / "test" / "okapi" / "notes.txt").write_text("not an image")
    found = read_image_folder("garden", str(tmp_path))
    assert [concept.name for concept in found.concepts] == ["okapi", "red panda"]
    assert len(found.rows) == 17
    rejected = {row["file"]: row["reason"] for row in found.rejected.to_pylist()}
    assert set(rejected) == {"train/okapi/1.png", "test/okapi/notes.txt"}
    assert all("not a readable image" in reason for reason in rejected.values())


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, {"okapi": 2, "saola": 0})
    with pytest.raises(ConfigError, match="class 'saola' has 0 readable images in 'train'"):
        read_image_folder("garden", str(tmp_path))


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, {"okapi": 1})
    (tmp_path / "test").rename(tmp_path / "tset")
    with pytest.raises(ConfigError, match="has no folder 'test'"):
        read_image_folder("garden", str(tmp_path))


def test_bytes_that_are_no_image_are_refused() -> None:
    for data in (b"", b"GIF89a", png_bytes(Image.new("RGB", (64, 64)))[:-30]):
        with pytest.raises(BadImageError):
            decode_rgb(data)
