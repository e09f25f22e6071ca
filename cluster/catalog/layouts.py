"""The layouts in which datasets come: CoOp's, LAION-Beyond's, a folder per split and class."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cluster.catalog.benchmarks import BENCHMARKS, CoopSet, LaionSet
from cluster.catalog.dataset import UNLABELLED
from cluster.catalog.index_files import part_of, read_json, read_lines
from cluster.catalog.laion_beyond import laion_listing, laion_splits
from cluster.catalog.listing import SPLITS, Entry, Listing, listing
from cluster.errors import ConfigError
from cluster.rows import digest

NAMES_FILE = "classnames.txt"
"""File beside a dataset's folders: per line a class folder, a space or a tab, its class name."""
HELD_OUT = 20
"""Training images per class of ImageNet that become val, and at most a fifth of them."""
_SAME: Mapping[str, str] = {split: split for split in SPLITS}
_NONE: Mapping[str, str] = {}


def benchmark_listing(
    name: str, root: str, splits: Mapping[str, str | None], train_only: frozenset[str] = frozenset()
) -> Listing:
    """A set of BENCHMARKS under the root of all sets.

    splits: of LAION-Beyond, group to its split file relative to root; None: there is but one.
    train_only: training images that may not become val.
    Raises ConfigError on what is missing or broken.
    """
    benchmark = BENCHMARKS[name]
    if isinstance(benchmark, LaionSet):
        return laion_listing(name, benchmark, Path(root), splits)
    return _coop(name, benchmark, Path(root) / benchmark.folder, train_only)


def is_there(name: str, root: str) -> bool:
    """Whether the root has a folder of this benchmark set."""
    benchmark = BENCHMARKS[name]
    if isinstance(benchmark, LaionSet):
        return any(laion_splits(benchmark, Path(root), group) for group in ("OOP", "IP"))
    return (Path(root) / benchmark.folder).is_dir()


def folder_listing(dataset: str, folder: str) -> Listing:
    """SPLIT/CLASS/file for every split, the classes in order of their folders' names.

    A class is called as its folder, or as NAMES_FILE says if there is one.
    Raises ConfigError if a split's folder is missing.
    """
    root = Path(folder)
    for split in SPLITS:
        if not (root / split).is_dir():
            raise ConfigError(
                f"folder: {folder!r} has no folder {split!r}; allowed: one with {', '.join(SPLITS)}"
            )
    return _folders(dataset, root, root / NAMES_FILE)


def flat_listing(folder: str) -> Listing:
    """Every file below a folder, as a training image without a class.

    Raises ConfigError if there is none.
    """
    root = Path(folder)
    files = sorted(
        (Path(where) / file).relative_to(root).as_posix()
        for where, _, names in os.walk(root)
        for file in names
    )
    if not files:
        raise ConfigError(f"images: {folder!r} holds no file; allowed: a folder of images")
    (concept,) = UNLABELLED
    entries = tuple(
        Entry(file=f, split="train", label=0, class_name=concept.name, group=concept.group)
        for f in files
    )
    return Listing(root, entries, UNLABELLED, {(concept.group, 0): 0})


def _coop(name: str, benchmark: CoopSet, folder: Path, train_only: frozenset[str]) -> Listing:
    """CoOp's own layout if it is there, else plain folders."""
    images, index = folder / benchmark.images, folder / benchmark.index
    if benchmark.layout == "split" and index.is_file():
        return listing(name, images, _split_entries(index))
    if benchmark.layout == "lists" and index.is_file():
        classes = read_lines(index)
        return listing(name, images, _list_entries(folder, classes), classes=classes)
    by_wnid = benchmark.layout == "wnids" and index.is_file()
    root = images if by_wnid and images.is_dir() else folder
    split_folders = {split for split in SPLITS if (root / split).is_dir()}
    if by_wnid and split_folders == {"train", "val"}:
        # Its val is what everybody tests on, so val is held out of train.
        plain = _folders(name, root, index, folders={"train": "train", "test": "val"})
        return replace(plain, entries=tuple(_with_val(plain.entries, train_only)))
    if {"train", "test"} <= split_folders and (by_wnid or benchmark.layout != "wnids"):
        return _folders(name, root, folder / NAMES_FILE, renamed=benchmark.renamed)
    raise ConfigError(
        f"root: {str(folder)!r} has no {benchmark.index!r} and no folders for all splits; "
        f"allowed: CoOp's layout of {name}, or SPLIT/CLASS/image files"
    )


