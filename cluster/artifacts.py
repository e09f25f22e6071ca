"""Artifacts: folders under a storage root, complete once their manifest.json is there."""

import dataclasses
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import (
    FileSelector,
    FileSystem,
    FileType,
    LocalFileSystem,
    SubTreeFileSystem,
    copy_files,
)

from cluster.content import canonical, content_of, plain
from cluster.errors import ConfigError
from cluster.provenance import code_version, library_versions
from cluster.recipes import RECIPES
from cluster.rows import digest, slug
from cluster.storage import (
    filesystem,
    join,
    node_cache,
    read,
    require_writable,
    resolve,
    write,
    written_whole,
)

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2
WORK = "work"
"""Folder of a draft for what is needed on the way, such as rows that are planned or committed;
`Draft.publish` removes it."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What manifest.json holds."""

    kind: str
    name: str
    content_hash: str
    """Hash of kind, schema and recipe version, name, settings that count, inputs' hashes."""
    recipe: int
    """Version of how this kind is made (`cluster.recipes`)."""
    config: dict[str, Any]
    """The job's resolved configuration; which fields are hashed is declared at the fields."""
    inputs: dict[str, str]
    """Content hash of each input, by role."""
    rows: dict[str, int]
    """Number of rows of each table."""
    versions: dict[str, str]
    """Versions of Python and of libraries where the job ran."""
    code: dict[str, str]
    """`version` and, from a git checkout, `commit` of the code; not hashed."""
    seeds: dict[str, int]
    created: str
    """Time of completion, ISO 8601, UTC."""
    extra: dict[str, Any]
    """Facts that only this kind of artifact has."""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Folder:
    """A folder of JSON files and tables (folders of Parquet files) under a storage root."""

    uri: str

    def file(self, *parts: str) -> str:
        """Path or URI of a file of this folder."""
        return join(self.uri, *parts)

    def filesystem(self) -> tuple[FileSystem, str]:
        """File system, and this folder on it."""
        return filesystem(self.uri)

    def as_root(self) -> FileSystem:
        """File system whose root is this folder, for libraries that read meaning into a path.

        Ray Data takes a folder `id=7` for a column, and a `?` for the end of a path.
        """
        fs, path = self.filesystem()
        return SubTreeFileSystem(path, fs)

    def read_json(self, name: str) -> Any:
        """What the JSON file `name` holds."""
        fs, path = self.filesystem()
        return json.loads(read(fs, f"{path}/{name}"))

    def open_table(self, name: str) -> ds.Dataset:
        """The table `name` for filtered reads. Raises FileNotFoundError if it has no file."""
        fs, path = self.filesystem()
        selector = FileSelector(f"{path}/{name}", allow_not_found=True, recursive=True)
        files = sorted(
            info.path
            for info in fs.get_file_info(selector)
            if info.is_file and info.path.endswith(".parquet")
        )
        if not files:
            raise FileNotFoundError(f"{self.file(name)} holds no Parquet file")
        return ds.dataset(files, filesystem=fs, format="parquet")

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The table `name`, in order of `id` with repeated ids dropped, if it has ids.

        An interrupted writer repeats rows (at least once), never with another content.
        """
        table = self.open_table(name)
        if "id" not in table.schema.names:
            return table.to_table(columns=columns)
        wanted = columns if columns is None or "id" in columns else [*columns, "id"]
        rows = table.to_table(columns=wanted)
        _, first = np.unique(np.array(rows["id"].to_pylist(), dtype=str), return_index=True)
        rows = rows.take(first)
        return rows if columns is None else rows.select(columns)


@dataclass(frozen=True)
class Artifact(Folder):
    """A complete artifact, open for reading."""

    manifest: Manifest

    @property
    def content_hash(self) -> str:
        """What an artifact made from this one is known by."""
        return self.manifest.content_hash

    def local_dir(self) -> Path:
        """This artifact as a local folder; a remote one is copied to this node's cache first."""
        fs, path = self.filesystem()
        if isinstance(fs, LocalFileSystem):
            return Path(path)
        cache = node_cache()
        key = digest(self.uri, self.manifest.content_hash, self.manifest.created).hex()
        if not (cache / key).is_dir():
            aside = cache / f"{key}.{uuid.uuid4().hex}"
            aside.mkdir(parents=True)
            copy_files(path, str(aside), source_filesystem=fs, destination_filesystem=_LOCAL)
            try:
                aside.rename(cache / key)
            except OSError:  # another process of this node was faster
                shutil.rmtree(aside)
        return cache / key


