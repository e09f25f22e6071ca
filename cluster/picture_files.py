"""Which files of a folder are pictures, and what is not read of it and why."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FORMATS: Mapping[str, tuple[str, ...]] = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""The formats that are opened, by Pillow's names, and the suffixes of their files."""
SUFFIXES = tuple(sorted(suffix for suffixes in FORMATS.values() for suffix in suffixes))
SYSTEM_FOLDERS = {"@eaDir", "#recycle", "__MACOSX", "lost+found", "$RECYCLE.BIN"}
"""Folders that file servers and archivers leave behind, hidden by a name of their own."""
NAMES_SHOWN = 3


@dataclass(frozen=True)
class PictureFiles:
    """What a folder holds; paths are relative to it, with "/"."""

    pictures: tuple[str, ...]
    """In order."""
    unread: Mapping[str, str]
    """All else, each with the reason. A folder that is not looked into is one of them."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name belongs to a program, not to the user."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_picture(name: str) -> bool:
    """Whether a file's name ends as those of pictures do, in either case."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def picture_files(folder: str | os.PathLike[str]) -> PictureFiles:
    """The pictures below a local folder, at any depth, and what is there besides them.

    A file is judged by its name and not opened. Not read are hidden ones, other suffixes, what is
    no regular file, names that are no UTF-8, and links that lead out of the folder or to a folder
    around them; a link within the folder is read as what it leads to.
    """
    pictures: list[str] = []
    unread: dict[str, str] = {}
    for file, reason in _walk(Path(folder).resolve()):
        if reason:
            unread[file] = reason
        else:
            pictures.append(file)
    return PictureFiles(tuple(sorted(pictures)), dict(sorted(unread.items())))


def unread_line(unread: Mapping[str, str]) -> str:
    """How many files and folders were not read, with the first of each reason, in one line."""
    by_reason: dict[str, list[str]] = {}
    for file, reason in unread.items():
        by_reason.setdefault(reason, []).append(file)
    parts = [
        f"{', '.join(files[:NAMES_SHOWN])}{_more(files)} ({reason})"
        for reason, files in by_reason.items()
    ]
    return f"{len(unread)} not read: {'; '.join(parts)}"


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """Path and reason, empty for a picture, of all that is below the root."""
    folders = [("", False)]
    while folders:
        below, through_link = folders.pop()
        try:
            entries = list(os.scandir(root / below))
        except OSError as error:
            yield below, f"a folder that cannot be read ({error.strerror})"
            continue
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            reason = _unread(root, path, entry, through_link)
            if not reason and entry.is_dir():
                folders.append((path, through_link or entry.is_symlink()))
            else:
                yield os.fsencode(path).decode("utf-8", "backslashreplace"), reason


def _unread(root: Path, path: str, entry: os.DirEntry[str], through_link: bool) -> str:
    """Why an entry is not read; empty for a folder that is looked into and for a picture."""
    if not _is_utf8(entry.name):
        return "a name that is not UTF-8"
    if is_hidden(entry.name):
        return "hidden"
    if entry.is_symlink() and (reason := _unfollowed(root, root / path, through_link)):
        return reason
    if entry.is_dir():
        return ""
    if not is_picture(entry.name):
        suffix = os.path.splitext(entry.name)[1].lower()
        return f"no picture by the suffix {suffix!r}" if suffix else "no picture: without a suffix"
    return "" if entry.is_file() else "no regular file"


def _unfollowed(root: Path, link: Path, through_link: bool) -> str:
    """Why a link is not followed.

    One behind another linked folder is not, so that links to each other have an end.
    """
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # the second: a link to itself, in Python 3.12 and before
        return "a link to nothing"
    if not target.is_relative_to(root):
        return "a link that leads out of the folder"
    if target.is_dir() and (through_link or link.is_relative_to(target)):
        return "a link to a folder around it or behind another link"
    return ""


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _more(files: list[str]) -> str:
    return f", and {len(files) - NAMES_SHOWN} more" if len(files) > NAMES_SHOWN else ""
