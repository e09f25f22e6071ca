"""The layout of LAION-Beyond: a folder per domain and group, each with a split file of its own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster.catalog.benchmarks import LaionSet
from cluster.catalog.index_files import label_of, part_of
from cluster.catalog.listing import SPLITS, Entry, Listing, listing
from cluster.errors import ConfigError
from cluster.text_files import read_json

GROUPS = ("OOP", "IP")
CAPTION = "Refined_caption3"
"""Key of LAION-Beyond's caption in what it says about an image."""


def laion_listing(
    dataset: str, benchmark: LaionSet, root: Path, splits: Mapping[str, str | None]
) -> Listing:
    """The groups of a domain; the joint label space is in order of names.

    splits: group to its split file relative to root, None if there is but one; without any, both
    groups.
    """
    wanted = splits or dict.fromkeys(GROUPS)
    entries = [
        entry
        for group in GROUPS
        if group in wanted
        for entry in _laion_entries(_chosen(benchmark, root, group, wanted[group]), group)
    ]
    return listing(dataset, root, entries, by_name=True)


def laion_splits(benchmark: LaionSet, root: Path, group: str) -> list[str]:
    """Split files of a group, relative to the root; folders in any case."""
    beginnings = tuple(name.casefold() for name in (benchmark.folder, *benchmark.spellings))
    folders = (
        path
        for path in (root.iterdir() if root.is_dir() else ())
        if path.name.casefold().startswith(beginnings)
        and path.name.casefold().endswith(f"_{group}".casefold())
    )
    files = (file for folder in folders for file in folder.glob("split_Xin*.json"))
    return sorted(path.relative_to(root).as_posix() for path in files)


def _chosen(benchmark: LaionSet, root: Path, group: str, choice: str | None) -> Path:
    """The split file of a group, unambiguous."""
    field, files = f"{group.lower()}_split", laion_splits(benchmark, root, group)
    if not files:
        raise ConfigError(
            f"root: {str(root)!r} has no {benchmark.folder}N_{group}/split_Xin*.json; "
            "allowed: the folder of LAION-Beyond's domains, and --side OOP or IP for one side alone"
        )
    if choice is None and len(files) > 1:
        raise ConfigError(f"{field}: none, but there are several; allowed: {', '.join(files)}")
    if choice is not None and choice not in files:
        raise ConfigError(f"{field}: {choice!r}; allowed: {', '.join(files)}")
    return root / (choice or files[0])


def _laion_entries(path: Path, group: str) -> Iterator[Entry]:
    """The entries of a `split_Xin_*.json`; an image without a caption keeps None."""
    content = read_json(path, "root")
    for split in SPLITS:
        items = part_of(content, split, dict, path).items()
        for place, (index, item) in enumerate(items):
            label = label_of(item.get("label")) if isinstance(item, dict) else None
            match item:
                case {"classname": str(name), "image_name": str(file)} if label is not None:
                    yield Entry(
                        file=f"{path.parent.name}/images/{name}/{file}",
                        split=split,
                        label=label,
                        class_name=name,
                        group=group,
                        place=place,
                        caption=_caption(item.get("INFO")),
                    )
                case _:
                    raise ConfigError(
                        f"root: {str(path)!r} has a {split} entry {index!r} without classname, "
                        "image_name or label; allowed: all three, the label a whole number, not "
                        "a text"
                    )


def _caption(info: Any) -> str | None:
    caption = info.get(CAPTION) if isinstance(info, dict) else None
    return (" ".join(caption.split()) or None) if isinstance(caption, str) else None
