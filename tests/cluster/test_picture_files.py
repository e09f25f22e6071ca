"""What a folder is read for: pictures at any depth, and all else counted and named."""

import os
from pathlib import Path

import pytest

from cluster.picture_files import is_picture, picture_files, unread_line


def write(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"any")


def test_pictures_of_all_formats_are_read_at_any_depth(tmp_path: Path) -> None:
    names = ("a.png", "b.JPG", "c.gif", "d.tiff", "e.avif", "f.webp", "part2/part3/g.Jpeg")
    write(tmp_path, *(f"fox/{name}" for name in names))
    files = picture_files(tmp_path)
    assert files.pictures == tuple(f"fox/{name}" for name in names)
    assert files.unread == {}
    assert not is_picture("png")
    assert not is_picture("drawing.eps")


def test_what_is_not_read_is_named_with_its_reason(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(
        root, "fox/a.png", "fox/.b.png", "fox/notes.TXT", "fox/README", ".ipynb_checkpoints/x.png"
    )
    write(root, "fox/@eaDir/a.png/SYNOPHOTO_THUMB.jpg")
    write(outside, "secret.png", "goat/0.png")
    os.mkfifo(root / "fox" / "pipe.png")
    for link, target in {
        "goat": outside / "goat",
        "fox/secret.png": outside / "secret.png",
        "fox/gone.png": root / "nothing.png",
        "fox/round.png": root / "fox" / "round.png",
        "fox/up": root,
    }.items():
        (root / link).symlink_to(target)
    (root / os.fsdecode(b"fox/\xff.png")).write_bytes(b"any")
    files = picture_files(root)
    assert files.pictures == ("fox/a.png",)
    assert files.unread == {
        ".ipynb_checkpoints": "hidden",
        "fox/.b.png": "hidden",
        "fox/@eaDir": "hidden",
        "fox/README": "no picture: without a suffix",
        "fox/\\xff.png": "a name that is not UTF-8",
        "fox/gone.png": "a link to nothing",
        "fox/notes.TXT": "no picture by the suffix '.txt'",
        "fox/pipe.png": "no regular file",
        "fox/round.png": "a link to nothing",
        "fox/secret.png": "a link that leads out of the folder",
        "fox/up": "a link to a folder around it or behind another link",
        "goat": "a link that leads out of the folder",
    }


def test_links_within_the_folder_are_read_and_have_an_end(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "pool/a.png", "fox/b.png")
    (root / "fox" / "pool").symlink_to(root / "pool")
    (root / "pool" / "fox").symlink_to(root / "fox")
    (root / "fox" / "a.png").symlink_to(root / "pool" / "a.png")
    (tmp_path / "link").symlink_to(root)
    files = picture_files(tmp_path / "link")
    links = ("fox/a.png", "fox/pool/a.png", "pool/fox/a.png", "pool/fox/b.png")
    assert set(files.pictures) == {"fox/b.png", "pool/a.png", *links}
    assert set(files.unread) == {"fox/pool/fox", "pool/fox/pool"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, "fox/a.png")
    (tmp_path / "fox").chmod(0)
    try:
        assert picture_files(tmp_path).unread == {
            "fox": "a folder that cannot be read (Permission denied)"
        }
    finally:
        (tmp_path / "fox").chmod(0o755)


def test_one_line_says_how_many_and_names_some(tmp_path: Path) -> None:
    unread = {f"{i}.txt": "no picture by the suffix '.txt'" for i in range(5)} | {".x": "hidden"}
    assert unread_line(unread) == (
        "6 not read: 0.txt, 1.txt, 2.txt, and 2 more (no picture by the suffix '.txt'); .x (hidden)"
    )
