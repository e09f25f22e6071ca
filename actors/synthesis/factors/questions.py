"""What a language model is asked about the classes of a dataset: lists of factors, and captions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from actors.synthesis.factors.answers import COUNTS, WORDS
from actors.synthesis.factors.drawing import MODE_LISTS
from actors.synthesis.factors.tables import MODES, one_line
from cluster.catalog.dataset import Dataset
from cluster.rows import row_id, row_rng

RECIPE = "asked-2"
"""Names how factors are asked; part of every question's identity."""
EXAMPLES = 10
"""Captions per class and mode. Source: ImagineFSL."""
SAMPLED_NAMES = 12
"""Class names in a question about a whole dataset."""

SubjectName = Literal["object", "action", "aerial", "scene", "texture"]
Question = dict[str, Any]
"""A row: `question` (its identity), `dataset`, `class_name` ("" for a whole dataset), `kind` (one
of `actors.synthesis.factors.tables.LISTS`, or "example"), `mode` (of an example, else ""), `index`,
`prompt`."""


@dataclass(frozen=True)
class Subject:
    """How questions speak of a dataset's pictures; {name} is a class, {hint} what classes are."""

    one: str
    """The pictures of one class."""
    all: str
    """The pictures of all classes."""
    asked: dict[str, tuple[str, str]]
    """List to what it is, and phrases that show its form."""


_BACKGROUNDS = {
    "backgrounds": (
        "surroundings in which such pictures are taken, the most frequent first",
        "in a meadow; on a kitchen table; in front of a brick wall",
    )
}
_VIEWPOINTS = {
    "viewpoints": (
        "positions of the camera and framings that suit such pictures",
        "seen from above; as a close-up; from far away",
    )
}
_LIGHTS_AND_FLAWS = {
    "lightings": (
        "conditions of light: weather, time of day, lamps",
        "at dusk; in the light of a candle; under an overcast sky",
    ),
    "degradations": (
        "flaws that a camera or a file can give to such a picture",
        "with film grain; slightly out of focus; overexposed",
    ),
}

SUBJECTS: dict[str, Subject] = {
    "object": Subject(
        'photos of a "{name}" (a kind of {hint})',
        "photos of one {hint} each",
        {
            "attributes": (
                "looks it can have: colours, size, age, material, pattern, shape, pose, number",
                "dark brown; with a torn edge; two of them side by side",
            ),
            **_BACKGROUNDS,
            **_VIEWPOINTS,
            **_LIGHTS_AND_FLAWS,
        },
    ),
    "action": Subject(
        'photos of people in the midst of the activity "{name}"',
        "photos of people in the midst of an activity",
        {
            "attributes": (
                "ways it can look: how many people, their age and clothes, what they hold, which "
                "moment of the movement",
                "two children; in a red jersey; at the end of the jump",
            ),
            **_BACKGROUNDS,
            **_VIEWPOINTS,
            **_LIGHTS_AND_FLAWS,
        },
    ),
    "aerial": Subject(
        'satellite images of land of the kind "{name}"',
        "satellite images of land, one kind of land cover each",
        {
            "attributes": (
                "ways such land can look from above: colours, season, outlines, density, what "
                "adjoins it",
                "pale green; in the dry season; with straight edges",
            ),
            "viewpoints": (
                "heights and angles from which such images are taken, and how much land they show",
                "straight from above; at a slant; covering a wide region",
            ),
        },
    ),
    "scene": Subject(
        'photos of a place of the kind "{name}"',
        "photos of one kind of place each, indoors and outdoors",
        {
            "attributes": (
                "ways such a place can look: size, age, style, furniture or plants, weather, who "
                "is there",
                "small and crowded; with old furniture; after the rain",
            ),
            **_VIEWPOINTS,
            **_LIGHTS_AND_FLAWS,
        },
    ),
    "texture": Subject(
        'close photos of a surface whose texture is "{name}"',
        "close photos of surfaces, one sort of texture each",
        {
            "attributes": (
                "materials and things with this texture, and its colours, fineness and regularity",
                "of dark wood; fine and regular; on a woollen cloth",
            ),
            **_VIEWPOINTS,
        },
    ),
}
"""What is asked follows the recipes of ImagineFSL: scenes (SUN) have no backgrounds, textures (DTD)
and aerial images (EuroSAT) have captions of mode Base alone."""
_NOTE_NAMES = {
    "attributes": "look",
    "viewpoints": "viewpoint",
    "backgrounds": "background",
    "lightings": "light",
    "degradations": "flaw of the picture",
}


