"""Images that are not where the source says: which path was tried, and where they may be."""

import os
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from cluster.catalog.listing import MISSING, Listing
from cluster.errors import ConfigError

FOLDERS_LOOKED_INTO = 5_000


def require_files(dataset: str, listing: Listing, field: str) -> None:
    """ConfigError if a class has no file in a split that it needs; no file is opened.

    It names the first path that was tried in vain, how many there are, and, if a folder near it
    holds the images, that folder. field: the setting that says where the images are.
    """
    files: Counter[tuple[int, str]] = Counter()
    for entry, size in zip(listing.entries, listing.sizes, strict=True):
        files[listing.labels[entry.group, entry.label], entry.split] += size != MISSING
    lacking = sorted(
        pair for pair, count in files.items() if pair[1] in listing.needs and not count
    )
    if not lacking:
        return
    label, split = lacking[0]
    first = next(
        entry
        for entry in listing.entries
        if (listing.labels[entry.group, entry.label], entry.split) == (label, split)
    )
    place = likely_folder(listing.root, first.file)
    likely = f"; likely folder: {str(place)!r}" if place else ""
    raise ConfigError(
        f"dataset {dataset}: class {listing.concepts[label].name!r} has 0 readable images in "
        f"{split!r}; {listing.sizes.count(MISSING)} of all {len(listing.entries)} images are not "
        f"there, tried was {str(listing.root / first.file)!r}{likely}; allowed: images where the "
        f"source under {field} says"
    )


def likely_folder(root: Path, file: str) -> Path | None:
    """The folder near the root that holds the file, or holds it without its first folders.

    Near: below the root's parent, or the parent of that; the nearest of FOLDERS_LOOKED_INTO.
    """
    parts = PurePosixPath(file).parts
    tails = [parts[i:] for i in range(max(1, len(parts) - 1))]
    for start in (root.parent, root.parent.parent):
        for folder in islice(_folders_below(start), FOLDERS_LOOKED_INTO):
            for tail in tails:
                if os.path.isfile(folder.joinpath(*tail)):
                    return folder
    return None


def _folders_below(start: Path) -> Iterator[Path]:
    """The folder and those below it, the highest first; links are not followed."""
    folders = deque([start])
    while folders:
        yield (folder := folders.popleft())
        try:
            with os.scandir(folder) as entries:
                inside = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:  # one that may not be read holds nothing for us
            continue
        folders.extend(folder / name for name in inside)
