"""Published files beside a dataset: lists of few-shot images, and prompts per class."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cluster.catalog.listing import Listing
from cluster.catalog.names import by_names
from cluster.errors import ConfigError
from cluster.picture_files import is_hidden
from cluster.storage import resolve
from cluster.text_files import read_json, read_json_lines

_NAME = re.compile(r"shot_(\d+)-seed_(\d+)(?:_(train|val))?\.(json|jsonl)")
LISTED = ("train", "val")
_PATH = "_impath"
"""Key of an image's path in the lists that 2SFS published, one per split."""

FOLDERS = 32
"""Of a foreign path, at most."""

ShotLists = dict[str, dict[str, list[str]]]
"""Lists of shots, by "{shots}-{seed}": the paths of LISTED, relative to the dataset's root."""


def read_shot_lists(folder: str) -> ShotLists:
    """The lists of shots in a folder's files shot_{K}-seed_{S}.jsonl and shot_{K}-seed_{S}.json.

    jsonl: per line an object with `path` and `split`, as `Split.lines` has them; or, where a file's
    name ends in _train or _val, with `_impath`, as 2SFS (CVPR 2025) published its lists. json:
    train and val, lists of paths, or of lists that begin with one, as CoOp's split files have them.
    Hidden files are none (`unread_beside_lists`). Raises ConfigError on pickles, which could run
    code when read, and on anything else.
    """
    lists: ShotLists = {}
    parts: set[tuple[str, str]] = set()
    for path in _files(folder):
        if is_hidden(path.name):
            continue
        if path.suffix in (".pkl", ".pickle"):
            raise ConfigError(
                f"shots: {path.name!r} is a pickle, which may run code when it is read; allowed: "
                "shot_K-seed_S.json or .jsonl with the paths in it"
            )
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise ConfigError(f"shots: {path.name!r}; allowed: shot_K-seed_S.json or .jsonl")
        try:
            if name[4] == "json":
                paths = _of_lists(read_json(path, "shots"))
            elif name[3]:
                rows = [row for _, row in read_json_lines(path, "shots")]
                paths = {name[3]: [_text(row[_PATH]) for row in rows]}
            else:
                paths = _of_lines(row for _, row in read_json_lines(path, "shots"))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"shots: {path.name!r} is not understood ({type(error).__name__}: {error}); "
                "allowed: lines with path and split, or lists train and val of paths"
            ) from error
        key = f"{int(name[1])}-{int(name[2])}"
        if any((key, split) in parts for split in paths):
            raise ConfigError(
                f"shots: {path.name!r} is the second list of {name[1]} shots with seed {name[2]}; "
                "allowed: one of each"
            )
        parts.update((key, split) for split in paths)
        lists.setdefault(key, {split: [] for split in LISTED}).update(paths)
    return lists


def unread_beside_lists(folder: str) -> dict[str, str]:
    """What lies among the lists of shots and is none, and why it is not read."""
    return {f"{path.parent.name}/{path.name}": "hidden" for path in _files(folder)
            if is_hidden(path.name)}  # fmt: skip


def _files(folder: str) -> list[Path]:
    place = Path(resolve(folder))
    if not place.is_dir():
        raise ConfigError(f"shots: {folder!r} is no folder; allowed: one with shot lists")
    return sorted(place.iterdir())


def endings(path: str) -> Iterator[str]:
    """A path, and what is left of it behind each of its last FOLDERS, longest first."""
    yield path
    parts = path.split("/")
    for start in range(max(1, len(parts) - FOLDERS), len(parts)):
        yield "/".join(parts[start:])


def in_dataset(shots: ShotLists, listing: Listing) -> ShotLists:
    """The lists with paths as the dataset has them.

    A path may begin with other folders, as where somebody else's data lay. ConfigError if a list
    names a file that the dataset does not have in that split.
    """
    files = {(entry.split, entry.file) for entry in listing.entries}

    def located(name: str, split: str, path: str) -> str:
        for ending in endings(path):
            if (split, ending) in files:
                return ending
        raise ConfigError(
            f"shots: list {name} has {split} image {path!r}, which the dataset has not in that "
            "split; allowed: paths as its split file or folder has them"
        )

    return {
        name: {split: [located(name, split, path) for path in paths] for split, paths in of.items()}
        for name, of in shots.items()
    }


def read_prompts(path: str, names: Sequence[str]) -> list[list[str]]:
    """The prompts of each of these classes from a JSON file {class: [prompts]}, CaFo's format.

    A class is found by its exact name, else by its letters in whatever case, else by its letters
    and digits; see `by_names`. Raises ConfigError if a class has no prompt of its own or the file
    is another one.
    """
    content = read_json(path, "prompts")
    if not isinstance(content, dict) or not all(map(_is_texts, content.values())):
        raise ConfigError(f"prompts: {path!r}; allowed: an object of lists of texts, none empty")
    return by_names(names, content, f"prompts: {path!r}")


def _of_lines(rows: Iterable[Any]) -> dict[str, list[str]]:
    paths: dict[str, list[str]] = {split: [] for split in LISTED}
    for row in rows:
        paths[row["split"]].append(_text(row["path"]))
    return paths


def _of_lists(content: Any) -> dict[str, list[str]]:
    return {
        split: [
            _text(entry if isinstance(entry, str) else entry[0]) for entry in content.get(split, [])
        ]
        for split in LISTED
    }


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no path")
    return value


def _is_texts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(text, str) and text.strip() for text in value)
    )
