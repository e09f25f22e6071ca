"""Row identity, and everything random about a row, from the content of the row alone."""

import re
import unicodedata
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SLUG_LENGTH = 60
PACKED = pa.binary(16)
"""Type of ids that are held by the million: less than half of their text, and in the same order."""
ID_LENGTH = 2 * PACKED.byte_width
_ID = "^[0-9a-f]{32}$"
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


def packed_ids(ids: pa.Array) -> pa.Array:
    """Ids, texts of 32 hex digits in small letters each, as PACKED.

    Raises ValueError naming one that is none.
    """
    right = pc.fill_null(pc.match_substring_regex(ids, _ID), False)
    if not pc.all(right, min_count=0).as_py():
        raise ValueError(repr(ids.filter(pc.invert(right))[0].as_py()))
    packed = bytes.fromhex(_bytes(ids.cast(pa.binary()).cast(pa.binary(ID_LENGTH))).decode())
    return pa.Array.from_buffers(PACKED, len(ids), [None, pa.py_buffer(packed)])


def id_texts(packed: pa.Array) -> pa.Array:
    """The ids, texts, of what `packed_ids` gave; of some millions at most."""
    data = _bytes(packed).hex().encode()
    texts = pa.Array.from_buffers(pa.binary(ID_LENGTH), len(packed), [None, pa.py_buffer(data)])
    return texts.cast(pa.binary()).cast(pa.string())


def _bytes(texts: pa.Array) -> bytes:
    """Of texts of one length, one after the other."""
    width = texts.type.byte_width
    start = texts.offset * width
    return texts.buffers()[1].slice(start, len(texts) * width).to_pybytes()


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
