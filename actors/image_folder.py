"""Images of the user's in folders: SPLIT/CLASS/file, as ImageFolder datasets have them."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from actors.images import BadImageError, decode_rgb
from cluster.artifacts import ConfigError
from cluster.catalog.dataset import SCHEMA, Concept
from cluster.rows import digest

SPLITS = ("train", "val", "test")
REJECTED_SCHEMA = pa.schema([("file", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class FolderImages:
    """What a folder holds: good rows, bad files with their reasons, classes in order of label."""

    rows: pa.Table
    rejected: pa.Table
    concepts: tuple[Concept, ...]
    content_hash: str
    """Over the names and bytes of all files, good and bad."""


def read_image_folder(dataset: str, folder: str) -> FolderImages:
    """Reads and checks every file. An underscore in a folder's name is a space in the class's name.

    Raises ConfigError if a split's folder is missing or a class folder has no readable image.
    """
    root = Path(folder)
    for split in SPLITS:
        if not (root / split).is_dir():
            raise ConfigError(
                f"folder: {folder!r} has no folder {split!r}; allowed: one with {', '.join(SPLITS)}"
            )
    classes = sorted(
        {path.name for split in SPLITS for path in (root / split).iterdir() if path.is_dir()}
    )
    if not classes:
        raise ConfigError(
            f"folder: {folder!r} has no class folder; allowed: SPLIT/CLASS/image files"
        )
    rows, rejected, hashes = [], [], []
    for label, class_folder in enumerate(classes):
        name = class_folder.replace("_", " ")
        for split in SPLITS:
            good = 0
            for path in sorted(p for p in (root / split / class_folder).glob("*") if p.is_file()):
                file, data = path.relative_to(root).as_posix(), path.read_bytes()
                row_hash = digest(dataset, file, digest(data.hex()).hex()).hex()
                hashes.append(row_hash)
                try:
                    decode_rgb(data)
                except BadImageError as error:
                    rejected.append({"file": file, "reason": str(error)})
                    continue
                good += 1
                rows.append(
                    {
                        "id": row_hash,
                        "dataset": dataset,
                        "class_name": name,
                        "label": label,
                        "group": "IP",
                        "split": split,
                        "image": data,
                    }
                )
            if not good and split != "val":
                raise ConfigError(
                    f"folder: class {class_folder!r} has 0 readable images in {split!r}; "
                    "allowed: at least 1"
                )
    return FolderImages(
        pa.Table.from_pylist(rows, schema=SCHEMA),
        pa.Table.from_pylist(rejected, schema=REJECTED_SCHEMA),
        tuple(Concept(name.replace("_", " "), "IP") for name in classes),
        digest(*hashes).hex(),
    )
