"""What counts as a language model's answer to a question about factors."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from actors.synthesis.factors.tables import clean_phrases, one_line
from actors.synthesis.language_models.answers import (
    AnswerError,
    json_values,
    names_class,
    plain_answer,
    speech,
    without_names,
)

COUNTS = {
    "attributes": (20, 20),
    "backgrounds": (8, 20),
    "viewpoints": (3, 12),
    "lightings": (10, 24),
    "degradations": (6, 14),
}
"""At least and at most so many phrases. Source: ImagineFSL for attributes; its other lists have 10
to 22 backgrounds, 1 to 33 viewpoints, 44 lightings and 13 degradations."""
ENOUGH = 0.5
"""Share of the fewest phrases that were asked for, with which a list is good."""
WORDS = 35
"""At most, of an example caption. Source: ImagineFSL."""
MOST_ITEMS, MOST_CHARACTERS = 1000, 300
"""Of a list, and of one item: what is beyond is not looked at."""

# Latin letters with any accent, digits, and what stands between words. Without signs such as © and
# €, nearly all text that was decoded wrongly ("cafÃ©", "doesnâ€™t") is refused. Lengths are in the
# patterns, as xgrammar, behind vLLM, takes a pattern or a maxLength, not both.
_LETTER = "[A-Za-z0-9À-ÖØ-öø-ɏḀ-ỿ]"
_GAP = "[ ,.;:!?%+'’“”()/&–—-]"
_TEXT = _LETTER[:-1] + _GAP[1:]
_PHRASE = f"^{_LETTER}{_TEXT}{{1,59}}$"
_BULLET = re.compile(r"\s*(?:[-*•–]|\(?\d{1,3}[.)])\s+(.*\S)")
_BEFORE_NAME, _AFTER_NAME = 100, 180  # characters


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

    JSON is found behind what the model thought, in fences and in prose; a list may stand alone or
    have bullets. A phrase that is none is left out, and what is beyond the number that was asked
    for. Raises AnswerError, also if less than half of the phrases that were asked for are left.
    """
    answer = plain_answer(text)
    if kind == "example":
        return [_caption(answer, class_name)]
    lists = phrase_lists(answer, kind)
    if not lists:
        raise AnswerError(_no_list(answer))
    fewest, most = COUNTS[kind]
    phrases = max(map(_phrases, lists), key=len)
    if not phrases and any(lists):
        raise AnswerError("text with odd characters, too short or too long")
    if len(phrases) < math.ceil(ENOUGH * fewest):
        raise AnswerError("too few different phrases")
    return phrases[:most]


def phrase_lists(answer: str, kind: str) -> list[list[Any]]:
    """All lists of this kind in an answer, each with at most MOST_ITEMS items of whatever type."""
    values = json_values(answer)
    lists = [value for value in values if isinstance(value, list)]
    for value in values:
        if isinstance(value, dict):
            fields = (value[field] for field in value if field.strip().casefold() == kind)
            lists += [field for field in fields if isinstance(field, list)]
    if not values:
        lines = [_BULLET.match(line) for line in answer.splitlines() if line.strip()][:MOST_ITEMS]
        if len(lines) > 1 and all(lines):
            lists.append([line[1] for line in lines if line])
    return [items[:MOST_ITEMS] for items in lists]


def _phrases(items: Sequence[Any]) -> list[str]:
    """The valid phrases among the items."""
    texts = [_BULLET.sub(r"\1", text, count=1) for text in items if isinstance(text, str)]
    texts = [text for text in texts if len(text) <= MOST_CHARACTERS]
    return [phrase for phrase in clean_phrases(texts) if re.fullmatch(_PHRASE, phrase)]


def _caption(answer: str, class_name: str) -> str:
    """The caption of an answer {"caption": …}. Raises AnswerError."""
    captions = [
        value[field]
        for value in json_values(answer)
        if isinstance(value, dict)
        for field in value
        if field.strip().casefold() == "caption"
    ]
    if not captions or not isinstance(captions[-1], str):
        raise AnswerError(_no_list(answer))
    caption = " ".join(clean_phrases([captions[-1][: 2 * MOST_CHARACTERS]]))
    name = one_line(class_name)
    if not names_class(caption, [name]):
        raise AnswerError("does not name the class")
    if not re.fullmatch(_caption_pattern(class_name), caption):
        raise AnswerError("text with odd characters, too short or too long")
    if reason := speech(without_names(caption, [name])):
        raise AnswerError(reason)
    if len(caption.split()) > WORDS:
        raise AnswerError(f"more than {WORDS} words")
    return caption


def _no_list(answer: str) -> str:
    """Why nothing could be read from an answer."""
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return "not the JSON that was asked for" if json_values(answer) else "not JSON"
    return "not the JSON that was asked for"


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
