"""Decoded pictures that a node keeps for all its processes, in one file of a declared size."""

import os
import shutil
import weakref
import zlib
from pathlib import Path

import numpy as np

from cluster.cache import GROWING, cached
from cluster.errors import FULL
from cluster.rows import digest

CHECKSUM_BYTES = 4
FREE_SHARE = 0.5
"""Of what is free on the disk, which is taken at most."""


class KeptPictures:
    """The first pictures of an index, once they were decoded; the others are not kept.

    No policy finds more of what is read once per epoch in a new random order than a part that
    stays (one that gives way to the latest finds less), and this one needs no word between
    processes: each writes what it has decoded, at a place that follows from its number. A
    checksum tells a reader whether all of it is there. The file has holes where nothing is kept.
    """

    def __init__(self, identity: str, size: int, most_bytes: int) -> None:
        """identity: names the pictures and their numbers; size: S, pixels on a side.

        Raises ConfigError if the node's cache cannot be written.
        """
        folder = cached(f"decoded-{digest(identity, str(size)).hex()}", lambda folder: None)
        self.shape = (3, size, size)
        self._record = CHECKSUM_BYTES + 3 * size * size
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(folder / f"pixels{GROWING}", flags, 0o600)
        weakref.finalize(self, os.close, self._file)
        most_bytes = min(most_bytes, _room(folder) + os.fstat(self._file).st_size)
        self.count = most_bytes // self._record
        """Pictures that are kept at most."""
        if os.fstat(self._file).st_size > self.count * self._record:  # of a larger bound
            os.ftruncate(self._file, self.count * self._record)

    def read(self, number: int) -> np.ndarray | None:
        """(3, S, S) uint8 of a picture; None if it is not kept."""
        if number >= self.count:
            return None
        picture = np.empty(self.shape, dtype=np.uint8)
        checksum = bytearray(CHECKSUM_BYTES)
        size = os.preadv(self._file, [checksum, picture.data.cast("B")], number * self._record)
        whole = size == self._record and checksum == _checksum(picture)
        return picture if whole else None

    def write(self, number: int, picture: np.ndarray) -> None:
        """Keeps a picture, (3, S, S) uint8 in C's order, if it is one of those that are kept."""
        if number >= self.count:
            return
        try:
            parts = (_checksum(picture), picture.data.cast("B"))
            os.pwritev(self._file, parts, number * self._record)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.count = 0  # others have filled the disk: pictures are decoded again


def _checksum(picture: np.ndarray) -> bytes:
    """Not that of a hole: the checksum of zeros is no zero."""
    return zlib.crc32(picture.data).to_bytes(CHECKSUM_BYTES, "little")


def _room(folder: Path) -> int:
    return int(FREE_SHARE * shutil.disk_usage(folder).free)
