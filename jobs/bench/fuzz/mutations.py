"""Mutations of inputs: what happens to files on their way, and what somebody may do to them."""

import codecs
import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]
LARGEST = 8 << 20
"""Bytes of an input: what is longer is cut."""
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NUMBERS = [
    *(b"0", b"-1", b"1", b"2", b"255", b"65536", b"2147483648", b"9223372036854775807"),
    *(b"1e308", b"-1e-308", b"1e999", b"NaN", b"Infinity", b"0x10", b"0.0", b"1.5", b"true"),
    *(b"null", b'"7"', b"9" * 400, b"9" * 5000, b"08", b"1_000", b"2026-11-01", b"1:30"),
]
_SIZES = [0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**24, 2**31 - 1, 2**32 - 1, 2**62, 2**64 - 1]
_ODD = [
    *(codecs.BOM_UTF8, b"\0", b"\x1b[2J", b"\x7f", b"\r", b"\n\n", b"\t", b"\x0b", b"\xff"),
    *("\u202e\u2066\u200b\ufeff\u2028\u0085\ue000".encode(), "e\u0301é".encode(), b"\xed\xa0\x80"),
    *(b'"', b"'", b"\\", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b": ", b"#", b"$", b"%"),
    *(b"*a", b"&a ", b"!!python/object:os.system ", b"<<: ", b"---\n", b"...\n", b"? ", b"@"),
    *(b"../", b"/etc/passwd", b"http://127.0.0.1:9/", b"<think>", b"```json\n", b"x" * 5000),
]
_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**400, 0.5, 1e308, float("nan")),
    *(float("inf"), "", " ", "\0", "\ud800", "\u202e", "a\nb", "x" * 10**4, "../../x", "/", "{}"),
    *([], [None], [[]], [[], {}], ["a", "a"], [0.5, 0.5], {}, {"": 1}, {"a": {"b": [1]}}),
]
_DEEP = 10**5


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64]) if data else 0):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _beheaded(data: bytes, rng: random.Random) -> bytes:
    return data[rng.randrange(len(data) + 1) :]


def _doubled(data: bytes, rng: random.Random) -> bytes:
    start, end = _part(data, rng)
    return data[:end] + data[start:end] * rng.choice([1, 1, 9, 1000]) + data[end:]


def _swapped(data: bytes, rng: random.Random) -> bytes:
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _dropped(data: bytes, rng: random.Random) -> bytes:
    start, end = _part(data, rng)
    return data[:start] + data[end:]


