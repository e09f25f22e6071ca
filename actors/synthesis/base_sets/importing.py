"""Pictures that another program imagined, as rows of a base set."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from actors.pictures.codec import BadImageError, decode_rgb
from actors.synthesis.base_sets.exporting import INDEX
from cluster.errors import ConfigError
from cluster.rows import row_id

RECIPE = "import-1"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
FIELDS = {
    "file": str, "dataset": str, "class_name": str, "index": int, "view": int, "caption": str,
}  # fmt: skip
"""What a line of INDEX says, and its types."""
SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("id", "dataset", "class_name", "caption", "file")],
        *[(name, pa.int64()) for name in ("label", "index", "view")],
        ("group", pa.string()),
        ("bytes", pa.int64()),
    ]
)


def import_plan(folder: str, dataset: str) -> pa.Table:
    """One row per picture below a local folder, without the picture itself (SCHEMA).

    Layouts: what `jobs.export` writes as "views", its INDEX included; view1 … viewN with the same
    CLASS/file in each, as ImagineFSL's iBase; or CLASS/file, one view. Without INDEX an underscore
    in a class folder's name is a space, pictures of one path are one caption's, and captions are
    empty. dataset: of all rows where there is no INDEX, whose lines say theirs. Raises ConfigError
    for a folder without pictures, for a line of INDEX that is not one, and for two files of one
    place.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"folder: {folder!r} is no folder; allowed: a local or mounted folder")
    rows = _indexed(root) if (root / INDEX).is_file() else _scanned(root, dataset)
    if not rows:
        raise ConfigError(
            f"folder: {folder!r} holds no picture; allowed: view1/CLASS/file or CLASS/file with "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    files: dict[str, str] = {}
    labels: dict[str, dict[str, int]] = {}
    for row in sorted(rows, key=lambda row: str(row["class_name"])):
        of_dataset = labels.setdefault(row["dataset"], {})
        of_dataset.setdefault(row["class_name"], len(of_dataset))
    for row in rows:
        row["label"], row["group"] = labels[row["dataset"]][row["class_name"]], "IP"
        key = (row["dataset"], row["class_name"], row["index"], row["view"])
        row["id"] = row_id(*key, RECIPE)
        if (other := files.setdefault(row["id"], row["file"])) != row["file"]:
            raise ConfigError(
                f"folder: {row['file']!r} and {other!r} are both view {row['view']} of caption "
                f"{row['index']} of class {row['class_name']!r}; allowed: one file for each"
            )
        path = root / row["file"]
        row["bytes"] = path.stat().st_size if path.is_file() else 0
    return pa.Table.from_pylist(rows, SCHEMA)


class FileReader:
    """Reads the pictures of rows of `import_plan`.

    Adds `image` (bytes as in the file; empty if refused) and `reason`.
    """

    def __init__(self, folder: str) -> None:
        self.root = Path(folder)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images, reasons = [], []
        for file in batch["file"]:
            data, reason = b"", ""
            try:
                decode_rgb(data := (self.root / str(file)).read_bytes())
            except (BadImageError, OSError) as error:
                data, reason = b"", f"{type(error).__name__}: {error}"
            images.append(data)
            reasons.append(reason)
        columns = {name: values for name, values in batch.items() if name != "bytes"}
        return columns | {
            "image": np.array(images, dtype=object),
            "reason": np.array(reasons, dtype=object),
        }


def _indexed(root: Path) -> list[dict[str, Any]]:
    rows = []
    for number, text in enumerate((root / INDEX).read_text("utf-8").splitlines(), start=1):
        where = f"{root / INDEX}, line {number}"
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{where}: {error}; allowed: one JSON object per line") from error
        if not isinstance(line, dict) or {k: type(v) for k, v in line.items()} != FIELDS:
            wanted = ", ".join(f"{name} ({kind.__name__})" for name, kind in FIELDS.items())
            raise ConfigError(f"{where}: {text[:80]!r}; allowed are the fields {wanted}")
        path = PurePosixPath(line["file"])
        if path.is_absolute() or ".." in path.parts:
            raise ConfigError(f"{where}: file {line['file']!r}; allowed: a path inside the folder")
        rows.append(line)
    return rows


def _scanned(root: Path, dataset: str) -> list[dict[str, Any]]:
    views = sorted(root.glob("view[1-9]*"), key=lambda path: (len(path.name), path.name)) or [root]
    places = [
        sorted(
            path.relative_to(view).as_posix()
            for path in view.glob("*/*")
            if path.suffix.lower() in SUFFIXES
        )
        for view in views
    ]
    numbers: dict[str, int] = {}
    of_class: dict[str, int] = {}
    for place in sorted(set().union(*places)):
        name = place.partition("/")[0]
        numbers[place] = of_class.get(name, 0)
        of_class[name] = numbers[place] + 1
    return [
        {
            "dataset": dataset,
            "class_name": place.partition("/")[0].replace("_", " "),
            "index": numbers[place],
            "view": view,
            "caption": "",
            "file": (views[view] / place).relative_to(root).as_posix(),
        }
        for view, of_view in enumerate(places)
        for place in of_view
    ]
