"""Artifacts: folders under a storage root, complete once their manifest.json is there."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem, FileType, LocalFileSystem, copy_files

from cluster.cache import cached
from cluster.content import canonical, content_of, plain
from cluster.errors import ConfigError, one_line
from cluster.files import PARTIAL, FileFacts, HashedStream, differences, hashes, listed
from cluster.folder import Folder
from cluster.locks import Lock, locked
from cluster.manifest import LARGEST_BYTES, MANIFEST, SCHEMA_VERSION, Manifest, parse_manifest
from cluster.provenance import code_version, library_versions
from cluster.recipes import RECIPES
from cluster.rows import digest, slug
from cluster.storage import (
    filesystem,
    join,
    opened_whole,
    require_writable,
    resolve,
)

WORK = "work"
"""Folder of a draft for what is needed on the way, such as rows that are planned or committed;
`Draft.publish` removes it."""
CHECK_HASHES = "IMAGINE_BEYOND_CHECK_HASHES"
"""Environment variable; where it is set, an artifact that is opened is read whole, and compared
with the hashes in its manifest. Without it, sizes are compared."""
LONG_READ_BYTES = 10_000_000_000
"""Beyond which it is said that files are read for their hashes."""
NAMED = 3
"""Damaged files that are named at most."""


@dataclass(frozen=True)
class Artifact(Folder):
    """A complete artifact, open for reading."""

    manifest: Manifest

    @property
    def content_hash(self) -> str:
        """What an artifact made from this one is known by."""
        return self.manifest.content_hash

    def local_dir(self, *folder: str) -> Path:
        """This artifact, or a folder of it, on this node; a remote one is copied to the node's
        cache first."""
        fs, path = self.filesystem()
        path = "/".join([path, *folder])
        if isinstance(fs, LocalFileSystem):
            return Path(path)
        key = digest(self.uri, self.manifest.content_hash, self.manifest.created, *folder).hex()
        return cached(
            f"artifact-{key}",
            lambda copy: copy_files(
                path, str(copy), source_filesystem=fs, destination_filesystem=LocalFileSystem()
            ),
        )

    def require_whole(self) -> None:
        """Raises ConfigError if a file is missing, has another size, or is there besides.

        One listing, however many files there are. Their bytes are not read, unless CHECK_HASHES
        says so.
        """
        fs, path = self.filesystem()
        damage = list(differences(_sizes(fs, path), self.manifest.files))
        if not damage and os.environ.get(CHECK_HASHES):
            damage = list(self.changed())
        if damage:
            more = f" and {len(damage) - NAMED} more" if len(damage) > NAMED else ""
            raise ConfigError(
                f"artifact: {self.uri!r} is damaged: {', '.join(damage[:NAMED])}{more}; allowed: "
                "the files that were published; remove the folder, and it is made again"
            )

    def changed(self) -> Iterator[str]:
        """In words, every file whose bytes have not the hash that the manifest says.

        Reads all files that have one, as streams.
        """
        fs, path = self.filesystem()
        told = {name: f.sha256 for name, f in self.manifest.files.items() if f.sha256}
        for name, value in hashes(fs, path, told):
            if value != told[name]:
                yield f"{name} has other bytes"


def _sizes(fs: FileSystem, path: str) -> dict[str, int]:
    """Path to bytes of all files of an artifact but its manifest."""
    sizes = listed(fs, path, without=WORK)
    sizes.pop(MANIFEST, None)
    return sizes


def open_artifact(uri: str, kind: str) -> Artifact:
    """Opens a complete artifact of this kind; else ConfigError that says what is there.

    So it is if the artifact is damaged (`Artifact.require_whole`).
    """
    artifact = open_complete(uri, kind)
    if artifact.manifest.kind != kind:
        raise ConfigError(
            f"{kind}: {artifact.uri!r} is of kind {artifact.manifest.kind!r}; allowed: kind "
            f"{kind!r}"
        )
    return artifact


def open_complete(uri: str, what: str = "artifact") -> Artifact:
    """Opens a complete artifact of any kind; else ConfigError that names what it was to be."""
    uri = resolve(uri)
    artifact = _complete(uri)
    if artifact is None:
        fs, path = filesystem(uri)
        exists = fs.get_file_info(path).type != FileType.NotFound
        state = f"holds no {MANIFEST}, so it is not complete" if exists else "does not exist"
        raise ConfigError(f"{what}: {uri!r} {state}; allowed: a complete artifact")
    return artifact


@dataclass(frozen=True)
class Draft(Folder):
    """An artifact that is being made, or (then `artifact` is set) was made by an earlier run.

    It can read what it has written, and its hash stands for what it will be.
    """

    artifact: Artifact | None
    manifest: Manifest = field(repr=False)
    """The manifest that will be published, less rows, seeds, extra, files and time."""
    lock: Lock | None = field(default=None, compare=False, repr=False)
    """Keeps other processes from making the same artifact meanwhile."""
    written: dict[str, FileFacts] = field(default_factory=dict, compare=False, repr=False)
    """Files that this process has written through this object."""

    @property
    def content_hash(self) -> str:
        """What an artifact made from this one will be known by."""
        return self.manifest.content_hash

    @contextlib.contextmanager
    def open_file(self, name: str) -> Iterator[HashedStream]:
        """A stream to one file, which is there once it is whole; `name` may have folders."""
        fs, folder = self.filesystem()
        with opened_whole(fs, f"{folder}/{name}") as stream:
            hashed = HashedStream(stream)
            yield hashed
        self.written[name] = hashed.facts

    def write_json(self, name: str, obj: Any) -> None:
        """Writes one JSON file; `name` may have folders."""
        self.write_bytes(name, json.dumps(obj, indent=1, ensure_ascii=False).encode())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes one whole file; `name` may have folders."""
        with self.open_file(name) as stream:
            stream.write(data)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Writes the table `name`, one file."""
        with self.open_file(f"{name}/part-0.parquet") as stream:
            pq.write_table(table, stream)

    def publish(
        self,
        rows: Mapping[str, int],
        extra: Mapping[str, Any] | None = None,
        seeds: Mapping[str, int] | None = None,
    ) -> Artifact:
        """Writes the manifest, with which the artifact is complete, and removes the folder WORK.

        The manifest has the sizes of all files, and hashes: of what this process has written, as it
        was written; of what workers have written, by reading it here if it lies on a local disk. On
        an object store their files have no hash, for the driver would have to fetch all of them.
        """
        from cluster.worker_versions import worker_versions  # imports Ray

        manifest = dataclasses.replace(
            self.manifest,
            rows=dict(rows),
            workers=worker_versions(),
            extra=dict(extra or {}),
            seeds=dict(seeds or {}),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files=self._facts(),
        )
        self.write_bytes(MANIFEST, manifest.to_json())
        self._remove_work()
        if self.lock:
            self.lock.release()
        return Artifact(self.uri, manifest)

    def _facts(self) -> dict[str, FileFacts]:
        """Of all files; what a kill has left half-written is removed."""
        fs, folder = self.filesystem()
        sizes = _sizes(fs, folder)
        for name in [name for name in sizes if name.endswith(PARTIAL)]:
            fs.delete_file(f"{folder}/{name}")
            del sizes[name]
        told = {n: f for n, f in self.written.items() if n in sizes and f.size == sizes[n]}
        local = isinstance(fs, LocalFileSystem)
        unread = sorted(name for name in sizes if name not in told) if local else []
        if (size := sum(sizes[name] for name in unread)) > LONG_READ_BYTES:
            print(f"manifest: hashes of {size / 1e9:.0f} GB of files", file=sys.stderr, flush=True)
        by_name = dict(hashes(fs, folder, unread))
        untold = {n: FileFacts(size, by_name.get(n)) for n, size in sizes.items()}
        return dict(sorted((untold | told).items()))

    def _remove_work(self) -> None:
        fs, path = self.filesystem()
        if fs.get_file_info(f"{path}/{WORK}").type == FileType.Directory:
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                fs.delete_dir(f"{path}/{WORK}")


def draft(
    storage: str,
    kind: str,
    name: str,
    *,
    config: Any,
    inputs: Mapping[str, Artifact | Draft],
    content: Mapping[str, Any] | None = None,
) -> Draft:
    """Folder {storage}/{kind}/{name}-{hash}, made if missing, for a job to fill and publish.

    kind: one of `cluster.recipes.RECIPES`. config: the job's whole configuration, a dataclass; its
    fields say themselves what counts (`cluster.content`). inputs: role to artifact. content: what
    else changes the bytes, such as the hash of weights; plain or dataclasses.
    While another process of a machine that shares the disk makes the same artifact, this one waits,
    and then has what that has made. Raises ConfigError if the storage cannot be written or what
    is there is damaged, ValueError for an unknown kind.
    """
    if kind not in RECIPES:
        raise ValueError(f"kind: {kind!r} has no recipe; allowed: {', '.join(RECIPES)}")
    input_hashes = {role: source.content_hash for role, source in sorted(inputs.items())}
    settings = (content_of(config), content_of(content or {}))
    parts = (SCHEMA_VERSION, RECIPES[kind], *settings, input_hashes)
    content_hash = digest(kind, name, *map(canonical, parts)).hex()
    uri = join(resolve(storage), slug(kind), f"{slug(name)}-{content_hash[:12]}")
    if done := _done(uri):
        return done
    require_writable(uri, storage)
    lock = _lock(uri)
    if done := _done(uri):  # by the process that had the lock
        return done
    manifest = Manifest(
        kind=kind,
        name=name,
        content_hash=content_hash,
        recipe=RECIPES[kind],
        config=plain(config) or {},
        inputs=input_hashes,
        versions=library_versions(),
        workers={},
        code=code_version(),
        rows={},
        seeds={},
        created="",
        extra={},
    )
    return Draft(uri, None, manifest, lock)


def _done(uri: str) -> Draft | None:
    """The draft of an artifact that is complete."""
    if (artifact := _complete(uri)) is None:
        return None
    done = Draft(uri, artifact, artifact.manifest)
    done._remove_work()  # a kill may have come between the manifest and that
    return done


def _lock(uri: str) -> Lock | None:
    """Waits until no other process makes this artifact; an object store has no locks."""
    fs, path = filesystem(uri)
    return locked(f"{path}/{WORK}/lock", uri) if isinstance(fs, LocalFileSystem) else None


def _complete(uri: str) -> Artifact | None:
    fs, path = filesystem(uri)
    try:
        with fs.open_input_file(f"{path}/{MANIFEST}") as file:
            if (size := file.size()) > LARGEST_BYTES:
                raise ConfigError(
                    f"artifact: {MANIFEST} of {uri!r} has {size} bytes; allowed: {LARGEST_BYTES}"
                )
            manifest = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(
            f"storage: {uri!r} cannot be read ({one_line(error)}); allowed: a local path, or a URI "
            "of a store that answers and lets this user in"
        ) from error
    artifact = Artifact(uri, parse_manifest(manifest, uri))
    artifact.require_whole()
    return artifact
