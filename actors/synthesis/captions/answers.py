"""The caption in a language model's answer: the line that is one, or why none is.

A caption is one line that names its class, tells something of it, and holds nothing but text about
a picture. A model is asked again for what is refused, so a rule may rather refuse too much.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from actors.synthesis.language_models.answers import (
    AnswerError,
    has_odd_characters,
    json_values,
    names_class,
    plain_answer,
    refuses,
    speech,
    without_names,
)

FEWEST_WORDS = 3
"""Of a caption, its class's name and articles among them."""
MOST_LINES, MOST_CHARACTERS = 50, 1000
"""Lines of an answer among which the caption is looked for, and characters of one."""
_ARTICLES = frozenset({"a", "an", "the"})
_SHORT_SENTENCE = 5
"""Words at most, of a sentence such as "Of course!" in front of a caption."""

_INLINE_TAG = re.compile(
    r"(?i)</?(?:a|b|big|code|em|font|i|mark|small|span|strong|sub|sup|u)(?:\s[^<>]{0,200})?>"
)
_TAG = re.compile(r"</?[A-Za-z][\w-]{0,30}(?:\s[^<>]{0,200})?/?>")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~).*$", re.MULTILINE)
_EMPHASIS = re.compile(
    r"(?<!\w)(\*{1,3}|_{1,3}|~~|`+)(?=\S)([^\n]{1,500}?)(?<=\S)\1(?=[\s.,:;!?\"'”’)]|$)"
)
_BULLET = re.compile(r"\s*(?:[-*+•‣◦·–—>]+\s*|#{1,6}\s+|\(?(?:\d{1,3}|[A-Za-z])[.)]\s+|[①-⑳]\s*)")
_NUMBER = re.compile(r"\s*\(?\d{1,3}[.)]\s")
_NEXT_NUMBER = re.compile(r"\s\(?\d{1,3}[.)]\s+(?=\S)")
_COLON = re.compile(r":(?=[\s\"'“”‘«»„「『*_])|：")
_OPENER = re.compile(
    r"(?i)(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|great|yes|gladly"
    r"|bien sûr|natürlich|gerne|klar|claro|por supuesto|certo|certamente|oczywiście|конечно)"
    r"\s*[!.,:…]+\s*"
)
_SENTENCE = re.compile(r"(?<=[.!?…。！])\s+")
_OPENING = "\"'“”‘«»„「『"
_CLOSING = "\"'“”’»«」』"
_QUOTED = re.compile(r"[\"“”«»„「『]\s*([^\"“”«»„「」『』]+)[\"“”«»」』]")
_JSON = re.compile(r"^\s*[\[{]|\{\s*[\"']", re.MULTILINE)
_MARKUP = re.compile(r"[<>{}\[\]|\\`]|\*\*|https?:|www\.")


def read_caption(answer: str, names: Sequence[str]) -> tuple[str, str]:
    """The caption of an answer, composed (NFC), and why it is refused ("" if it is fine).

    It is the first line that is fine; a line with a label ("Caption: …") goes first. If there is
    none, the line comes back that is nearest to one, and its reason; a line that does not name the
    class has no reason here. names: the class's name and its synonyms.
    """
    names = [unicodedata.normalize("NFC", name) for name in names]
    try:
        text = unicodedata.normalize("NFC", plain_answer(answer))
    except AnswerError as error:
        return "", str(error)
    lines = list(dict.fromkeys(_candidates(text, names)))
    willing = takewhile(lambda line: not refuses(without_names(line, names)), lines)
    for line in willing:
        if names_class(line, names) and not unfit(line, names):
            return line, ""
    naming = [line for line in lines if names_class(line, names)]
    return (naming[0], unfit(naming[0], names)) if naming else ((lines or [""])[0], "")


def unfit(line: str, names: Sequence[str]) -> str:
    """Why a line is no caption, whichever class it names; "" if it may be one."""
    rest = without_names(line, names)
    if has_odd_characters(rest):
        return "control, bidirectional or zero-width characters"
    if _MARKUP.search(rest):
        return "code, markup or an address"
    if reason := speech(rest):
        return reason
    if rest.endswith(("?", "？")):
        return "a question"
    if rest.endswith((":", "：")):
        return "announces a caption"
    others = frozenset(re.findall(r"\w+", rest.lower())) - _ARTICLES
    if not others or len(re.findall(r"\w+", line)) < FEWEST_WORDS:
        return "tells no more than the name"
    return ""


