"""What files a folder holds: their sizes, and the hashes of their bytes."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pyarrow.fs import FileSelector, FileSystem

PARTIAL = ".partial"
"""End of the name of a file that is being written."""
BYTES_AT_ONCE = 1 << 20
FILES_AT_ONCE = 1024
READERS = 8


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a manifest says of a file."""

    size: int
    """Bytes."""
    sha256: str | None
    """Hash of its bytes, 64 hex digits; None where nobody has read them all."""


class HashedStream:
    """A binary stream to write to, which knows the facts of what went through it."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._hash, self._size = stream, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._stream.write(view)
        self._hash.update(view)
        self._size += len(view)
        return len(view)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Does nothing: whoever opened the stream below closes it."""

    @property
    def closed(self) -> bool:
        return False

    @property
    def facts(self) -> FileFacts:
        """Of all that was written so far."""
        return FileFacts(self._size, self._hash.hexdigest())


def listed(fs: FileSystem, folder: str, without: str) -> dict[str, int]:
    """Path below the folder to bytes, of all files at any depth, by one request.

    without: a folder of it that does not count. Hidden names do not count either, for they are of
    the operating system.
    """
    infos = fs.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    sizes = {i.path.removeprefix(f"{folder}/"): i.size or 0 for i in infos if i.is_file}
    return {
        name: size
        for name, size in sizes.items()
        if not name.startswith(f"{without}/") and not any(p[0] == "." for p in name.split("/"))
    }


def differences(sizes: Mapping[str, int], files: Mapping[str, FileFacts]) -> Iterator[str]:
    """In words, every file that is missing, has another size, or is there without being told of."""
    for name, facts in files.items():
        if name not in sizes:
            yield f"{name} is missing"
        elif sizes[name] != facts.size:
            yield f"{name} has {sizes[name]} bytes, not {facts.size}"
    for name in sizes:
        if name not in files:
            yield f"{name} is none of its files"


def sha256(fs: FileSystem, path: str) -> str:
    """Hash of a file's bytes, read as a stream."""
    state = hashlib.sha256()
    with fs.open_input_stream(path) as stream:
        while data := stream.read(BYTES_AT_ONCE):
            state.update(data)
    return state.hexdigest()


def hashes(fs: FileSystem, folder: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each of these files below the folder with its hash; some files are read side by side."""
    coming = iter(names)
    with ThreadPoolExecutor(READERS) as pool:
        while part := list(islice(coming, FILES_AT_ONCE)):  # a pool takes all of it at once
            yield from zip(
                part, pool.map(lambda name: sha256(fs, f"{folder}/{name}"), part), strict=True
            )
