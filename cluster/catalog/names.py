"""Class names: how they are shown, when two of them are one, and finding what was written for them.

A class is known by its label; a name may stand for several.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from cluster.errors import ConfigError

T = TypeVar("T")


def composed(text: str) -> str:
    """Unicode in composed form (NFC)."""
    return unicodedata.normalize("NFC", text)


def shown_name(name: str) -> str:
    """A class name as prompts have it: composed (NFC), on one line, an underscore as a space.

    Control characters and byte order marks are left out.
    """
    spaced = " ".join(composed(name).replace("_", " ").split())
    letters = (c for c in spaced if c != "\ufeff" and unicodedata.category(c) != "Cc")
    return " ".join("".join(letters).split())


def folded(name: str) -> str:
    """A name in lower case: CLIP reads names that are equal so as one."""
    return composed(shown_name(name).casefold())


def equal_names(names: Iterable[str]) -> list[list[int]]:
    """Places of names that are equal, or differ in case, composition or spaces alone.

    In order of the first place of each group.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        places[folded(name).replace(" ", "")].append(place)
    return [group for group in places.values() if len(group) > 1]


def told_apart(names: Mapping[int, str]) -> dict[int, str]:
    """Names by label as tables and figures show them: with the label where several have it."""
    classes = Counter(names.values())
    return {
        label: f"{name} [{label}]" if classes[name] > 1 else name for label, name in names.items()
    }


def by_names(names: Sequence[str], content: Mapping[str, T], where: str) -> list[T]:
    """What `content` has for each of these names.

    A key is found if it is the name (NFC); else by its letters in whatever case; else by its
    letters and digits alone, which have to be some. A key that is one name's is not found loosely
    by another. Raises ConfigError if several keys could be meant, several names could mean one key,
    or a name has none; where: the beginning of the message.
    """
    asked, keys = list(map(composed, names)), dict[str, str]()
    for alike in (composed, folded, _letters_and_digits):
        _find(asked, content, alike, keys, where)
    missing = [name for name in asked if name not in keys]
    if missing:
        raise ConfigError(
            f"{where} has none for {len(missing)} of {len(names)} classes, the first "
            f"{missing[0]!r}; allowed: prompts for every class"
        )
    return [content[keys[name]] for name in asked]


def _find(
    names: Sequence[str],
    content: Iterable[str],
    alike: Callable[[str], str],
    keys: dict[str, str],
    where: str,
) -> None:
    """Adds to `keys`, name to key, what is alike and not found yet."""
    taken = set(keys.values())
    candidates: dict[str, list[str]] = defaultdict(list)
    for key in content:
        if key not in taken:
            candidates[alike(key)].append(key)
    asking: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        if name not in keys:
            asking[alike(name)].append(name)
    for form, by_form in asking.items():
        matches = candidates.get(form, []) if form else []
        if len(matches) > 1 or (matches and len(by_form) > 1):
            raise ConfigError(
                f"{where} has {', '.join(map(repr, matches))} for "
                f"{', '.join(map(repr, by_form))}, equal but for case and signs; allowed: "
                "keys that are the classes' names"
            )
        if matches:
            keys[by_form[0]] = matches[0]


def _letters_and_digits(name: str) -> str:
    return "".join(character for character in folded(name) if character.isalnum())
