"""The smoke recipe on services and nodes, and on one machine's disk, and what both make."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileSelector

from cluster.artifacts import open_artifact
from cluster.storage import filesystem, join

ROOT = Path(__file__).parents[2]
RECIPE = ("--config", "jobs/recipes/smoke.yaml")
TABLES = {"results": ("rows",), "adapted": ("trials", "fits")}
"""By kind of artifact, those that are compared."""
TIMES = {"wall_s", "cpu_s"}
"""Columns that no two runs have in common."""
HASH = "config_hash"
"""Column that is about the settings of a folder, where it lies among them."""


def start_on_disk(storage: Path, *settings: str) -> subprocess.Popen[bytes]:
    """The demo on a Ray of this machine's own; what it says is in the storage's `log`."""
    command = [sys.executable, "-m", "jobs.demo", *RECIPE, "--storage", str(storage), *settings]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(storage / "cache")}
    with (storage / "log").open("w") as log:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)


def tables(storage: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of a finished demo's TABLES, without what no two runs have in common."""
    rows = {}
    for kind, names in TABLES.items():
        (folder,) = folders(storage, kind)
        artifact = open_artifact(folder, kind)
        for name in names:
            rows[f"{kind} {name}"] = _comparable(artifact.read_table(name)).to_pylist()
    return rows


def folders(storage: str, kind: str) -> list[str]:
    """URIs of the artifacts of a kind, finished or not."""
    fs, path = filesystem(join(storage, kind))
    infos = fs.get_file_info(FileSelector(path, allow_not_found=True))
    return [join(storage, kind, info.base_name) for info in infos]


def files(storage: str, kind: str) -> list[str]:
    """Paths of all files of the artifacts of a kind, below its folder."""
    fs, path = filesystem(join(storage, kind))
    infos = fs.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    return [info.path.removeprefix(f"{path}/") for info in infos if info.is_file]


def _comparable(table: pa.Table) -> pa.Table:
    return table.drop_columns([n for n in table.column_names if n in TIMES or n == HASH])
