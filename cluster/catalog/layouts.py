"""The layouts of the benchmark sets: CoOp's, ImageNet's, its shifts', LAION-Beyond's."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cluster.catalog.benchmarks import BENCHMARKS, CoopSet, LaionSet, ShiftSet
from cluster.catalog.folders import (
    NAMES_FILE,
    listing_of_folders,
    names_of_folders,
    split_folders,
)
from cluster.catalog.index_files import label_of, part_of
from cluster.catalog.laion_beyond import GROUPS, laion_listing, laion_splits
from cluster.catalog.listing import SPLITS, Entry, Listing, listing
from cluster.errors import ConfigError
from cluster.rows import digest
from cluster.storage import resolve
from cluster.text_files import read_json, read_lines

HELD_OUT = 20
"""Training images per class of ImageNet that become val, and at most a fifth of them."""


def benchmark_listing(
    name: str, root: str, splits: Mapping[str, str | None], train_only: frozenset[str] = frozenset()
) -> Listing:
    """A set of BENCHMARKS under the root of all sets.

    splits: of LAION-Beyond, the groups that are wanted, both if there is none, to their split files
    relative to root; None: there is but one.
    train_only: training images that may not become val.
    Raises ConfigError on what is missing or broken.
    """
    benchmark = BENCHMARKS[name]
    if isinstance(benchmark, LaionSet):
        return laion_listing(name, benchmark, Path(resolve(root)), splits)
    if isinstance(benchmark, ShiftSet):
        return _shift(name, benchmark, Path(resolve(root)) / benchmark.folder)
    return _coop(name, benchmark, Path(resolve(root)) / benchmark.folder, train_only)


def is_there(name: str, root: str) -> bool:
    """Whether the root has a folder of this benchmark set."""
    benchmark = BENCHMARKS[name]
    if isinstance(benchmark, LaionSet):
        return any(laion_splits(benchmark, Path(resolve(root)), group) for group in GROUPS)
    return (Path(resolve(root)) / benchmark.folder).is_dir()


def _coop(name: str, benchmark: CoopSet, folder: Path, train_only: frozenset[str]) -> Listing:
    """CoOp's own layout if it is there, else plain folders."""
    images, index = folder / benchmark.images, folder / benchmark.index
    if benchmark.layout == "split" and index.is_file():
        return listing(name, images, _split_entries(index))
    if benchmark.layout == "lists" and index.is_file():
        classes = read_lines(index, "root")
        return listing(name, images, _list_entries(folder, classes), classes=classes)
    by_wnid = benchmark.layout == "wnids" and index.is_file()
    root = images if by_wnid and images.is_dir() else folder
    splits = split_folders(root)
    if by_wnid and splits.keys() == {"train", "val"}:
        # Its val is what everybody tests on, so val is held out of train.
        folders = {"train": splits["train"], "test": splits["val"]}
        plain = listing_of_folders(name, root, index, folders)
        return replace(plain, entries=tuple(_with_val(plain.entries, train_only)))
    if {"train", "test"} <= splits.keys() and (by_wnid or benchmark.layout != "wnids"):
        return listing_of_folders(name, root, folder / NAMES_FILE, splits, benchmark.renamed)
    raise ConfigError(
        f"root: {str(folder)!r} has no {benchmark.index!r} and no folders for all splits; "
        f"allowed: CoOp's layout of {name}, or SPLIT/CLASS/image files"
    )


def _shift(name: str, benchmark: ShiftSet, folder: Path) -> Listing:
    if not (folder / NAMES_FILE).is_file() or not (folder / benchmark.images).is_dir():
        raise ConfigError(
            f"root: {str(folder)!r} lacks {NAMES_FILE!r} or the folder {benchmark.images!r}; "
            f"allowed: CoOp's layout of {name}, with ImageNet's {NAMES_FILE}"
        )
    names = names_of_folders(folder / NAMES_FILE)
    if benchmark.numbered:
        names = {str(number): class_name for number, class_name in enumerate(names.values())}
    return listing_of_folders(
        name, folder, folder / NAMES_FILE, {"test": benchmark.images}, names=names
    )


def _split_entries(path: Path) -> Iterator[Entry]:
    """The entries of a `split_zhou_*.json`."""
    content = read_json(path, "root")
    for split in SPLITS:
        for place, entry in enumerate(part_of(content, split, list, path)):
            label = label_of(entry[1]) if isinstance(entry, list) and len(entry) == 3 else None
            match entry:
                case [str(file), _, str(class_name)] if label is not None:
                    yield Entry(
                        file=file, split=split, label=label, class_name=class_name, place=place
                    )
                case _:
                    raise ConfigError(
                        f"root: {str(path)!r} has {split} entry {place} {entry!r}; "
                        "allowed: [path, label, class name], the label a whole number, not a text"
                    )


def _list_entries(folder: Path, classes: list[str]) -> Iterator[Entry]:
    """The entries of `images_variant_*.txt`, per line an image's number and its variant."""
    label = {name: i for i, name in enumerate(classes)}
    for split in SPLITS:
        path = folder / f"images_variant_{split}.txt"
        for place, line in enumerate(read_lines(path, "root")):
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
