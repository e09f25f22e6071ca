"""Datasets in folders: a folder per split and class, or of pictures without classes."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cluster.catalog.dataset import UNLABELLED
from cluster.catalog.listing import NEEDED, SPLITS, Entry, Listing, listing, split_of
from cluster.catalog.names import composed
from cluster.errors import ConfigError
from cluster.picture_files import is_hidden, picture_files
from cluster.storage import resolve
from cluster.text_files import read_lines

NAMES_FILE = "classnames.txt"
"""File beside a dataset's folders: per line a class folder, a space or a tab, its class name."""
_NONE: Mapping[str, str] = {}


def folder_listing(dataset: str, folder: str) -> Listing:
    """SPLIT/CLASS/file for every split, the classes in order of their folders' names.

    A class is called as its folder, or as NAMES_FILE says if there is one. Pictures in folders
    below a class's are the class's; a folder of validation images may be called validation, valid
    or dev. Raises ConfigError if a split's folder is missing, there twice, or holds the splits
    again.
    """
    root = Path(resolve(folder))
    folders = split_folders(root)
    for split in SPLITS:
        if split not in folders:
            raise ConfigError(
                f"folder: {folder!r} has no folder {split!r}; allowed: one with {', '.join(SPLITS)}"
            )
    return listing_of_folders(dataset, root, root / NAMES_FILE, folders)


def split_folders(root: Path) -> dict[str, str]:
    """Split to the folder of the root that holds it, also in another spelling.

    Raises ConfigError if two folders are one split.
    """
    folders: dict[str, str] = {}
    for name in sorted(entry.name for entry in _scanned(root) if entry.is_dir()):
        split = split_of(name)
        if split and (other := folders.setdefault(split, name)) != name:
            raise ConfigError(
                f"folder: {str(root)!r} has {other!r} and {name!r}, which are both {split}; "
                "allowed: one folder for each split"
            )
    return {split: folders[split] for split in SPLITS if split in folders}


def flat_listing(folder: str) -> Listing:
    """Every picture below a folder, as a training image without a class.

    Raises ConfigError if there is none.
    """
    root = Path(resolve(folder))
    files = picture_files(root)
    if not files.pictures:
        raise ConfigError(f"images: {folder!r} holds no picture; allowed: a folder of images")
    (concept,) = UNLABELLED
    entries = tuple(
        Entry(file=f, split="train", label=0, class_name=concept.name, group=concept.group)
        for f in files.pictures
    )
    return Listing(root, entries, UNLABELLED, {(concept.group, 0): 0}, files.unread)


def listing_of_folders(
    dataset: str,
    root: Path,
    names_file: Path,
    folders: Mapping[str, str],
    renamed: Mapping[str, str] = _NONE,
    names: Mapping[str, str] | None = None,
) -> Listing:
    """The listing of FOLDER/CLASS/…/file.

    folders: split to folder. renamed: class folder to class name, for those that no names file
    names. names: of all class folders, in the order of their labels, instead of the names file's.
    """
    unread = _unread_beside(root, {names_file.name, *folders.values()})
    pictures: dict[str, dict[str, list[str]]] = {}
    for split, folder in folders.items():
        pictures[split], unread_here = _class_pictures(root / folder)
        unread |= {f"{folder}/{file}": reason for file, reason in unread_here.items()}
    classes = sorted(set().union(*pictures.values()))
    if not classes:
        raise ConfigError(
            f"folder: {str(root)!r} has no class folder; allowed: SPLIT/CLASS/image files"
        )
    _require_no_splits(root, folders, classes)
    if names is None:
        class_names = _class_names(classes, names_file, renamed)
    else:
        _require_named(classes, names, names_file)
        classes = [class_folder for class_folder in names if class_folder in classes]
        class_names = [names[class_folder] for class_folder in classes]
    entries = [
        Entry(file=f"{folders[split]}/{file}", split=split, label=label, class_name=class_name)
        for split, by_class in pictures.items()
        for label, (class_folder, class_name) in enumerate(zip(classes, class_names, strict=True))
        for file in by_class.get(class_folder, ())
    ]
    return listing(
        dataset,
        root,
        entries,
        classes=class_names,
        unread=unread,
        may_link=folders.values(),
        needs=tuple(split for split in NEEDED if split in folders),
    )


def _class_pictures(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Class folder to its pictures, CLASS/…/file, of a split's folder, and what else is in there.

    A class folder without a picture is one of them.
    """
    files = picture_files(folder)
    unread = dict(files.unread)
    by_class: dict[str, list[str]] = {
        name: []
        for name in (entry.name for entry in _scanned(folder) if entry.is_dir())
        if _readable(name) == name and name not in unread
    }
    for file in files.pictures:
        class_folder, _, rest = file.partition("/")
        if rest:
            by_class[class_folder].append(file)
        else:
            unread[file] = "in no class's folder"
    return by_class, unread


def _class_names(classes: Sequence[str], names_file: Path, renamed: Mapping[str, str]) -> list[str]:
    """What the classes of these folders are called. ConfigError if a names file lacks one."""
    if not names_file.exists():
        return [renamed.get(class_folder, class_folder) for class_folder in classes]
    names = names_of_folders(names_file)
    _require_named(map(composed, classes), names, names_file)
    return [names[composed(class_folder)] for class_folder in classes]


def _require_named(classes: Iterable[str], names: Mapping[str, str], names_file: Path) -> None:
    for class_folder in classes:
        if class_folder not in names:
            raise ConfigError(
                f"folder: {class_folder!r} is not in {str(names_file)!r}; "
                "allowed: a line for each class folder"
            )


def _unread_beside(root: Path, known: set[str]) -> dict[str, str]:
    """What lies in a dataset's folder beside what is read, and why that is not read."""
    return {
        _readable(entry.name): (
            "hidden" if is_hidden(entry.name) else "beside the folders of the splits"
        )
        for entry in _scanned(root)
        if entry.name not in known
    }


def _require_no_splits(root: Path, folders: Mapping[str, str], classes: Iterable[str]) -> None:
    """ConfigError if a split's folder holds the splits once more, which would be taken for classes.

    A class may be called "train" where its folder holds pictures.
    """
    for folder in folders.values():
        for name in classes:
            inner = root / folder / name
            if split_of(name) and inner.is_dir() and not any(e.is_file() for e in _scanned(inner)):
                raise ConfigError(
                    f"folder: {str(inner)!r} is called as a split and holds folders alone; "
                    "allowed: SPLIT/CLASS/image files"
                )


def names_of_folders(path: Path) -> dict[str, str]:
    """Class folder (NFC) to class name, of a names file. ConfigError if it names a folder twice."""
    lines = read_lines(path, "folder")
    parts = [line.partition("\t" if "\t" in line else " ") for line in lines]
    names: dict[str, str] = {}
    for class_folder, _, name in parts:
        if composed(class_folder) in names:
            raise ConfigError(
                f"folder: {str(path)!r} names {class_folder!r} twice; allowed: a line for each "
                "class folder"
            )
        names[composed(class_folder)] = name
    return names


def _readable(name: str) -> str:
    """A file's name as text, bytes that are no UTF-8 written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing if it is none. ConfigError if it may not be read."""
    try:
        return list(os.scandir(folder)) if folder.is_dir() else []
    except OSError as error:
        raise ConfigError(
            f"folder: {str(folder)!r} cannot be read ({error.strerror}); allowed: a folder that "
            "this user may read"
        ) from error
