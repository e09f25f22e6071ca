"""Pictures that another program imagined, as rows of a base set."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from actors.pictures.codec import BadImageError, decode_rgb, picture_bytes
from actors.synthesis.base_sets.exporting import INDEX
from actors.synthesis.base_sets.index import read_index
from cluster.errors import ConfigError
from cluster.picture_files import SUFFIXES, picture_files, unread_line
from cluster.rows import row_id

RECIPE = "import-2"
SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("id", "dataset", "class_name", "caption", "file")],
        *[(name, pa.int64()) for name in ("label", "index", "view")],
        ("group", pa.string()),
        ("bytes", pa.int64()),
    ]
)
_VIEW = re.compile(r"view_?(\d+)", re.IGNORECASE)
_NO_CLASS = "a picture in no class folder"

Row = dict[str, Any]


@dataclass(frozen=True)
class ImportPlan:
    """What a folder holds as a base set."""

    rows: pa.Table
    """One row per picture, without the picture itself (SCHEMA)."""
    unread: dict[str, str]
    """All else in the folder, with the reason for which it is not read."""


def import_plan(folder: str, dataset: str) -> ImportPlan:
    """The pictures below a local folder, and what is there besides them.

    Layouts: what `jobs.export` writes as "views", its INDEX included; view0 … viewN with the same
    CLASS/file in each, as ImagineFSL's iBase; or CLASS/file, one view. Deeper folders belong to
    their class; in the last layout only of one that holds a picture itself, for a folder that does
    not, such as train, is none.

    Without INDEX an underscore in a class folder's name is a space, and captions are empty.
    Pictures of one path are one caption's, whatever their suffixes, unless two in one view differ
    in these alone. dataset: of all rows where there is no INDEX, whose lines say theirs. Raises
    ConfigError for a folder without pictures, for a line of INDEX that is not one, and for two
    files of one place.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"folder: {folder!r} is no folder; allowed: a local or mounted folder")
    files = picture_files(root)
    unread = dict(files.unread)
    if (root / INDEX).is_file():
        rows = read_index(root / INDEX)
        listed = {row["file"] for row in rows}
        unread |= {file: f"not in {INDEX}" for file in files.pictures if file not in listed}
        del unread[INDEX]
    else:
        rows = _scanned(_views(files.pictures, unread), dataset)
    if not rows:
        raise ConfigError(
            f"folder: {folder!r} holds no picture; allowed: view1/CLASS/file or CLASS/file with "
            f"{', '.join(SUFFIXES)}" + (f" ({unread_line(unread)})" if unread else "")
        )
    _complete(rows, root)
    return ImportPlan(pa.Table.from_pylist(rows, SCHEMA), dict(sorted(unread.items())))


class FileReader:
    """Reads the pictures of rows of `import_plan`.

    Adds `image` (bytes as in the file; empty if refused) and `reason`.
    """

    def __init__(self, folder: str) -> None:
        self.root = Path(folder).resolve()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images, reasons = [], []
        for file in batch["file"]:
            data, reason = b"", ""
            try:
                decode_rgb(data := self._bytes(str(file)))
            except BadImageError as error:
                data, reason = b"", str(error)
            images.append(data)
            reasons.append(reason)
        columns = {name: values for name, values in batch.items() if name != "bytes"}
        return columns | {
            "image": np.array(images, dtype=object),
            "reason": np.array(reasons, dtype=object),
        }

    def _bytes(self, file: str) -> bytes:
        path = (self.root / file).resolve()
        if not path.is_relative_to(self.root):
            raise BadImageError("a link that leads out of the folder")
        return picture_bytes(path)


def _views(pictures: Sequence[str], unread: dict[str, str]) -> dict[str, list[str]]:
    """Each view's folder, with "/" at its end, to the CLASS/file in it; the rest goes to `unread`.

    Without view folders the folder itself, "", is the only view.
    """
    numbers = {
        view: int(match[1])
        for view in {file.partition("/")[0] for file in pictures if "/" in file}
        if (match := _VIEW.fullmatch(view))
    }
    if not numbers:
        return {"": _in_classes(pictures, unread)}
    views = sorted(numbers, key=lambda view: (numbers[view], view))
    of_view: dict[str, list[str]] = {f"{view}/": [] for view in views}
    for file in pictures:
        view, _, place = file.partition("/")
        if view not in numbers:
            unread[file] = "a picture beside the view folders"
        elif "/" not in place:
            unread[file] = _NO_CLASS
        else:
            of_view[f"{view}/"].append(place)
    return of_view


def _in_classes(pictures: Sequence[str], unread: dict[str, str]) -> list[str]:
    """The pictures below a folder that holds one itself; the rest goes to `unread`."""
    classes = {file.partition("/")[0] for file in pictures if file.count("/") == 1}
    places = []
    for file in pictures:
        name, _, rest = file.partition("/")
        if not rest:
            unread[file] = _NO_CLASS
        elif name not in classes:
            unread[file] = "in a folder that holds no picture itself, so it is no class"
        else:
            places.append(file)
    return places


def _scanned(of_view: dict[str, list[str]], dataset: str) -> list[Row]:
    """Rows of the views of `_views`: captions are counted in order of their first path."""
    stems = [Counter(map(_stem, places)) for places in of_view.values()]

    def caption(place: str) -> str:
        stem = _stem(place)
        return place if any(count[stem] > 1 for count in stems) else stem

    numbers: dict[str, int] = {}
    of_class: Counter[str] = Counter()
    for place in sorted(set().union(*of_view.values())):
        if (key := caption(place)) not in numbers:
            name = place.partition("/")[0]
            numbers[key] = of_class[name]
            of_class[name] += 1
    return [
        {
            "dataset": dataset,
            "class_name": place.partition("/")[0].replace("_", " "),
            "index": numbers[caption(place)],
            "view": view,
            "caption": "",
            "file": f"{folder}{place}",
        }
        for view, (folder, places) in enumerate(of_view.items())
        for place in places
    ]


def _stem(place: str) -> str:
    """A path without its suffix."""
    return place.rpartition(".")[0]


def _complete(rows: list[Row], root: Path) -> None:
    """Adds label, group, id and bytes; ConfigError for two files of one place."""
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
        row["bytes"] = path.stat().st_size if isfile(path) else 0