def _split_entries(path: Path) -> Iterator[Entry]:
    """The entries of a `split_zhou_*.json`."""
    content = read_json(path)
    for split in SPLITS:
        for place, entry in enumerate(part_of(content, split, list, path)):
            match entry:
                case [str(file), int(label), str(class_name)]:
                    yield Entry(
                        file=file, split=split, label=label, class_name=class_name, place=place
                    )
                case _:
                    raise ConfigError(
                        f"root: {str(path)!r} has {split} entry {place} {entry!r}; "
                        "allowed: [path, label, class name]"
                    )


def _list_entries(folder: Path, classes: list[str]) -> Iterator[Entry]:
    """The entries of `images_variant_*.txt`, per line an image's number and its variant."""
    label = {name: i for i, name in enumerate(classes)}
    for split in SPLITS:
        path = folder / f"images_variant_{split}.txt"
        for place, line in enumerate(read_lines(path)):
            number, _, variant = line.partition(" ")
            if variant not in label:
                raise ConfigError(
                    f"root: {str(path)!r} has the variant {variant!r}; "
                    "allowed: those of variants.txt"
                )
            yield Entry(
                file=f"{number}.jpg",
                split=split,
                label=label[variant],
                class_name=variant,
                place=place,
            )


def _folders(
    dataset: str,
    root: Path,
    names_file: Path,
    *,
    folders: Mapping[str, str] = _SAME,
    renamed: Mapping[str, str] = _NONE,
) -> Listing:
    """The listing of FOLDER/CLASS/file.

    folders: split to folder. renamed: class folder to class name, for those that no names file
    names.
    """
    inside = {
        split: {f.name for f in os.scandir(root / folder) if f.is_dir()}
        for split, folder in folders.items()
        if (root / folder).is_dir()
    }
    classes = sorted(set().union(*inside.values()))
    if not classes:
        raise ConfigError(
            f"folder: {str(root)!r} has no class folder; allowed: SPLIT/CLASS/image files"
        )
    names = {c: renamed.get(c, c) for c in classes}
    if names_file.is_file():
        names = _names(names_file)
    for class_folder in classes:
        if class_folder not in names:
            raise ConfigError(
                f"folder: {class_folder!r} is not in {str(names_file)!r}; "
                "allowed: a line for each class folder"
            )
    entries = [
        Entry(
            file=f"{folders[split]}/{class_folder}/{file}",
            split=split,
            label=label,
            class_name=names[class_folder],
        )
        for split, class_folders in inside.items()
        for label, class_folder in enumerate(classes)
        if class_folder in class_folders
        for file in _files(root / folders[split] / class_folder)
    ]
    return listing(dataset, root, entries, classes=[names[c] for c in classes])


def _with_val(entries: Iterable[Entry], train_only: frozenset[str]) -> Iterator[Entry]:
    """The entries, some training images of each class in val: those whose names hash lowest."""
    train: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.split != "train":
            yield entry
        else:
            train.setdefault(entry.label, []).append(entry)
    for members in train.values():
        free = sorted(
            (e for e in members if e.file not in train_only), key=lambda e: digest("val", e.file)
        )
        held_out = {e.file for e in free[: min(HELD_OUT, len(members) // 5)]}
        for entry in members:
            yield replace(entry, split="val") if entry.file in held_out else entry


def _names(path: Path) -> dict[str, str]:
    """Class folder to class name, of a names file."""
    parts = [line.partition("\t" if "\t" in line else " ") for line in read_lines(path)]
    return {class_folder: name for class_folder, _, name in parts}


def _files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
