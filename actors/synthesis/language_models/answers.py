"""What of a language model's answer is meant as the answer: outside text, read by rules.

Models think aloud, leave the marks of their chat template in the text, and wrap JSON in prose.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

MOST_CHARACTERS = 100_000
"""Of an answer; a longer one is refused unread."""
_MOST_STARTS = 32
"""Brackets at which JSON is looked for."""


class AnswerError(ValueError):
    """There is no answer; the message says why, in one line without any part of the key."""


_TAG = re.compile(
    r"[<\[◁]\s?[|｜]?\s?(?P<end>/?)(?P<name>[A-Za-z][\w:▁-]{0,39})(?:\s[^<>\[\]]{0,80})?"
    r"[|｜]?\s*(?P<empty>/?)[>\]▷]"
)
_THOUGHTS = ("think", "thought", "reason", "reflect", "scratchpad", "analysis", "rationale")
"""In the names of tags around what a model thinks: <think>, [THINK], <|begin_of_thought|>, …"""
_THOUGHTS_BY_OTHER_MARKS = {
    "<|channel>thought": "<think>",
    "<channel|>": "</think>",
    "<unused94>thought": "<think>",
    "<unused95>": "</think>",
}
# Harmony's channels; where special tokens are left out of a text, only the bare words stay.
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\b[^<>]{0,80}<\|message\|>|assistantfinal")
_OTHER_CHANNEL = re.compile(
    r"\s*(?:<\|start\|>\s*assistant\s*)?"
    r"(?:<\|channel\|>\s*(?:analysis|commentary)\b|(?:analysis|commentary)(?=[A-Z]))"
)
_TURN_MARK = re.compile(
    r"<[|｜][^<>|｜\n]{1,60}[|｜]>|</?s>|<(?:eos|bos|pad|unk|end_of_turn|start_of_turn)>"
    r"|\[/?INST\]|<</?SYS>>",
    re.IGNORECASE,
)
_END_OF_TURN = re.compile(r"(?i)(?:end|eot|eos|/s)(?!_header)")


def plain_answer(answer: str) -> str:
    """The answer less what the model thought, and less the marks of chat templates.

    What follows a model's own turn is left out. Raises AnswerError if the answer ends while the
    model is thinking, or is longer than MOST_CHARACTERS.
    """
    if len(answer) > MOST_CHARACTERS:
        raise AnswerError(f"more than {MOST_CHARACTERS} characters")
    *_, last = [None, *_FINAL_CHANNEL.finditer(answer)]
    if last:
        answer = answer[last.end() :]
    elif _OTHER_CHANNEL.match(answer):
        raise AnswerError("ends while the model is thinking")
    for mark, same in _THOUGHTS_BY_OTHER_MARKS.items():
        answer = answer.replace(mark, same)
    return _own_turn(_without_thoughts(answer)).strip()


def _without_thoughts(text: str) -> str:
    """A closing tag alone ends thoughts that the prompt began; an opening one alone goes on."""
    parts: list[str] = []
    thinking, start = False, 0
    for tag in _TAG.finditer(text):
        name = tag["name"].lower()
        if tag["empty"] or not any(word in name for word in _THOUGHTS):
            continue
        if tag["end"] or name.startswith("end"):
            if not thinking:
                parts.clear()
            thinking, start = False, tag.end()
        elif not thinking:
            parts.append(text[start : tag.start()])
            thinking = True
    if not thinking:
        parts.append(text[start:])
    rest = "\n".join(parts)
    if thinking and not rest.strip():
        raise AnswerError("ends while the model is thinking")
    return rest


def _own_turn(text: str) -> str:
    """The text up to the first mark that ends a turn; other marks become ends of lines."""
    parts, start = [], 0
    for mark in _TURN_MARK.finditer(text):
        parts.append(text[start : mark.start()])
        start = mark.end()
        if _END_OF_TURN.search(mark[0]) and "".join(parts).strip():
            return "\n".join(parts)
    return "\n".join([*parts, text[start:]])


def json_values(text: str) -> list[Any]:
    """The JSON objects and arrays that stand in a text, in order; of nested ones the outermost."""
    decoder, values, place = json.JSONDecoder(), [], 0
    for _ in range(_MOST_STARTS):
        bracket = re.compile(r"[\[{]").search(text, place)
        if bracket is None:
            break
        try:
            value, place = decoder.raw_decode(text, bracket.start())
        except RecursionError:  # thousands of brackets
            break
        except ValueError:
            place = bracket.end()
        else:
            values.append(value)
    return values


def names_class(text: str, names: Sequence[str]) -> bool:
    """Whether one of a class's names is in the text as a whole word, in whatever case."""
    return any(re.search(_whole_word(name), text, re.IGNORECASE) for name in names)