def _odd(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice([0, len(data), rng.randrange(len(data) + 1)])
    return data[:place] + rng.choice(_ODD) + data[place:]


def _number(data: bytes, rng: random.Random) -> bytes:
    numbers = list(_NUMBER.finditer(data[:100_000]))
    if not numbers:
        return _flipped(data, rng)
    match = rng.choice(numbers)
    return data[: match.start()] + rng.choice(_NUMBERS) + data[match.end() :]


def _size(data: bytes, rng: random.Random) -> bytes:
    """A number of a binary header: mostly near its start or end, in either order of bytes."""
    kind = rng.choice(["<H", ">H", "<I", ">I", "<Q", ">Q", "B"])
    width = struct.calcsize(kind)
    if len(data) < width:
        return _odd(data, rng)
    last = len(data) - width
    place = rng.choice([rng.randint(0, min(64, last)), rng.randint(max(0, last - 64), last),
                        rng.randint(0, last)])  # fmt: skip
    value = rng.choice(_SIZES) % 256**width
    return data[:place] + struct.pack(kind, value) + data[place + width :]


def _json(data: bytes, rng: random.Random) -> bytes:
    """A value replaced, dropped, added or moved, or a key said twice; of JSON lines, of one; of
    what a server sends, in its body."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if blank:
        return head + blank + _json(body, rng)
    lines = data.split(b"\n")
    number = rng.randrange(len(lines))
    for place, text in ((None, data), (number, lines[number])):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            continue
        changed = json.dumps(_edited(content, rng)).encode()
        if rng.random() < 0.1 and changed[:1] == b"{" and len(changed) > 2:
            changed = changed[:-1] + b", " + changed[1:]  # all keys twice
        if place is None:
            return changed
        return b"\n".join([*lines[:place], changed, *lines[place + 1 :]])
    return _number(data, rng)


def _edited(content: Any, rng: random.Random) -> Any:
    places = list(_places(content))
    if not places:
        return rng.choice(_VALUES)
    parent, key = rng.choice(places)
    edit = rng.choice(["replace"] * 4 + ["drop", "add", "wrap", "from another place"])
    if edit == "replace":
        parent[key] = rng.choice(_VALUES)
    elif edit == "drop":
        del parent[key]
    elif edit == "add" and isinstance(parent, dict):
        parent[rng.choice(["", "x", "\ud800", f"{key} ", str(key).upper()])] = parent[key]
    elif edit == "add":
        parent.insert(key, rng.choice(_VALUES))
    elif edit == "wrap":
        parent[key] = [parent[key]]
    else:
        other, there = rng.choice(places)
        parent[key] = json.loads(json.dumps(other[there]))
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """All places inside a JSON value, each as what holds it and its key or index."""
    waiting = [content]
    while waiting:
        parent = waiting.pop()
        items = parent.items() if isinstance(parent, dict) else ()
        for key, value in enumerate(parent) if isinstance(parent, list) else items:
            yield parent, key
            waiting.append(value)


def _deep(data: bytes, rng: random.Random) -> bytes:
    left, right = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"- ", b""),
                              (b"<think>", b"</think>"), (b"? ", b"")])  # fmt: skip
    depth = rng.choice([50, 1500, _DEEP])
    place = rng.choice([0, rng.randrange(len(data) + 1)])
    close = right * depth if rng.random() < 0.5 else b""
    return data[:place] + left * depth + data[place:] + close


def _encoded(data: bytes, rng: random.Random) -> bytes:
    encoding = rng.choice(["utf-16", "utf-16-be", "utf-32", "utf-7", "latin-1", "cp1252"])
    return data.decode("utf-8", "replace").encode(encoding, "replace")


def _large(data: bytes, rng: random.Random) -> bytes:
    """Much of the same: a line, a part or a letter, up to some megabytes."""
    start, end = _part(data, rng)
    part = rng.choice([data[start:end] or b"a", b"a", b" ", b"\n", b"\0", b"a: ", b"1,"])
    return data[:end] + part * (rng.choice([10**5, LARGEST]) // len(part)) + data[end:]


def _packed(data: bytes, rng: random.Random) -> bytes:
    """Compressed, or in its place what is small and becomes 256 MB."""
    if rng.random() < 0.5:
        return gzip.compress(data, mtime=0) if rng.choice([True, False]) else zlib.compress(data)
    if rng.random() < 0.5:
        return _bomb()
    with zipfile.ZipFile(packed := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("data.pkl", data), ("data/0", b"\0" * (64 << 20))):
            entry = zipfile.ZipInfo(f"archive/{name}")  # of one time, so the same bytes again
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


@cache
def _bomb() -> bytes:
    packer, zeros = zlib.compressobj(9, wbits=31), b"\0" * (1 << 20)
    return b"".join([*(packer.compress(zeros) for _ in range(256)), packer.flush()])


def _emptied(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(
        [b"", b" ", b"\n", b"\0", codecs.BOM_UTF8, b"{}", b"[]", b"null", b"0", b'""']
    )


def _inside(data: bytes, rng: random.Random) -> bytes:
    """A mutation within a container whose sums and lengths are right again: an entry of a ZIP, the
    header of safetensors, a chunk of a PNG."""
    try:
        if data[:4] == b"PK\3\4":
            return _in_zip(data, rng)
        if data[8:9] == b"{":
            return _in_safetensors(data, rng)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _in_png(data, rng)
    except Exception:  # it was broken by an earlier mutation
        pass
    return rng.choice([_flipped, _size])(data, rng)


def _in_zip(data: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    number = rng.randrange(len(entries))
    name, content = entries[number]
    content = rng.choice([_flipped, _cut, _doubled, _swapped, _size, _odd])(content, rng)
    entries[number] = name if rng.random() < 0.9 else f"x{name}", content
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content)
    return packed.getvalue()


def _in_safetensors(data: bytes, rng: random.Random) -> bytes:
    end = 8 + int.from_bytes(data[:8], "little")
    header = rng.choice([_json, _json, _number, _flipped, _cut, _odd])(data[8:end], rng)
    return len(header).to_bytes(8, "little") + header + data[end:]


def _in_png(data: bytes, rng: random.Random) -> bytes:
    chunks, place = [], 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    number = rng.randrange(len(chunks))
    kind, content = chunks[number]
    content = rng.choice([_flipped, _cut, _doubled, _swapped, _size])(content, rng)
    chunks[number] = kind, content
    packed = [data[:8]]
    for kind, content in chunks:
        body = kind + content
        packed += [struct.pack(">I", len(content)), body, struct.pack(">I", zlib.crc32(body))]
    return b"".join(packed)


def _part(data: bytes, rng: random.Random) -> tuple[int, int]:
    """Start and end of a part, often a short one."""
    start = rng.randrange(len(data) + 1)
    longest = rng.choice([4, 64, len(data)])
    return start, min(len(data), start + rng.randint(0, longest))


MUTATIONS: dict[str, Mutation] = {
    "flipped": _flipped, "cut": _cut, "beheaded": _beheaded, "doubled": _doubled,
    "swapped": _swapped, "dropped": _dropped, "odd": _odd, "number": _number, "size": _size,
    "json": _json, "deep": _deep, "encoded": _encoded, "large": _large, "packed": _packed,
    "emptied": _emptied, "inside": _inside,
}  # fmt: skip
_WEIGHTS = {"json": 6, "inside": 6, "flipped": 2, "number": 3, "size": 3, "odd": 3, "emptied": 0.3,
            "packed": 0.5, "large": 0.5, "encoded": 0.7}  # fmt: skip
"""How often a mutation is drawn, against once."""


def mutated(inputs: list[bytes], rng: random.Random) -> tuple[bytes, str]:
    """One of the inputs with one to three mutations, and their names."""
    data, names = rng.choice(inputs), list(MUTATIONS)
    drawn = rng.choices(names, [_WEIGHTS.get(n, 1) for n in names], k=rng.choice([1, 1, 1, 2, 3]))
    for name in drawn:
        data = MUTATIONS[name](data, rng)[:LARGEST]
    return data, "+".join(drawn)
