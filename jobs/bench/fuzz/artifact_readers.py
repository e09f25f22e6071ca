"""Readers of artifacts that somebody has changed: manifests, and a dataset's other files."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from PIL import Image

from actors.pictures.codec import png_bytes
from cluster.artifacts import draft
from cluster.catalog.dataset import SCHEMA, Concept, Dataset, open_dataset, publish_dataset
from cluster.errors import ConfigError
from cluster.manifest import MANIFEST
from jobs.bench.fuzz.children import Reader

SPLITS = ("train", "val", "test")


def fuzz_dataset(name: str, classes: Sequence[str], folder: Path | None = None) -> Dataset:
    """A dataset with a picture of each class in each split; its files are gone without a folder."""
    picture = png_bytes(Image.new("RGB", (8, 8), (5, 90, 200)))
    rows = [
        {"id": f"{split}{label}", "dataset": name, "class_name": class_name, "label": label,
         "group": "IP", "split": split, "image": picture, "path": f"{split}/{label}.png"}
        for label, class_name in enumerate(classes)
        for split in SPLITS
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        storage, content = str(folder or place), {"classes": classes}
        out = draft(storage, "dataset", name, content=content, config={}, inputs={})
        return publish_dataset(
            out,
            pa.Table.from_pylist(rows, schema=SCHEMA),
            [Concept(class_name, "IP") for class_name in classes],
            hint="thing",
            template="a {}.",
            prompts=[[f"a {class_name}"] for class_name in classes],
            shots={"1-1": {"train": ["train/0.png"], "val": ["val/0.png"]}},
        )


def _use(folder: Path) -> None:
    """Opens the dataset, and reads all of it."""
    dataset = open_dataset(str(folder))
    ids = dataset.rows["id"].to_pylist()
    dataset.images(ids)
    _ = (dataset.rejected, dataset.prompts, dataset.labelled, dataset.split_hash)
    for name in dataset.artifact.manifest.extra["shots"]:
        shots, _, seed = name.partition("-")
        dataset.shot_list(int(shots), int(seed))


def _files() -> dict[str, bytes]:
    """Of a dataset, by path."""
    with tempfile.TemporaryDirectory() as place:
        dataset = fuzz_dataset("pets", ["okapi", "red panda"], Path(place))
        root = Path(dataset.artifact.uri)
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and path.relative_to(root).parts[0] != "work"
        }


def _laid(files: dict[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def manifests() -> Reader:
    """A dataset's manifest, the same in every run; the files beside it are as they were."""
    files = _files()
    manifest = json.loads(files[MANIFEST])
    here = {"versions": {}, "code": {}, "created": "2026-01-01T00:00:00+00:00"}
    files[MANIFEST] = json.dumps(manifest | here, indent=1).encode()

    def read(data: bytes, folder: Path) -> None:
        _laid(files | {MANIFEST: data}, folder)
        _use(folder)

    return Reader([files[MANIFEST]], read)


def dataset_files() -> Reader:
    """A file of a dataset with other bytes of the same number, which only hashes would notice."""
    files = _files()
    names = [name for name in files if name != MANIFEST]

    def read(data: bytes, folder: Path) -> None:
        for name in names:
            size = len(files[name])
            same = sum(a == b for a, b in zip(data, files[name], strict=False))
            if 2 * same > size:  # the one that this was
                _laid(files | {name: data[:size].ljust(size, b"\0")}, folder)
                return _use(folder)
        raise ConfigError("none of the dataset's files")

    return Reader([files[name] for name in names], read)
