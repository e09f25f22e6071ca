"""Many files as one array: each is mapped into memory where the one before ends."""

import ctypes
import mmap
import os
import weakref
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from cluster.errors import ConfigError

_NO_ACCESS, _READ_WRITE = 0x00, mmap.PROT_READ | mmap.PROT_WRITE
_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value


def mapped(files: Sequence[Sequence[Path]], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The bytes of files as an array (R, *shape), of which no page is read before it is looked at.

    files: for each of R rows the files that hold it, one after the other; all but a row's last have
    a multiple of the page's size in bytes. Pages are shared by all processes that map the files;
    what is written to the array stays in this process ("copy on write"). Raises ConfigError if the
    files of a row have not as many bytes as `shape` of `dtype`, OSError if they cannot be mapped.
    """
    row_bytes = prod(shape) * dtype.itemsize
    if not row_bytes or not files:
        return np.zeros((len(files), *shape), dtype)
    stride = -(-row_bytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
    library = _library()
    total = len(files) * stride
    # Address space alone, which the files are then laid over.
    anonymous = mmap.MAP_ANONYMOUS | mmap.MAP_PRIVATE
    start = _checked(library.mmap(None, total, _NO_ACCESS, anonymous, -1, 0))
    region = (ctypes.c_char * total).from_address(start)
    weakref.finalize(region, library.munmap, start, total)
    for row, of_row in enumerate(files):
        place = start + row * stride
        end = place + row_bytes
        for path in of_row:
            place += _laid(library, path, place, end)
        if place != end:
            raise ConfigError(
                f"features: {of_row[0].parent} has {end - place} bytes too few; allowed: as it was "
                "published"
            )
    inner = [prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape))]
    return np.ndarray((len(files), *shape), dtype, memoryview(region), strides=(stride, *inner))


def _laid(library: ctypes.CDLL, path: Path, place: int, end: int) -> int:
    """Maps a whole file to an address; returns its bytes."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        if not 0 < size <= end - place:
            raise ConfigError(f"features: {path} has {size} bytes; allowed: as it was published")
        _checked(library.mmap(place, size, _READ_WRITE, mmap.MAP_PRIVATE | _FIXED, file, 0))
        return size
    finally:
        os.close(file)


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64
    ]  # fmt: skip
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library


def _checked(address: int | None) -> int:
    """Raises OSError if a call of mmap failed."""
    if address is None or address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap: {os.strerror(number)}")
    return address
