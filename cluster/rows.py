"""Row identity, and everything random about a row, from the content of the row alone."""

import re
import unicodedata
from hashlib import blake2b

import numpy as np

SLUG_LENGTH = 60
_LOOKS_HASHED = re.compile(r"-[0-9a-f]{8}$")


def digest(*fields: str, size: int = 16) -> bytes:
    """blake2b over the fields, each after its length, so that ("ab", "c") is not ("a", "bc").

    size: bytes of the result, 1..64.
    """
    state = blake2b(digest_size=size)
    for field in fields:
        data = field.encode()
        state.update(len(data).to_bytes(8, "big") + data)
    return state.digest()


def seeded(recipe: str, seed: int) -> str:
    """A recipe whose rows have other ids with every seed, and with seed 0 the recipe's own."""
    return f"{recipe}/{seed}" if seed else recipe


def row_id(dataset: str, class_name: str, index: int, view: int, recipe: str) -> str:
    """Identity of one row, 32 hex digits: the same row has the same id on every worker and run.

    index counts within the class, view within the index; recipe names how the row is made.
    """
    return digest(dataset, class_name, str(index), str(view), recipe).hex()


def row_rng(row_id: str, purpose: str = "") -> np.random.Generator:
    """Counter-based generator of one row; another purpose gives an independent stream."""
    key = int.from_bytes(digest(row_id, purpose), "big")
    return np.random.Generator(np.random.Philox(key=key))


def row_seed(row_id: str) -> int:
    """63-bit seed from the row's id alone: the same on every worker and after a crash."""
    return int.from_bytes(digest(row_id, size=8), "big") >> 1


def slug(name: str) -> str:
    """One safe file or label name, [a-z0-9-] only, from any class name.

    A name that has to change (case, accents, slashes, length) ends in eight hex digits of its
    hash, so two names never share a slug; Unicode is compared in composed form (NFC).
    """
    name = unicodedata.normalize("NFC", name)
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:SLUG_LENGTH].strip("-")
    if text == name and text and not _LOOKS_HASHED.search(text):
        return text
    return "-".join(filter(None, [text, digest(name, size=4).hex()]))
