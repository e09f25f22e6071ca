"""Published files beside a dataset: lists of few-shot images, and prompts per class."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.catalog.listing import Listing
from cluster.errors import ConfigError

_NAME = re.compile(r"shot_(\d+)-seed_(\d+)\.(json|jsonl)")
LISTED = ("train", "val")

ShotLists = dict[str, dict[str, list[str]]]
"""Lists of shots, by "{shots}-{seed}": the paths of LISTED, relative to the dataset's root."""


def read_shot_lists(folder: str) -> ShotLists:
    """The lists of shots in a folder's files shot_{K}-seed_{S}.jsonl and shot_{K}-seed_{S}.json.

    jsonl: per line an object with `path` and `split`, as `Split.lines` has them. json: train and
    val, lists of paths, or of lists that begin with one, as CoOp's split files have them.
    Raises ConfigError on pickles, which could run code when read, and on anything else.
    """
    if not Path(folder).is_dir():
        raise ConfigError(f"shots: {folder!r} is no folder; allowed: one with shot lists")
    lists: ShotLists = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix in (".pkl", ".pickle"):
            raise ConfigError(
                f"shots: {path.name!r} is a pickle, which may run code when it is read; allowed: "
                "shot_K-seed_S.json or .jsonl with the paths in it"
            )
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise ConfigError(f"shots: {path.name!r}; allowed: shot_K-seed_S.json or .jsonl")
        try:
            text = path.read_text(encoding="utf-8")
            paths = _of_lines(text) if name[3] == "jsonl" else _of_lists(json.loads(text))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"shots: {path.name!r} is not understood ({type(error).__name__}: {error}); "
                "allowed: lines with path and split, or lists train and val of paths"
            ) from error
        lists[f"{int(name[1])}-{int(name[2])}"] = paths
    return lists


def require_listed(shots: ShotLists, listing: Listing) -> None:
    """ConfigError if a list names a file that the dataset does not have in that split."""
    files = {(entry.split, entry.file) for entry in listing.entries}
    for name, paths in shots.items():
        for split in LISTED:
            for file in paths[split]:
                if (split, file) not in files:
                    raise ConfigError(
                        f"shots: list {name} has {split} image {file!r}, which the dataset has not "
                        "in that split; allowed: paths as its split file or folder has them"
                    )


def read_prompts(path: str, names: Sequence[str]) -> list[list[str]]:
    """The prompts of each of these classes from a JSON file {class: [prompts]}, CaFo's format.

    A class is found by its exact name, else by its letters and digits in whatever case.
    Raises ConfigError if a class has no prompt or the file is another one.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"prompts: {path!r} is no JSON ({error}); allowed: a JSON file"
        ) from error
    if not isinstance(content, dict) or not all(map(_is_texts, content.values())):
        raise ConfigError(f"prompts: {path!r}; allowed: an object of lists of texts, none empty")
    loosely: dict[str, list[str]] = {}
    for key, prompts in content.items():
        loosely.setdefault(_loose(key), prompts)
    missing = [name for name in names if name not in content and _loose(name) not in loosely]
    if missing:
        raise ConfigError(
            f"prompts: {path!r} has none for {len(missing)} of {len(names)} classes, the first "
            f"{missing[0]!r}; allowed: prompts for every class"
        )
    return [content.get(name) or loosely[_loose(name)] for name in names]


def _of_lines(text: str) -> dict[str, list[str]]:
    paths: dict[str, list[str]] = {split: [] for split in LISTED}
    for line in text.splitlines():
        row = json.loads(line)
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


def _loose(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
