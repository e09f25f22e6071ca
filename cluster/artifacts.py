"""Artifacts: folders under a storage root, complete once their manifest.json is there."""

import dataclasses
import json
import os
import platform
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, copy_files

from cluster.rows import digest, slug
from cluster.storage import (
    ConfigError,
    filesystem,
    join,
    node_cache,
    published,
    read,
    require_writable,
    resolve,
    write,
)

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
# Libraries whose release can change the bytes of an artifact.
_LIBRARIES = (
    "diffusers", "imagehash", "numpy", "onnxruntime", "open_clip_torch", "optuna", "peft",
    "pillow", "pyarrow", "ray", "resvg_py", "scikit-learn", "torch", "torchvision", "transformers",
    "vllm",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What manifest.json holds."""

    kind: str
    name: str
    content_hash: str
    """Hash of the recipe: kind, schema version, name, content settings, inputs' content hashes."""
    config: dict[str, Any]
    """The job's resolved configuration, for the reader; only its content settings are hashed."""
    inputs: dict[str, str]
    """Role to content hash."""
    rows: dict[str, int]
    """Table to number of rows."""
    versions: dict[str, str]
    seeds: dict[str, int]
    created: str
    """Time of completion, ISO 8601, UTC."""
    extra: dict[str, Any]
    """Facts that only this kind of artifact has."""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Artifact:
    """A complete artifact, open for reading."""

    uri: str
    manifest: Manifest

    def file(self, *parts: str) -> str:
        """Path or URI of a file of this artifact."""
        return join(self.uri, *parts)

    def filesystem(self) -> tuple[FileSystem, str]:
        """File system, and this artifact's folder on it."""
        return filesystem(self.uri)

    def read_json(self, name: str) -> Any:
        fs, path = self.filesystem()
        return json.loads(read(fs, f"{path}/{name}"))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The Parquet folder `name`, in order of `id` with repeated ids dropped, if it has ids.

        An interrupted writer repeats rows (at least once), never with another content.
        """
        table = open_table(self, name)
        if "id" not in table.schema.names:
            return table.to_table(columns=columns)
        wanted = columns if columns is None or "id" in columns else [*columns, "id"]
        rows = table.to_table(columns=wanted)
        _, first = np.unique(np.array(rows["id"].to_pylist(), dtype=str), return_index=True)
        rows = rows.take(first)
        return rows if columns is None else rows.select(columns)

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


def open_table(artifact: Artifact, name: str) -> ds.Dataset:
    """The Parquet folder `name` for filtered reads. Raises FileNotFoundError if it has no file."""
    fs, path = artifact.filesystem()
    found = fs.get_file_info(FileSelector(f"{path}/{name}", allow_not_found=True, recursive=True))
    files = sorted(f.path for f in found if f.is_file and f.path.endswith(".parquet"))
    if not files:
        raise FileNotFoundError(f"{artifact.file(name)} holds no Parquet file")
    return ds.dataset(files, filesystem=fs, format="parquet")


def open_artifact(uri: str, kind: str) -> Artifact:
    """Open a complete artifact of the given kind; else ConfigError that says what was found."""
    uri = resolve(uri)
    artifact = _complete(uri)
    if artifact is None:
        fs, path = filesystem(uri)
        there = fs.get_file_info(path).type != FileType.NotFound
        found = f"holds no {MANIFEST}, so it is not complete" if there else "does not exist"
        raise ConfigError(f"{kind}: {uri!r} {found}; allowed: a complete artifact of kind {kind!r}")
    if artifact.manifest.kind != kind:
        raise ConfigError(
            f"{kind}: {uri!r} is of kind {artifact.manifest.kind!r}; allowed: kind {kind!r}"
        )
    return artifact


@dataclass(frozen=True)
class Draft:
    """An artifact that is being made, or (then `artifact` is set) was made by an earlier run."""

    uri: str
    artifact: Artifact | None
    manifest: Manifest = field(repr=False)
    """As it will be published, less rows, seeds, extra and time."""

    def file(self, *parts: str) -> str:
        """Path or URI of a file of this artifact."""
        return join(self.uri, *parts)

    def filesystem(self) -> tuple[FileSystem, str]:
        """File system, and this artifact's folder on it."""
        return filesystem(self.uri)

    def write_json(self, name: str, obj: Any) -> None:
        self.write_bytes(name, json.dumps(obj, indent=1, ensure_ascii=False).encode())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write one whole file; `name` may have folders."""
        write(*self._parent_made(name), data)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write the table as the Parquet folder `name`, one file."""
        fs, path = self._parent_made(f"{name}/part-0.parquet")
        with published(fs, path) as target:
            pq.write_table(table, target, filesystem=fs)

    def publish(
        self,
        rows: Mapping[str, int],
        extra: Mapping[str, Any] | None = None,
        seeds: Mapping[str, int] | None = None,
    ) -> Artifact:
        """Write the manifest; from here on the artifact is complete."""
        manifest = dataclasses.replace(
            self.manifest,
            rows=dict(rows),
            extra=dict(extra or {}),
            seeds=dict(seeds or {}),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.write_json(MANIFEST, dataclasses.asdict(manifest))
        return Artifact(self.uri, manifest)

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
    content: Mapping[str, Any],
    config: Any,
    inputs: Mapping[str, Artifact],
) -> Draft:
    """Folder {storage}/{kind}/{name}-{hash}, made if missing, for a job to fill and publish.

    content: the settings that change the bytes (no paths, no resources), plain or dataclasses.
    config: the job's whole configuration, a dataclass. inputs: role to artifact.
    Raises ConfigError if the storage cannot be written.
    """
    hashes = {role: artifact.manifest.content_hash for role, artifact in sorted(inputs.items())}
    recipe = [_canonical(part) for part in (SCHEMA_VERSION, plain(content), hashes)]
    content_hash = digest(kind, name, *recipe).hex()
    uri = join(resolve(storage), slug(kind), f"{slug(name)}-{content_hash[:12]}")
    if artifact := _complete(uri):
        return Draft(uri, artifact, artifact.manifest)
    require_writable(uri, storage)
    manifest = Manifest(
        kind=kind,
        name=name,
        content_hash=content_hash,
        config=plain(config),
        inputs=hashes,
        versions=_versions(),
        rows={},
        seeds={},
        created="",
        extra={},
    )
    return Draft(uri, None, manifest)


def plain(value: Any) -> Any:
    """Settings as what JSON knows: dataclasses and mappings to dict, sequences to list."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, os.PathLike) else value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _complete(uri: str) -> Artifact | None:
    fs, path = filesystem(uri)
    if fs.get_file_info(f"{path}/{MANIFEST}").type != FileType.File:
        return None
    found = json.loads(read(fs, f"{path}/{MANIFEST}"))
    if found.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(
            f"artifact: {uri!r} has schema version {found.get('schema_version')!r}; "
            f"allowed: {SCHEMA_VERSION}"
        )
    return Artifact(uri, Manifest(**found))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
