"""A server's own words, as far as they may be shown: no part of a key is among them."""

import re

SHORTEST = 4
"""Characters of a key that count as a part of it."""
REASON_LENGTH = 300
"""Characters of a reason at most: servers answer an error with what they like."""
HIDDEN = "***"
_LONGEST_READ = 4 * REASON_LENGTH


def redacted(text: str, key: str) -> str:
    """A server's words in one line, at most REASON_LENGTH characters.

    Words that share SHORTEST or more characters with the key, in whatever case, or that look like a
    secret of another kind, are hidden. All are, if a part of the key is spread over several.
    """
    text = text[:_LONGEST_READ].encode("utf-8", "replace").decode()
    text = "".join(c if c.isprintable() else " " for c in text)
    words = [HIDDEN if _hides(word, key) else word for word in text.split()]
    line = " ".join(words)[:REASON_LENGTH]
    return HIDDEN if shares(_bare(line), _bare(key), 2 * SHORTEST) else line


def shares(text: str, key: str, length: int = SHORTEST) -> bool:
    """Whether as many characters of the key stand together in the text, in whatever case.

    Of a shorter key, all of them.
    """
    text, key = text.casefold(), key.casefold()
    length = min(length, len(key))
    return bool(key) and any(
        key[start : start + length] in text for start in range(len(key) - length + 1)
    )


def _hides(word: str, key: str) -> bool:
    return shares(word, key) or bool(_SECRET.search(word))


def _bare(text: str) -> str:
    return re.sub(r"[\W_]", "", text)


# Long runs that mix letters and digits, as keys, tokens and encoded headers do.
_SECRET = re.compile(r"(?=[\w+/=.-]*\d)(?=[\w+/=.-]*[A-Za-z])[\w+/=-]{20,}|[\w+/=-]{40,}")
