"""What a language model is asked for factors and example captions, and what counts as an answer."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from actors.endpoint import AnswerError
from actors.factor_tables import LISTS, MODES, clean_phrases
from cluster.catalog.dataset import Dataset
from cluster.rows import row_id, row_rng

RECIPE = "asked-1"
"""Names how factors are asked; part of every row's id."""
SubjectName = Literal["object", "action", "aerial", "scene", "texture"]
ATTRIBUTES = 20
EXAMPLES = 10
"""Captions per class and mode. Source of both: ImagineFSL."""
WORDS = 35
"""At most, of an example caption. Source: ImagineFSL."""
COUNTS = {
    "attributes": (ATTRIBUTES, ATTRIBUTES),
    "backgrounds": (8, 20),
    "viewpoints": (3, 12),
    "lightings": (10, 24),
    "degradations": (6, 14),
}
"""At least and at most so many phrases. Our choice but for attributes; ImagineFSL's lists have 10
to 22 backgrounds, 1 to 33 viewpoints, 44 lightings and 13 degradations."""
SAMPLED_NAMES = 12
"""Class names in a question about a whole dataset."""
MODE_LISTS = {
    "Base": (),
    "BG": ("backgrounds",),
    "LC": ("backgrounds", "lightings"),
    "CD": ("backgrounds", "degradations"),
}
"""What an example of a mode tells beside an attribute and a viewpoint."""

# Latin letters with any accent, digits, and what stands between words. Without signs such as © and
# €, nearly all text that was decoded wrongly ("cafÃ©", "doesnâ€™t") is refused. Lengths are in the
# patterns, as xgrammar, behind vLLM, takes a pattern or a maxLength, not both.
_LETTER = "[A-Za-z0-9À-ÖØ-öø-ɏḀ-ỿ]"
_GAP = "[ ,.;:!?%+'’“”()/&–—-]"
_TEXT = _LETTER[:-1] + _GAP[1:]
_PHRASE = f"^{_LETTER}{_TEXT}{{1,59}}$"
_BEFORE_NAME, _AFTER_NAME = 120, 200  # characters


@dataclass(frozen=True)
class Subject:
    """How questions speak of one sort of dataset. {name} is a class, {hint} what classes are."""

    one: str
    """A picture of one class."""
    all: str
    """The pictures of all classes."""
    attributes: str
    """What attributes are."""
    lists: tuple[str, ...] = LISTS
    """What is asked. Source: the recipes of ImagineFSL (SUN has no backgrounds, DTD and EuroSAT
    have nothing but attributes and viewpoints)."""


SUBJECTS: dict[str, Subject] = {
    "object": Subject(
        'photos of a "{name}" (a kind of {hint})',
        "photos of one {hint} each",
        "looks it can have: colours, size, age, material, pattern, shape, pose, number",
    ),
    "action": Subject(
        'photos of people in the midst of the activity "{name}"',
        "photos of people in the midst of an activity",
        "ways it can look: how many people, their age and clothes, what they hold, which moment of "
        "the movement",
    ),
    "aerial": Subject(
        'satellite images of land of the kind "{name}"',
        "satellite images of land, one kind of land cover each",
        "ways such land can look from above: colours, season, outlines, density, what adjoins it",
        ("attributes", "viewpoints"),
    ),
    "scene": Subject(
        'photos of a place of the kind "{name}"',
        "photos of places, indoors and outdoors",
        "ways such a place can look: size, age, style, furniture or plants, weather, who is there",
        ("attributes", "viewpoints", "lightings", "degradations"),
    ),
    "texture": Subject(
        'close photos of a surface whose texture is "{name}"',
        "close photos of surfaces, one sort of texture each",
        "materials and things with this texture, and its colours, fineness and regularity",
        ("attributes", "viewpoints"),
    ),
}

# What a list is, and phrases that show its form.
_ASKED = {
    "attributes": ("{attributes}", "with a torn edge; dark brown; two of them side by side"),
    "backgrounds": (
        "surroundings in which such pictures are taken, the most frequent first",
        "in a meadow; on a kitchen table; in front of a brick wall",
    ),
    "viewpoints": (
        "positions of the camera and framings that suit such pictures",
        "seen from above; as a close-up; from far away",
    ),
    "lightings": (
        "conditions of light: weather, time of day, lamps",
        "at dusk; in the light of a candle; under an overcast sky",
    ),
    "degradations": (
        "flaws that a camera or a file can give to a picture",
        "with film grain; slightly out of focus; overexposed",
    ),
}
_TOLD = {
    "attributes": "look",
    "viewpoints": "viewpoint",
    "backgrounds": "background",
    "lightings": "light",
    "degradations": "flaw of the picture",
}

Question = dict[str, Any]
"""A row: `question` (its identity), `dataset`, `class_name` ("" for a whole dataset), `kind` (one
of LISTS, or "example"), `mode` (of an example, else ""), `index`, `prompt`."""


def list_questions(
    dataset: Dataset, subject: str, backgrounds_per: Literal["class", "dataset"]
) -> list[Question]:
    """The first pass: attributes (and backgrounds) of each class, and what the classes share."""
    per_class = {"attributes"} | ({"backgrounds"} if backgrounds_per == "class" else set())
    asked = SUBJECTS[subject].lists
    names = [concept.name for concept in dataset.concepts]
    return [
        _question(dataset.name, name, kind, prompt=_list_prompt(dataset, name, subject, kind))
        for kind in asked
        for name in (names if kind in per_class else [""])
    ]


