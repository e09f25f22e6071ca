"""Which captions of a class are accepted, decided on all of its texts together."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from actors.synthesis.language_models.answers import names_class

CLIP_TOKENS = 77
NEAR = 0.9
"""Two captions that share a larger part of their words are near-duplicates."""
_ARTICLES = frozenset({"a", "an", "the"})

Row = dict[str, Any]


def refusal(caption: str, names: Sequence[str]) -> str:
    """Why a caption is not accepted for its own sake; "" if it is fine.

    names: the class's name and its synonyms; one of them has to be there as a whole word.
    """
    if not caption.strip():
        return "empty caption"
    if not names_class(caption, names):
        return f"does not name {names[0]!r}"
    length = _tokens(caption)
    return f"{length} tokens, more than {CLIP_TOKENS}" if length > CLIP_TOKENS else ""


def _tokens(caption: str) -> int:
    """CLIP's tokens of a caption with its two ends; of one that is surely short, its characters.

    A token is a character at least, of ASCII without the "&" of an HTML entity: CLIP's tokenizer,
    whose import takes seconds, need not be asked.
    """
    if caption.isascii() and "&" not in caption and len(caption) + 2 <= CLIP_TOKENS:
        return len(caption) + 2
    return len(_tokenizer().encode(caption)) + 2


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from open_clip import SimpleTokenizer

    return SimpleTokenizer()


def decide(
    rows: Sequence[Row],
    accepted: Mapping[int, str],
    names: Sequence[str],
) -> list[Row]:
    """The rows in order of `index`, each with its `caption` and `reason` ("" if accepted).

    The same in whatever order the rows have come.

    rows: of one class, with `index`, `caption` and `error` (why there is no caption, or "").
    accepted: index to caption, of this class, accepted earlier.
    """
    words_of = {index: content_words(caption) for index, caption in accepted.items()}
    decided = []
    for row in sorted(rows, key=lambda row: row["index"]):
        reason = row["error"] or refusal(row["caption"], names)
        if not reason:
            words = content_words(row["caption"])
            twin = next((i for i in sorted(words_of) if near(words, words_of[i])), None)
            if twin is None:
                words_of[row["index"]] = words
            else:
                reason = f"near-duplicate of caption {twin}"
        decided.append({**row, "reason": reason})
    return decided


def content_words(caption: str) -> frozenset[str]:
    """The words of a caption, without their order, letter case and articles."""
    return frozenset(re.findall(r"\w+", caption.lower())) - _ARTICLES


def near(one: Collection[str], other: Collection[str]) -> bool:
    """Whether the shared part of two sets of words (Jaccard's index) is larger than NEAR."""
    if min(len(one), len(other)) <= NEAR * max(len(one), len(other)):
        return False
    shared = len(frozenset(one) & frozenset(other))
    return shared > NEAR * (len(one) + len(other) - shared)


def kind_of(reason: str) -> str:
    """A reason without its particulars, to be counted by.

    >>> kind_of("near-duplicate of caption 12")
    'near-duplicate of caption …'
    """
    return re.sub(r"'.*'|\".*\"|\d+", "…", reason)
