"""What counts as a language model's answer to a question about factors."""

import json
import re
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from actors.synthesis.factors.tables import clean_phrases, one_line
from actors.synthesis.language_models.endpoint import AnswerError

COUNTS = {
    "attributes": (20, 20),
    "backgrounds": (8, 20),
    "viewpoints": (3, 12),
    "lightings": (10, 24),
    "degradations": (6, 14),
}
"""At least and at most so many phrases. Source: ImagineFSL for attributes; its other lists have 10
to 22 backgrounds, 1 to 33 viewpoints, 44 lightings and 13 degradations."""
WORDS = 35
"""At most, of an example caption. Source: ImagineFSL."""

# Latin letters with any accent, digits, and what stands between words. Without signs such as © and
# €, nearly all text that was decoded wrongly ("cafÃ©", "doesnâ€™t") is refused. Lengths are in the
# patterns, as xgrammar, behind vLLM, takes a pattern or a maxLength, not both.
_LETTER = "[A-Za-z0-9À-ÖØ-öø-ɏḀ-ỿ]"
_GAP = "[ ,.;:!?%+'’“”()/&–—-]"
_TEXT = _LETTER[:-1] + _GAP[1:]
_PHRASE = f"^{_LETTER}{_TEXT}{{1,59}}$"
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
