"""Storage roots: a local path, or a URI that pyarrow.fs knows (s3://, gs://, file://, ...)."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

import pyarrow as pa
from pyarrow import NativeFile
from pyarrow.fs import FileSystem, FileType, LocalFileSystem

from cluster.errors import ConfigError, one_line
from cluster.files import PARTIAL

STORES = ("s3", "gcs")
"""File systems of pyarrow's in which files need no folder; to make one takes five requests."""
SMALL_AT_ONCE = "allow_delayed_open"
"""Option of pyarrow's S3."""


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
        fs, path = FileSystem.from_uri(_at_once(uri))
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(
            f"storage: {uri!r} cannot be opened ({one_line(error)}); allowed: a local path, "
            "or a URI of pyarrow.fs such as s3://bucket/prefix or gs://bucket/prefix"
        ) from error
    return fs, path.rstrip("/")


def _at_once(uri: str) -> str:
    """The URI, of which files of some megabytes are written by one request instead of three: on S3
    pyarrow begins and ends an upload in parts for each, unless a stream may open late."""
    if not uri.startswith("s3://") or SMALL_AT_ONCE in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{SMALL_AT_ONCE}=true"


@contextmanager
def opened_whole(fs: FileSystem, path: str) -> Iterator[NativeFile]:
    """A stream to a file; nobody sees it half-written.

    Its folder is made, but in STORES. A local file is written aside and renamed; an object store
    shows an object once it is whole. What is broken off is removed.
    """
    local = isinstance(fs, LocalFileSystem)
    if fs.type_name not in STORES:
        fs.create_dir(path.rpartition("/")[0], recursive=True)
    # Of a name of its own: processes that write the same file do not meet.
    target = f"{path}.{uuid.uuid4().hex[:8]}{PARTIAL}" if local else path
    try:
        with fs.open_output_stream(target) as stream:
            yield stream
        if local:
            fs.move(target, path)
    except BaseException:
        with suppress(OSError):
            fs.delete_file(target)
        raise


def require_writable(uri: str, storage: str) -> None:
    """Makes the folder, but in STORES; raises ConfigError, naming `storage`, if that or a file is
    refused."""
    fs, path = filesystem(uri)
    probe = f"{path}/.writable-{uuid.uuid4().hex}"  # another process may look, too
    try:
        if fs.type_name not in STORES:
            fs.create_dir(path, recursive=True)
        elif fs.get_file_info(bucket := path.partition("/")[0]).type == FileType.NotFound:
            raise FileNotFoundError(f"Bucket {bucket!r} not found")  # some stores would make it
        fs.open_output_stream(probe).close()
        fs.delete_file(probe)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"storage: {storage!r} cannot be written ({one_line(error)}); "
            "allowed: a local path or URI where this user may create folders and files"
        ) from error


def read(fs: FileSystem, path: str) -> bytes:
    """The whole file."""
    with fs.open_input_stream(path) as stream:
        return stream.read()


@contextmanager
def parquet_read(where: str, allowed: str = "Parquet as it was published") -> Iterator[None]:
    """Raises ConfigError if what is read inside is no Parquet, or damaged; where: the beginning of
    its message."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"{where} cannot be read ({one_line(error)}); allowed: {allowed}"
        ) from error


def write(fs: FileSystem, path: str, data: bytes) -> None:
    """The whole file; see `opened_whole`."""
    with opened_whole(fs, path) as stream:
        stream.write(data)
