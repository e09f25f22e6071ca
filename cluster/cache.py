"""What a node keeps of what can be made again: folders, checked when opened, bounded in bytes."""

import contextlib
import errno
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cluster.errors import FULL, ConfigError, one_line
from cluster.files import PARTIAL

RECORD = "entry.json"
"""File of an entry: [bytes, time of change in ns] of each of its files, by their path in it."""
GROWING = ".growing"
"""Ends the name of a file that is written while its entry is in use, and is no part of the record:
its reader tells by itself what of it is whole."""
SHARE = 0.25
"""Of the disk, which the entries take at most; what was used within a day stays beyond it."""
DAY_SECONDS = 24 * 3600


def node_cache() -> Path:
    """Folder of this node for what can be made again, which nobody else may enter.

    Raises ConfigError if it cannot be written.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(home).expanduser() / "imagine-beyond"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except OSError as error:
        raise _refused(error) from error
    return folder


def cached(name: str, make: Callable[[Path], object]) -> Path:
    """The entry of this name, a folder, which `make` fills if it is not there or not whole.

    It is made aside and renamed, so that processes which make it at once do not meet. An entry is
    whole if each of its files has the size and the time of change that it was made with; their
    bytes are not read. Raises ConfigError if the disk is full or the cache cannot be written.
    """
    cache = node_cache()
    folder = cache / name
    if folder.is_dir():
        if _is_whole(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    aside = cache / f"{name}.{uuid.uuid4().hex}{PARTIAL}"
    try:
        aside.mkdir(mode=0o700)
        make(aside)
        (aside / RECORD).write_text(json.dumps(_state(aside)))
        aside.rename(folder)
    except OSError as error:
        if error.errno in FULL:
            raise _refused(error) from error
        if not _is_whole(folder):  # else another process was faster
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    clean(cache, folder)
    return folder


def new_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> np.ndarray:
    """A file `.npy` of zeros, mapped to be filled.

    Its room on the disk is taken now: a mapped write that finds none ends the process. Raises
    OSError if there is none.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:  # nothing can be mapped
        np.save(path, array := np.zeros(shape, dtype))
        return array
    if size > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in FULL:
                raise
            # else a file system that cannot take room beforehand
    return array


def clean(cache: Path, spared: Path) -> None:
    """Removes what killed processes have left, and the entries that were used longest ago until the
    others fit within SHARE of the disk."""
    now = time.time()
    for aside in cache.glob(f"*{PARTIAL}"):
        if now - _last_change(aside) > DAY_SECONDS:
            shutil.rmtree(aside, ignore_errors=True)
    used = {record.parent: _when(record) for record in cache.glob(f"*/{RECORD}")}
    sizes = {folder: _bytes(folder) for folder in used}
    left, room = sum(sizes.values()), SHARE * shutil.disk_usage(cache).total
    for folder in sorted(used, key=lambda folder: used[folder]):
        if left <= room or now - used[folder] < DAY_SECONDS:
            return
        if folder != spared:
            shutil.rmtree(folder, ignore_errors=True)
            left -= sizes[folder]


def _is_whole(folder: Path) -> bool:
    """Whether nothing of an entry has changed; it counts as used now."""
    try:
        record = json.loads((folder / RECORD).read_text())
        os.utime(folder / RECORD)
    except (OSError, ValueError, RecursionError):
        return False
    return bool(record == _state(folder))


def _state(folder: Path) -> dict[str, list[int]]:
    """What RECORD holds."""
    return {
        str(path.relative_to(folder)): [stat.st_size, stat.st_mtime_ns]
        for path, stat in sorted(_files(folder).items())
        if path.suffix != GROWING
    }


def _bytes(folder: Path) -> int:
    return sum(stat.st_size for stat in _files(folder).values())


def _files(folder: Path) -> dict[Path, os.stat_result]:
    """All files of an entry but its record."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path != folder / RECORD)
    return {path: path.stat() for path in paths}


def _when(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return time.time()  # removed at this moment


def _last_change(folder: Path) -> float:
    return max(map(_when, [folder, *folder.rglob("*")]))


def _refused(error: OSError) -> ConfigError:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return ConfigError(
        f"XDG_CACHE_HOME: {home!r} cannot be written ({one_line(error)}); allowed: a folder on a "
        "disk with room, where this user may create folders"
    )