def without_names(text: str, names: Sequence[str]) -> str:
    """The text with a dot for every name, so that no rule is about what a class is called."""
    either = "|".join(_whole_word(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(either, "·", text, flags=re.IGNORECASE)


def _whole_word(name: str) -> str:
    return rf"(?<!\w){re.escape(name)}(?!\w)"


def has_odd_characters(text: str) -> bool:
    """Whether a text holds control, bidirectional, zero-width or private characters, line ends or
    the mark of a broken one."""
    return any(
        unicodedata.category(c)[0] == "C" or c in "\u2028\u2029\ufffd" for c in text if c != "\t"
    )


# Names of classes are taken out before these are looked for.
_REFUSES = re.compile(
    r"""(?ix)
    \b(?:sorry|apolog(?:y|i[sz]e|ies)) | \bI\s*(?:can(?:['’]t|not|\ not)|won['’]t
    |(?:am|['’]m)\ (?:un|not\ )able|(?:do|did)(?:n['’]t|\ not)) | \bas\ an?\ (?:AI|artificial)
    | \blanguage\ model\b | \bdésolée?\b | \bje\ ne\ (?:peux|suis) | \ben\ tant\ qu['’]IA\b
    | \btut\ mir\ leid | \bentschuldig | \bich\ kann\b.{0,40}\bnicht\b | \bals\ KI\b
    | \bSprachmodell | \blo\ siento\b | \bno\ puedo\b | \bcomo\ (?:una?\ )?(?:IA|modelo\ de)
    | \bmi\ dispiace | \bnon\ posso\b | \bdesculpe | \bnão\ posso\b | \bhelaas\b
    | \bik\ kan\b.{0,40}\bniet\b
    | \bprzepraszam | \bnie\ mogę | \büzgünüm | \bbeklager\b | \bledsen\b
    | извините|простите|к\ сожалению|не\ могу | 抱歉|对不起|對不起|无法|無法
    | 申し訳|できません | 죄송|할\ 수\ 없 | آسف|عذرا|لا\ أستطيع | क्षमा|माफ़
    """
)
_CHATS = re.compile(
    r"""(?ix)
    \bcaption(?:s|ed|ing)?\b | \bthe\ (?:user|prompt|instructions?)\b | \bas\ requested\b
    | \b(?:you|your|yours)\b | \blet(?:\ me|['’]s|\ us)\b | \bhope\ (?:this|that|it)\b
    | (?:^|[.!?,;:]\s+|\b(?:and|but|so|that|here|what)\s+)I(?:['’](?:m|ll|d|ve)\b|\s+[a-z])
    | ^(?:here(?:['’]s|\ is|\ are|\ goes)|note\ that)\b | ^(?:sure|certainly|of\ course|okay)\b
    | \blégende\b | \bBild(?:unterschrift|beschreibung|text)|\bbilledtekst | \bvoici\b
    | \bhier\ (?:ist|sind)\b | \bpie\ de\ foto\b | \bleyenda\b | \baquí\ (?:tienes|está|va)
    | \bdidascalia\b | \blegenda\b | \becco\b | \baqui\ está | \bonderschrift | \bbijschrift
    | подпис|\bвот\b | 字幕|标题|標題|说明文|图注|以下是|这是一 | キャプション|説明文 | 캡션|설명
    """
)


def speech(text: str) -> str:
    """Why a text is what a model says of itself or of its task; "" if it is not."""
    if refuses(text):
        return "the model declines"
    return "speaks of the task or to the reader" if _CHATS.search(text) else ""


def refuses(text: str) -> bool:
    """Whether a text says that the model cannot or will not answer."""
    return bool(_REFUSES.search(text))