def _candidates(text: str, names: Sequence[str]) -> Iterator[str]:
    """Lines that may be the caption, the likeliest first, none empty."""
    text = _FENCE.sub("", text)
    values = json_values(text)
    strings = [string for value in values for string in _texts(value)][:MOST_LINES]
    if not values and _JSON.search(text):  # it is cut off, and so are the texts in it
        lines = [" ".join(text.split())]
    else:
        lines = re.split(r"[\r\n\u2028\u2029]+", _less_tags(text, names))
        lines = [line.strip() for line in lines if line.strip()][:MOST_LINES]
    labelled = [line for line in lines if _less_label(line[:MOST_CHARACTERS], names) != line]
    for line in [*strings, *labelled, *lines]:
        if clean := _clean(line[:MOST_CHARACTERS], names):
            yield clean


def _less_tags(text: str, names: Sequence[str]) -> str:
    """The text without tags of HTML, but for classes that are called like one."""

    def instead(tag: re.Match[str]) -> str:
        if names_class(tag[0], names):
            return tag[0]
        return "" if _INLINE_TAG.fullmatch(tag[0]) else "\n"

    return _TAG.sub(instead, text)


def _texts(value: Any, depth: int = 4) -> Iterator[str]:
    """Texts in a JSON value; those of a field that is called a caption go before others."""
    if isinstance(value, str):
        yield value
    if not depth:
        return
    if isinstance(value, dict):
        value = [value[f] for f in sorted(value, key=lambda f: "caption" not in f.lower())]
    if isinstance(value, list):
        for item in value[:MOST_LINES]:
            yield from _texts(item, depth - 1)


def _clean(line: str, names: Sequence[str]) -> str:
    """A line less bullet, label, emphasis, quotes and what is said around the caption.

    A step that would take the class's name away is not made.
    """
    steps: list[Callable[[str], str]] = [
        lambda text: _EMPHASIS.sub(r"\2", text),
        _first_of_numbered,
        lambda text: text[match.end() :] if (match := _BULLET.match(text)) else text,
        lambda text: text[match.end() :] if (match := _OPENER.match(text)) else text,
        lambda text: _less_label(text, names),
        lambda text: _unquoted(text, names),
        lambda text: _less_chat(text, names),
    ]
    for _ in range(3):  # they may stand inside each other
        before = line
        for step in steps:
            changed = step(line).strip()
            if names_class(changed, names) or not names_class(line, names):
                line = changed
        if line == before:
            break
    return re.sub(r"[ \t\u00a0\u2000-\u200a\u202f\u3000]+", " ", line)


def _first_of_numbered(line: str) -> str:
    """The first of several captions that are numbered within one line."""
    if not _NUMBER.match(line):
        return line
    return _NEXT_NUMBER.split(" " + line.strip(), maxsplit=2)[1] if _is_list(line) else line


def _is_list(line: str) -> bool:
    return len(_NEXT_NUMBER.findall(" " + line)) > 1


def _less_label(line: str, names: Sequence[str]) -> str:
    """What follows the last colon behind which the class is still named; not in JSON."""
    if line.startswith(("{", "[")):
        return line
    ends = [colon.end() for colon in _COLON.finditer(line)]
    rests = (line[end:].strip() for end in reversed(ends))
    return next((rest for rest in rests if names_class(rest, names)), line)


def _unquoted(line: str, names: Sequence[str]) -> str:
    """The quoted caption, if the line begins with it or speaks about it; no quotes around it."""
    quoted = next((q for q in _QUOTED.finditer(line) if names_class(q[1], names)), None)
    if quoted and (quoted.start() == 0 or speech(without_names(line, names))):
        return quoted[1]
    if line[:1] in tuple(_OPENING):
        line = line[1:]
    last = line[-1:]
    return line[:-1] if last in tuple(_CLOSING) and line.count(last) == 1 else line


def _less_chat(line: str, names: Sequence[str]) -> str:
    """A line without sentences before and behind the caption that are none of it."""
    sentences = _SENTENCE.split(line)
    while len(sentences) > 1 and _aside(sentences[0], names, short=True):
        del sentences[0]
    while len(sentences) > 1 and _aside(sentences[-1], names, short=False):
        del sentences[-1]
    return " ".join(sentences)


def _aside(sentence: str, names: Sequence[str], *, short: bool) -> bool:
    rest = without_names(sentence, names)
    if refuses(rest):  # is a reason, and stays
        return False
    few = short and len(sentence.split()) <= _SHORT_SENTENCE and not names_class(sentence, names)
    return few or bool(speech(rest))
