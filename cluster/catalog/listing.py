"""What a dataset's folder says before an image is opened: files, classes, splits, captions."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from cluster.catalog.dataset import Concept
from cluster.catalog.names import shown_name
from cluster.errors import ConfigError
from cluster.rows import digest

SPLITS = ("train", "val", "test")
_SPELLINGS = {"validation": "val", "valid": "val", "dev": "val"}
NEEDED = ("train", "test")
"""Splits in which every class must have an image."""
MISSING = -1
"""Size of what is no regular file or not there."""


def split_of(name: str | None) -> str | None:
    """The split that a folder or a column calls so, in either case; None if it is none."""
    spelling = (name or "").strip().casefold()
    split = _SPELLINGS.get(spelling, spelling)
    return split if split in SPLITS else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One image of a split file or folder."""

    file: str
    """Path relative to the listing's root, with "/"."""
    split: str
    label: int
    """Number of its class, as the source counts the classes of the group."""
    class_name: str
    """Name of its class, as the source writes it."""
    group: str = "IP"
    place: int | None = None
    """Line of its split in the split file, from 0; None where there is none, so no order."""
    caption: str | None = None


@dataclass(frozen=True)
class Listing:
    """Entries under one root; their classes in order of the dataset's labels."""

    root: Path
    entries: tuple[Entry, ...]
    concepts: tuple[Concept, ...]
    labels: dict[tuple[str, int], int]
    """(group, label of the source) to label, which is the place among the concepts."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """What lies in the folder and is no entry, and why: it is not read, and counts as rejected."""
    may_link: tuple[str, ...] = ()
    """Folders of the root that may be links to elsewhere, such as those of its splits."""
    needs: tuple[str, ...] = NEEDED
    """Splits in which every class must have an image."""

    def path(self, entry: Entry) -> Path | None:
        """Path of an entry's image; None if its name or a link leads out of the root."""
        relative = PurePosixPath(entry.file)
        if relative.is_absolute() or ".." in relative.parts or "\0" in entry.file:
            return None
        path = self.root / relative
        folder = str(path.parent)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._real_folders[folder], path.name)
        if os.path.islink(path):
            real = os.path.realpath(path)
        return path if any(real.startswith(home) for home in self._homes) else None

    @cached_property
    def _homes(self) -> list[str]:
        places = [self.root, *(self.root / folder for folder in self.may_link)]
        return [os.path.join(os.path.realpath(place), "") for place in places]

    @cached_property
    def _real_folders(self) -> dict[str, str]:
        return {}

    @cached_property
    def sizes(self) -> list[int]:
        """Bytes of each entry's file, MISSING for what is none."""
        return [self._size(entry) for entry in self.entries]

    @cached_property
    def content_hash(self) -> str:
        """Hash over classes, entries, sizes of files, and what is not read.

        What is in the files is not hashed: a dataset of a million images is not read twice.
        """
        fields = [repr((c.name, c.group)) for c in self.concepts]
        for entry, size in zip(self.entries, self.sizes, strict=True):
            label = self.labels[entry.group, entry.label]
            identity = (entry.file, entry.split, label, entry.place, entry.caption, size)
            fields.append(repr(identity))
        fields += map(repr, self.unread.items())
        return digest(*fields).hex()

    def _size(self, entry: Entry) -> int:
        path = self.path(entry)
        try:
            status = os.stat(path) if path else None
        except OSError:
            return MISSING
        return status.st_size if status and stat.S_ISREG(status.st_mode) else MISSING


def listing(
    dataset: str,
    root: Path,
    entries: Iterable[Entry],
    *,
    classes: Iterable[str] = (),
    by_name: bool = False,
    unread: Mapping[str, str] | None = None,
    may_link: Iterable[str] = (),
    needs: tuple[str, ...] = NEEDED,
) -> Listing:
    """Entries in order, their classes numbered.

    classes: names by label where the source has a list of them, with or without images. by_name:
    classes in order of their names, as a joint label space has them; else in the order of the
    source's labels. Two labels of one name stay two classes, of one group or of two. unread,
    may_link and needs: see `Listing`.
    Raises ConfigError if a label has two names or none, or a class no image in a needed split.
    """
    ordered = tuple(entries)
    names = {("IP", label): name for label, name in enumerate(classes)}
    for entry in ordered:
        known = names.setdefault((entry.group, entry.label), entry.class_name)
        if known != entry.class_name:
            raise ConfigError(
                f"dataset {dataset}: label {entry.label} is {known!r} and {entry.class_name!r}; "
                "allowed: one class name per label"
            )
    display_names = {key: shown_name(name) for key, name in names.items()}
    order = sorted(display_names, key=lambda key: (display_names[key], *key) if by_name else key)
    for key in order:
        if not display_names[key]:
            raise ConfigError(
                f"dataset {dataset}: label {key[1]} has the class name {names[key]!r}; "
                "allowed: a name with letters"
            )
    concepts = tuple(Concept(display_names[key], key[0]) for key in order)
    labels = {key: i for i, key in enumerate(order)}
    result = Listing(root, ordered, concepts, labels, unread or {}, tuple(may_link), needs)
    pairs = {(entry.group, entry.label, entry.split) for entry in ordered}
    require_images(
        dataset,
        concepts,
        {(result.labels[group, label], split) for group, label, split in pairs},
        needs,
    )
    return result


def require_images(
    dataset: str,
    concepts: Iterable[Concept],
    pairs: set[tuple[int, str]],
    needs: Sequence[str] = NEEDED,
) -> None:
    """ConfigError if a class lacks a needed split; pairs: (label, split) that have an image."""
    for label, concept in enumerate(concepts):
        for split in needs:
            if (label, split) not in pairs:
                raise ConfigError(
                    f"dataset {dataset}: class {concept.name!r} has 0 readable images in "
                    f"{split!r}; allowed: at least 1"
                )
