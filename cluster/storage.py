"""Storage roots: a local path, or a URI that pyarrow.fs knows (s3://, gs://, file://, ...)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from pyarrow.fs import FileSystem, LocalFileSystem

from cluster.errors import ConfigError


def resolve(uri: str) -> str:
    """Absolute path of a local path (a worker stands in another directory); URIs unchanged.

    In a path every character stands for itself; in a URI some have to be written as %20.
    Raises ConfigError for a URI of which the end would be cut off.
    """
    if "://" not in uri:
        return os.path.abspath(os.path.expanduser(uri))
    local = uri.startswith("file://")
    for mark, code in ({"#": "%23"} | ({"?": "%3F"} if local else {})).items():
        if mark in uri:
            raise ConfigError(
                f"storage: {uri!r} ends for its readers at {mark!r}; allowed: {code} in its place"
            )
    return filesystem(uri)[1] if local else uri


def join(uri: str, *parts: str) -> str:
    """Path below a resolved path or URI; the options of a URI (?region=...) stay at its end."""
    if "://" not in uri:
        return os.path.join(uri, *parts)
    base, mark, options = uri.partition("?")
    return "/".join([base.rstrip("/"), *parts]) + mark + options


@lru_cache(maxsize=256)  # opening S3 asks the network for the bucket's region
def filesystem(uri: str) -> tuple[FileSystem, str]:
    """File system and path of a resolved path or URI. Raises ConfigError on an unknown scheme."""
    if "://" not in uri:
        return LocalFileSystem(), uri
    try:
        fs, path = FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(
            f"storage: {uri!r} cannot be opened ({_one_line(error)}); allowed: a local path, "
            "or a URI of pyarrow.fs such as s3://bucket/prefix or gs://bucket/prefix"
        ) from error
    return fs, path.rstrip("/")


@contextmanager
def written_whole(fs: FileSystem, path: str) -> Iterator[str]:
    """A context that yields the path to write to, so that `path` is never seen half-written.

    A local file is written aside and renamed; an object store shows an object once it is whole.
    """
    if isinstance(fs, LocalFileSystem):
        aside = f"{path}.partial"
        yield aside
        fs.move(aside, path)
    else:
        yield path


def node_cache() -> Path:
    """Folder of this node for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "imagine-beyond"


def require_writable(uri: str, storage: str) -> None:
    """Makes the folder; raises ConfigError, naming `storage`, if that or a file is refused."""
    fs, path = filesystem(uri)
    probe = f"{path}/.writable"
    try:
        fs.create_dir(path, recursive=True)
        fs.open_output_stream(probe).close()
        fs.delete_file(probe)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"storage: {storage!r} cannot be written ({_one_line(error)}); "
            "allowed: a local path or URI where this user may create folders and files"
        ) from error


def read(fs: FileSystem, path: str) -> bytes:
    """The whole file."""
    with fs.open_input_stream(path) as stream:
        return stream.read()


def write(fs: FileSystem, path: str, data: bytes) -> None:
    """The whole file, in a folder that is there; see `written_whole`."""
    with written_whole(fs, path) as target, fs.open_output_stream(target) as stream:
        stream.write(data)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