_LOCAL = LocalFileSystem()


def open_artifact(uri: str, kind: str) -> Artifact:
    """Opens a complete artifact of this kind; else ConfigError that says what is there."""
    uri = resolve(uri)
    artifact = _complete(uri)
    if artifact is None:
        fs, path = filesystem(uri)
        exists = fs.get_file_info(path).type != FileType.NotFound
        state = f"holds no {MANIFEST}, so it is not complete" if exists else "does not exist"
        raise ConfigError(f"{kind}: {uri!r} {state}; allowed: a complete artifact of kind {kind!r}")
    if artifact.manifest.kind != kind:
        raise ConfigError(
            f"{kind}: {uri!r} is of kind {artifact.manifest.kind!r}; allowed: kind {kind!r}"
        )
    return artifact


@dataclass(frozen=True)
class Draft(Folder):
    """An artifact that is being made, or (then `artifact` is set) was made by an earlier run.

    It can read what it has written, and its hash stands for what it will be.
    """

    artifact: Artifact | None
    manifest: Manifest = field(repr=False)
    """The manifest that will be published, less rows, seeds, extra and time."""

    @property
    def content_hash(self) -> str:
        """What an artifact made from this one will be known by."""
        return self.manifest.content_hash

    def write_json(self, name: str, obj: Any) -> None:
        """Writes one JSON file; `name` may have folders."""
        self.write_bytes(name, json.dumps(obj, indent=1, ensure_ascii=False).encode())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes one whole file; `name` may have folders."""
        write(*self._parent_made(name), data)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Writes the table `name`, one file."""
        fs, path = self._parent_made(f"{name}/part-0.parquet")
        with written_whole(fs, path) as target:
            pq.write_table(table, target, filesystem=fs)

    def publish(
        self,
        rows: Mapping[str, int],
        extra: Mapping[str, Any] | None = None,
        seeds: Mapping[str, int] | None = None,
    ) -> Artifact:
        """Writes the manifest, with which the artifact is complete, and removes the folder WORK."""
        manifest = dataclasses.replace(
            self.manifest,
            rows=dict(rows),
            extra=dict(extra or {}),
            seeds=dict(seeds or {}),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.write_json(MANIFEST, dataclasses.asdict(manifest))
        self._remove_work()
        return Artifact(self.uri, manifest)

    def _remove_work(self) -> None:
        fs, path = self.filesystem()
        if fs.get_file_info(f"{path}/{WORK}").type == FileType.Directory:
            fs.delete_dir(f"{path}/{WORK}")

    def _parent_made(self, name: str) -> tuple[FileSystem, str]:
        fs, folder = self.filesystem()
        path = f"{folder}/{name}"
        fs.create_dir(path.rpartition("/")[0], recursive=True)
        return fs, path


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
    Raises ConfigError if the storage cannot be written, ValueError for an unknown kind.
    """
    if kind not in RECIPES:
        raise ValueError(f"kind: {kind!r} has no recipe; allowed: {', '.join(RECIPES)}")
    hashes = {role: source.content_hash for role, source in sorted(inputs.items())}
    settings = (content_of(config), content_of(content or {}))
    parts = (SCHEMA_VERSION, RECIPES[kind], *settings, hashes)
    content_hash = digest(kind, name, *map(canonical, parts)).hex()
    uri = join(resolve(storage), slug(kind), f"{slug(name)}-{content_hash[:12]}")
    if artifact := _complete(uri):
        done = Draft(uri, artifact, artifact.manifest)
        done._remove_work()  # a kill may have come between the manifest and that
        return done
    require_writable(uri, storage)
    manifest = Manifest(
        kind=kind,
        name=name,
        content_hash=content_hash,
        recipe=RECIPES[kind],
        config=plain(config),
        inputs=hashes,
        versions=library_versions(),
        code=code_version(),
        rows={},
        seeds={},
        created="",
        extra={},
    )
    return Draft(uri, None, manifest)


def _complete(uri: str) -> Artifact | None:
    fs, path = filesystem(uri)
    if fs.get_file_info(f"{path}/{MANIFEST}").type != FileType.File:
        return None
    manifest = json.loads(read(fs, f"{path}/{MANIFEST}"))
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(
            f"artifact: {uri!r} has schema version {manifest.get('schema_version')!r}; "
            f"allowed: {SCHEMA_VERSION}"
        )
    return Artifact(uri, Manifest(**manifest))