def list_questions(
    dataset: Dataset, subject: str, backgrounds_per: Literal["class", "dataset"]
) -> list[Question]:
    """The first pass: attributes (and backgrounds) of each class, and what the classes share."""
    per_class = {"attributes"} | ({"backgrounds"} if backgrounds_per == "class" else set())
    asked = SUBJECTS[subject].asked
    names = [concept.name for concept in dataset.concepts]
    return [
        _question(dataset.name, name, kind, prompt=_list_prompt(dataset, name, subject, kind))
        for kind in asked
        for name in (names if kind in per_class else [""])
    ]


def example_questions(row: Mapping[str, Any], subject: str) -> list[Question]:
    """The second pass, for one class: EXAMPLES captions in each mode that its lists allow.

    row: of `actors.synthesis.factors.tables.CLASSES_SCHEMA`; its factors are drawn by the
    question's identity.
    """
    questions = []
    for mode in MODES:
        if mode != "Base" and not row[MODE_LISTS[mode][-1]]:
            continue
        for index in range(EXAMPLES):
            question = _question(row["dataset"], row["class_name"], "example", mode, index)
            rng = row_rng(question["question"], "factors")
            factors = {
                name: str(rng.choice(row[name]))
                for name in ("attributes", "viewpoints", *MODE_LISTS[mode])
                if row[name]
            }
            questions.append(question | {"prompt": _example_prompt(row, subject, factors)})
    return questions


def identity(question: Mapping[str, Any], round_: int) -> str:
    """Identity of a question when it is asked again; `question["question"]` in round 0."""
    return row_id(
        question["dataset"],
        question["class_name"],
        question["index"],
        round_,
        f"{RECIPE} {question['kind']} {question['mode']}",
    )


def _question(
    dataset: str, class_name: str, kind: str, mode: str = "", index: int = 0, prompt: str = ""
) -> Question:
    question: Question = {
        "dataset": dataset,
        "class_name": class_name,
        "kind": kind,
        "mode": mode,
        "index": index,
        "prompt": prompt,
    }
    return {"question": identity(question, 0)} | question


def _list_prompt(dataset: Dataset, class_name: str, subject: str, kind: str) -> str:
    words, hint = SUBJECTS[subject], one_line(dataset.hint)
    if class_name:
        pictures = words.one.format(name=one_line(class_name), hint=hint)
    else:
        names = [one_line(concept.name) for concept in dataset.concepts]
        rng = row_rng(row_id(dataset.name, "", 0, 0, RECIPE), "names")
        sample = rng.choice(names, size=min(SAMPLED_NAMES, len(names)), replace=False)
        quoted = ", ".join(f'"{name}"' for name in sample)
        pictures = f"{words.all.format(hint=hint)} ({quoted})"
    what, form = words.asked[kind]
    fewest, most = COUNTS[kind]
    number = str(most) if fewest == most else f"{fewest} to {most}"
    return (
        f"Think of {pictures}.\n"
        f"List {number} different {what}.\n"
        "Each is an English phrase of one to eight words that can be put behind a comma in a "
        f"caption, in the form of: {form}. It does not repeat what the picture is of.\n"
        f'Answer with JSON and nothing else: {{"{kind}": ["...", "..."]}}'
    )


def _example_prompt(row: Mapping[str, Any], subject: str, factors: Mapping[str, str]) -> str:
    name = one_line(row["class_name"])
    pictures = SUBJECTS[subject].one.format(name=name, hint=one_line(row["hint"]))
    notes = "\n".join(
        f'- {_NOTE_NAMES[kind]}: "{one_line(phrase)}"' for kind, phrase in factors.items()
    )
    return (
        f"Write the caption of one picture from a set of {pictures}.\n"
        f'It is one English sentence of at most {WORDS} words, contains "{name}" as it is written '
        "here, says what can be seen, and works in these notes:\n"
        f"{notes}\n"
        'Answer with JSON and nothing else: {"caption": "..."}'
    )
