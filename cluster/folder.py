"""A folder under a storage root, for reading."""

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSelector, FileSystem, SubTreeFileSystem

from cluster.errors import ConfigError, one_line
from cluster.storage import filesystem, join, parquet_read, read


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
        """What the JSON file `name` holds. Raises ConfigError if it is damaged."""
        fs, path = self.filesystem()
        data = read(fs, f"{path}/{name}")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"artifact: {self.file(name)!r} is no JSON ({one_line(error)}); allowed: as it was "
                "published"
            ) from error

    def open_table(self, name: str) -> ds.Dataset:
        """The table `name` for filtered reads, inside `damage_told`.

        Raises FileNotFoundError if it has no file.
        """
        fs, path = self.filesystem()
        selector = FileSelector(f"{path}/{name}", allow_not_found=True, recursive=True)
        files = sorted(
            info.path
            for info in fs.get_file_info(selector)
            if info.is_file and info.path.endswith(".parquet")
        )
        if not files:
            raise FileNotFoundError(f"{self.file(name)} holds no Parquet file")
        with self.damage_told(name):
            return ds.dataset(files, filesystem=fs, format="parquet")

    def damage_told(self, table: str) -> AbstractContextManager[None]:
        """Around what reads a table opened by `open_table`: ConfigError if it is damaged."""
        return parquet_read(f"artifact: {self.file(table)!r}")

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The table `name`, in order of `id` with repeated ids dropped, if it has ids.

        An interrupted writer repeats rows (at least once), never with another content.
        """
        table = self.open_table(name)
        if "id" not in table.schema.names:
            with self.damage_told(name):
                return table.to_table(columns=columns)
        wanted = columns if columns is None or "id" in columns else [*columns, "id"]
        with self.damage_told(name):
            rows = table.to_table(columns=wanted)
        _, first = np.unique(np.array(rows["id"].to_pylist(), dtype=str), return_index=True)
        rows = rows.take(first)
        return rows if columns is None else rows.select(columns)