def example_questions(row: Mapping[str, Any], subject: str) -> list[Question]:
    """The second pass, for one class: EXAMPLES captions in each mode that its lists allow.

    row: of `actors.factor_tables.CLASSES_SCHEMA`; its factors are drawn by the question's identity.
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
    what, form = _ASKED[kind]
    fewest, most = COUNTS[kind]
    number = str(most) if fewest == most else f"{fewest} to {most}"
    return (
        f"Think of {pictures}.\n"
        f"List {number} different {what.format(attributes=words.attributes)}.\n"
        "Each is an English phrase of one to eight words that can be put behind a comma in a "
        f"caption, in the form of: {form}. It does not repeat what the picture is of.\n"
        f'Answer with JSON and nothing else: {{"{kind}": ["...", "..."]}}'
    )


def _example_prompt(row: Mapping[str, Any], subject: str, factors: Mapping[str, str]) -> str:
    name = one_line(row["class_name"])
    pictures = SUBJECTS[subject].one.format(name=name, hint=one_line(row["hint"]))
    notes = "\n".join(f'- {_TOLD[kind]}: "{one_line(said)}"' for kind, said in factors.items())
    return (
        f"Write the caption of one picture from a set of {pictures}.\n"
        f'It is one English sentence of at most {WORDS} words, contains "{name}" as it is written '
        "here, says what can be seen, and works in these notes:\n"
        f"{notes}\n"
        'Answer with JSON and nothing else: {"caption": "..."}'
    )


def one_line(text: str) -> str:
    """Outside text as a part of a prompt: in one line, without control characters (also those that
    turn the direction of writing), and without a quotation mark that would end its own."""
    kept = (
        " " if character.isspace() else character
        for character in unicodedata.normalize("NFC", text)
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    return " ".join("".join(kept).split()).replace('"', "'").replace("\\", "/")


def answer_schema(kind: str, class_name: str) -> dict[str, Any]:
    """JSON schema of an answer: {kind: phrases}, or {"caption": text that names the class}.

    A server with structured outputs can then give no other answer.
    """
    if kind == "example":
        properties: dict[str, Any] = {
            "caption": {"type": "string", "pattern": _caption_pattern(class_name)}
        }
    else:
        fewest, most = COUNTS[kind]
        phrase = {"type": "string", "pattern": _PHRASE}
        properties = {
            kind: {"type": "array", "items": phrase, "minItems": fewest, "maxItems": most}
        }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_answer(text: str, kind: str, class_name: str) -> list[str]:
    """The phrases of an answer, or its one caption: clean (`clean_phrases`), and valid.

    Phrases beyond what was asked for are cut off. Raises AnswerError.
    """
    fenced = re.fullmatch(r"\s*```(?:json)?(.*)```\s*", text, re.DOTALL)
    schema = Draft202012Validator(answer_schema(kind, class_name))
    try:
        answer = _clean(json.loads(fenced[1] if fenced else text))
        error = best_match(schema.iter_errors(answer))
    except (ValueError, RecursionError):  # the second: thousands of brackets
        raise AnswerError("not JSON") from None
    if error is None:
        phrases = [answer["caption"]] if kind == "example" else answer[kind]
        if kind == "example" and len(phrases[0].split()) > WORDS:
            raise AnswerError(f"more than {WORDS} words")
        return phrases
    if error.validator == "minItems":
        raise AnswerError("too few different phrases")
    if error.validator != "pattern":
        raise AnswerError("not the JSON that was asked for")
    if kind == "example" and not _names(error.instance, one_line(class_name)):
        raise AnswerError("does not name the class")
    raise AnswerError("text with odd characters, too short or too long")


def _clean(answer: Any) -> Any:
    """The answer with clean texts and no more of them than were asked for; other things as they
    are."""
    if not isinstance(answer, dict):
        return answer
    cleaned = dict(answer)
    for field, value in answer.items():
        if isinstance(value, str):
            cleaned[field] = " ".join(clean_phrases([value]))
        elif isinstance(value, list) and all(isinstance(text, str) for text in value):
            cleaned[field] = clean_phrases(value)[: COUNTS[field][1] if field in COUNTS else None]
    return cleaned


def _caption_pattern(class_name: str) -> str:
    """Text around the name, whatever the case of its letters."""
    name = "".join(_either_case(character) for character in one_line(class_name))
    before = f"({_LETTER}{_TEXT}{{0,{_BEFORE_NAME - 2}}}{_GAP})?"
    after = f"({_GAP}{_TEXT}{{0,{_AFTER_NAME - 1}}})?"
    return f"^{before}{name}{after}$"


def _either_case(character: str) -> str:
    cases = {character.lower(), character.upper()}
    if len(cases) == 2 and all(len(case) == 1 for case in cases):
        return f"[{''.join(sorted(cases))}]"
    return re.sub(r"[.^$*+?()[\]{}|/]", r"\\\g<0>", character)


def _names(caption: str, name: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", caption, re.IGNORECASE))
