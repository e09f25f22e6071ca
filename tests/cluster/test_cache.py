"""The cache of a node: what is not whole is made again, what is too much goes."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cluster import cache
from cluster.cache import (
    DAY_SECONDS,
    GROWING,
    RECORD,
    cached,
    clean,
    new_array,
    node_cache,
)
from cluster.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def numbers(folder: Path) -> None:
    array = new_array(folder / "a.npy", (3, 4))
    array[:] = 7
    assert isinstance(array, np.memmap)
    array.flush()
    (folder / "deep").mkdir()
    (folder / "deep" / "b.json").write_text("[1, 2]")


def test_an_entry_is_made_once() -> None:
    folder = cached("x", numbers)
    assert (np.load(folder / "a.npy") == 7).all()
    made = (folder / "a.npy").stat().st_mtime_ns
    assert cached("x", numbers) == folder
    assert (folder / "a.npy").stat().st_mtime_ns == made
    assert [path.name for path in node_cache().iterdir()] == ["x"]


def test_a_growing_file_is_no_damage_and_has_its_size() -> None:
    folder = cached("x", numbers)
    growing = folder / f"pixels{GROWING}"
    growing.write_bytes(bytes(1000))
    assert cached("x", numbers) == folder
    assert growing.exists()
    assert cache._bytes(folder) == 1000 + sum(
        (folder / name).stat().st_size for name in ("a.npy", "deep/b.json")
    )


def other_array(folder: Path) -> None:
    time.sleep(0.01)  # the clock of a file system is coarse
    np.save(folder / "a.npy", np.full((3, 4), 9, np.uint8))


def cut(folder: Path) -> None:
    os.truncate(folder / "a.npy", 100)


def remove(folder: Path) -> None:
    (folder / "deep" / "b.json").unlink()


def without_record(folder: Path) -> None:
    (folder / RECORD).unlink()


def broken_record(folder: Path) -> None:
    (folder / RECORD).write_text("[" * 100_000)


@pytest.mark.parametrize("damage", [other_array, cut, remove, without_record, broken_record])
def test_a_damaged_entry_is_made_again(damage: Callable[[Path], None]) -> None:
    damage(cached("x", numbers))
    folder = cached("x", numbers)
    assert (np.load(folder / "a.npy") == 7).all()
    assert (folder / "deep" / "b.json").read_text() == "[1, 2]"


def test_a_full_disk_is_one_line_and_leaves_nothing() -> None:
    def full(folder: Path) -> None:
        numbers(folder)
        Path("/dev/full").write_bytes(b"x")

    with pytest.raises(ConfigError, match=r"^XDG_CACHE_HOME: .*No space left on device.*allowed: "):
        cached("x", full)
    assert not list(node_cache().iterdir())
    assert cached("x", numbers).is_dir(), "the next one finds nothing in its way"


def test_an_array_without_room_is_refused_before_it_is_mapped(tmp_path: Path) -> None:
    room = shutil.disk_usage(tmp_path).free
    with pytest.raises(OSError, match="No space left on device"):
        new_array(tmp_path / "a.npy", (2, room))
    assert not list(tmp_path.glob("*.npy"))


def test_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for home in (str(tmp_path / "file" / "home"), "/proc/home"):
        monkeypatch.setenv("XDG_CACHE_HOME", home)
        with pytest.raises(ConfigError, match=rf"^XDG_CACHE_HOME: '{home}' cannot be written"):
            cached("x", numbers)


def test_an_error_is_raised_as_it_is_and_leaves_nothing() -> None:
    def fail(folder: Path) -> None:
        numbers(folder)
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        cached("x", fail)
    assert not list(node_cache().iterdir())


def test_who_is_slower_takes_what_is_there() -> None:
    def slower(folder: Path) -> None:
        cached("x", numbers)
        numbers(folder)

    assert (np.load(cached("x", slower) / "a.npy") == 7).all()
    assert [path.name for path in node_cache().iterdir()] == ["x"]


def test_nobody_else_may_enter(home: Path) -> None:
    assert node_cache().stat().st_mode & 0o077 == 0
    assert cached("x", numbers).stat().st_mode & 0o077 == 0


def age(folder: Path, days: int) -> None:
    then = time.time() - days * DAY_SECONDS
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (then, then))


def record_age(folder: Path, days: int) -> None:
    then = time.time() - days * DAY_SECONDS
    os.utime(folder / RECORD, (then, then))


def test_what_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [cached(name, numbers) for name in ("oldest", "old", "new")]
    for folder, days in zip(folders, (5, 3, 0), strict=True):
        record_age(folder, days)
    size = sum(path.stat().st_size for path in folders[0].glob("**/*.*") if path.name != RECORD)
    monkeypatch.setattr(cache, "SHARE", 2.5 * size / shutil.disk_usage(node_cache()).total)
    clean(node_cache(), folders[2])
    assert [folder.is_dir() for folder in folders] == [False, True, True]
    monkeypatch.setattr(cache, "SHARE", 0.0)
    clean(node_cache(), folders[2])
    assert [folder.is_dir() for folder in folders] == [False, False, True], "used within a day"


def test_what_a_killed_process_has_left_goes_after_a_day() -> None:
    left, fresh = (node_cache() / f"{name}.partial" for name in ("left", "fresh"))
    for folder in (left, fresh):
        folder.mkdir()
        numbers(folder)
    age(left, 2)
    cached("x", numbers)
    assert not left.exists()
    assert fresh.is_dir()
