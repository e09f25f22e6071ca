"""python -m jobs.export --images runs/images/sprites-… --folder /data/ibase --layout webdataset

Copies a base set to a layout that other programs read: ImagineFSL's view folders, WebDataset
shards, or Parquet for Hugging Face's `datasets`.
"""

import dataclasses

from jsonargparse.typing import PositiveInt
from pyarrow.fs import FileSelector

from actors.pictures.base_set import open_base_set_rows
from actors.synthesis.base_sets.exporting import SAID, WRITERS, Layout
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.progress import show_progress
from cluster.storage import filesystem, require_writable, resolve


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is copied, where to and how."""

    images: str
    """Artifact of kind "images": a path or URI."""
    curation: str | None = None
    """Artifact of kind "curation" of that base set; what it refuses is left out."""
    folder: str
    """An empty or missing folder: a local path, or a URI such as s3://bucket/prefix."""
    layout: Layout
    """views: view1/CLASS/file, …; webdataset: tar shards; parquet: data/train-*.parquet."""
    per_file: PositiveInt = 1000
    """Pictures in a shard or Parquet file."""


def export(cfg: ExportConfig) -> None:
    """Writes every picture that was not refused. ConfigError if the folder is not empty, for what
    another base set left there would look like part of this one."""
    base_set, target = open_base_set_rows(cfg.images, cfg.curation), resolve(cfg.folder)
    require_writable(target, cfg.folder)
    fs, folder = filesystem(target)
    if fs.get_file_info(FileSelector(folder)):
        raise ConfigError(f"folder: {cfg.folder!r} is not empty; allowed: an empty or missing one")
    count = base_set.count_images()
    with show_progress("export", count, "images") as progress:
        pictures = base_set.good(SAID)
        WRITERS[cfg.layout](pictures, fs, folder, cfg.per_file, progress.advance)
    print(f"{count} images: {target}")


if __name__ == "__main__":
    run_job(ExportConfig, export)
