"""Damage of an artifact is noticed, and named in one line."""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pytest
from pyarrow.fs import LocalFileSystem

from cluster import artifacts, folder
from cluster.artifacts import CHECK_HASHES, Artifact, draft, open_artifact
from cluster.errors import ConfigError
from cluster.manifest import MANIFEST

ROWS = "rows/part-0.parquet"


def published(storage: str | Path) -> Artifact:
    """With a table, and files that another process has written."""
    out = draft(str(storage), "factors", "toy", config={}, inputs={})
    out.write_table("rows", pa.table({"id": ["b", "a"]}))
    out.write_json("deep/facts.json", {"a": 1})
    fs, folder = out.filesystem()
    for name in ("one.bin", "two.bin"):
        with fs.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(name.encode())
    return out.publish({"rows": 2})


def test_the_manifest_holds_size_and_hash_of_every_file(tmp_path: Path) -> None:
    artifact = published(tmp_path)
    assert list(artifact.manifest.files) == ["deep/facts.json", "one.bin", ROWS, "two.bin"]
    for name, facts in artifact.manifest.files.items():
        data = Path(artifact.uri, name).read_bytes()
        assert (facts.size, facts.sha256) == (len(data), sha256(data).hexdigest())
    assert open_artifact(artifact.uri, "factors") == artifact


def test_on_an_object_store_only_this_process_knows_hashes(tmp_path: Path) -> None:
    """What workers have written there is not fetched: it has a size alone."""
    files = published(f"mock:///{tmp_path.name}").manifest.files
    assert {name: facts.sha256 is not None for name, facts in files.items()} == {
        "deep/facts.json": True,
        "one.bin": False,
        ROWS: True,
        "two.bin": False,
    }
    assert files["one.bin"].size == len("one.bin")


def overwrite(folder: Path) -> None:
    (folder / "one.bin").write_bytes(b"of another length")


def cut(folder: Path) -> None:
    (folder / ROWS).write_bytes((folder / ROWS).read_bytes()[:-1])


def remove(folder: Path) -> None:
    (folder / "deep/facts.json").unlink()


def add(folder: Path) -> None:
    (folder / "rows/part-1.parquet").write_bytes((folder / ROWS).read_bytes())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (overwrite, "one.bin has 17 bytes, not 7"),
        (cut, f"{ROWS} has "),
        (remove, "deep/facts.json is missing"),
        (add, "rows/part-1.parquet is none of its files"),
    ],
)
def test_files_of_other_sizes_are_noticed_when_it_is_opened(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    artifact = published(tmp_path)
    damage(Path(artifact.uri))
    message = rf"^artifact: '{re.escape(artifact.uri)}' is damaged: {re.escape(words)}.*; allowed: "
    with pytest.raises(ConfigError, match=message):
        open_artifact(artifact.uri, "factors")
    with pytest.raises(ConfigError, match=message):
        published(tmp_path)


def flip(folder: Path) -> None:
    data = bytearray((folder / ROWS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / ROWS).write_bytes(data)


def swap(folder: Path) -> None:
    one, two = (folder / name for name in ("one.bin", "two.bin"))
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)


@pytest.mark.parametrize(("damage", "file"), [(flip, ROWS), (swap, "one.bin")])
def test_other_bytes_are_noticed_where_hashes_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], file: str
) -> None:
    artifact = published(tmp_path)
    monkeypatch.setenv(CHECK_HASHES, "1")
    assert open_artifact(artifact.uri, "factors") == artifact
    damage(Path(artifact.uri))
    with pytest.raises(ConfigError, match=f"is damaged: {re.escape(file)} has other bytes"):
        open_artifact(artifact.uri, "factors")
    monkeypatch.delenv(CHECK_HASHES)
    assert open_artifact(artifact.uri, "factors") == artifact, "sizes are those of before"


def test_what_the_system_puts_there_is_no_damage(tmp_path: Path) -> None:
    artifact = published(tmp_path)
    (Path(artifact.uri) / ".DS_Store").write_bytes(b"x")
    (Path(artifact.uri) / "rows" / ".nfs0001").write_bytes(b"x")
    assert open_artifact(artifact.uri, "factors").read_table("rows").num_rows == 2


def test_what_a_kill_left_half_written_is_no_part_of_it(tmp_path: Path) -> None:
    out = draft(str(tmp_path), "factors", "toy", config={}, inputs={})
    (Path(out.uri) / "facts.json.0a1b.partial").write_bytes(b"{")
    assert published(tmp_path).manifest.files.keys() & {"facts.json.0a1b.partial"} == set()
    assert not list(tmp_path.rglob("*.partial"))


def test_many_files_are_opened_by_one_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one look at the manifest: a request for each of a hundred thousand would take hours."""
    out = draft(str(tmp_path), "factors", "many", config={}, inputs={})
    for number in range(300):
        out.write_bytes(f"models/{number}/model.bin", b"x" * number)
    uri = out.publish({}).uri
    spy = Mock(wraps=LocalFileSystem())
    for module in (artifacts, folder):
        monkeypatch.setattr(module, "filesystem", lambda uri: (spy, uri))
    assert len(open_artifact(uri, "factors").manifest.files) == 300
    assert len(spy.method_calls) == 2, "the manifest, and the listing"


def changed(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda manifest: manifest | fields


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda manifest: {key: value for key, value in manifest.items() if key != name}


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "of another schema": changed(schema_version=2),
    "of a schema that is a list": changed(schema_version=[[]]),
    "a missing field": without("rows"),
    "an unknown field": changed(colour="red"),
    "no files": without("files"),
    "a kind that is a number": changed(kind=3),
    "rows that are words": changed(rows={"rows": "two"}),
    "rows that are true": changed(rows={"rows": True}),
    "inputs that are a list": changed(inputs=[]),
    "files that are a list": changed(files=[]),
    "a file that is a number": changed(files={"x": 1}),
    "a size that is a word": changed(files={"x": {"size": "1", "sha256": None}}),
    "a file that leads out": changed(files={"../x": {"size": 1, "sha256": None}}),
    "an absolute file": changed(files={"/etc/passwd": {"size": 1, "sha256": None}}),
    "a long value": changed(kind=["x" * 100_000]),
    "a list": lambda manifest: [manifest],
    "null": lambda manifest: None,
}
BROKEN_BYTES = {
    "nothing": b"",
    "half of it": b'{"kind": "factors", "na',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a picture": b"\x89PNG\r\n\x1a\n\x00\x00",
    "a number of a million digits": b"1" * 1_000_000,
}


@pytest.mark.parametrize("name", [*BROKEN, *BROKEN_BYTES])
def test_a_broken_manifest_is_one_line(tmp_path: Path, name: str) -> None:
    artifact = published(tmp_path)
    path = Path(artifact.uri, MANIFEST)
    if name in BROKEN:
        path.write_text(json.dumps(BROKEN[name](json.loads(path.read_text()))))
    else:
        path.write_bytes(BROKEN_BYTES[name])
    with pytest.raises(ConfigError, match=r"^artifact: .*; allowed: ") as refused:
        open_artifact(artifact.uri, "factors")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600
    with pytest.raises(ConfigError, match=r"^artifact: "):
        published(tmp_path)


def of_same_size(place: Path, change: Callable[[bytes], bytes]) -> None:
    data = place.read_bytes()
    place.write_bytes(change(data)[: len(data)].ljust(len(data)))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-8] + b"\xff" * 4 + data[-4:],  # where the footer begins
        lambda data: data[:4] + bytes(len(data) // 3) + data[4 + len(data) // 3 :],
        lambda data: b"no Parquet",
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    artifact = published(tmp_path)
    of_same_size(Path(artifact.uri, ROWS), change)
    opened = open_artifact(artifact.uri, "factors")
    with pytest.raises(ConfigError, match=r"artifact: .*rows' cannot be read .*as it was pub") as e:
        opened.read_table("rows")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b"["])
def test_json_that_cannot_be_read_is_one_line(tmp_path: Path, data: bytes) -> None:
    artifact = published(tmp_path)
    of_same_size(Path(artifact.uri, "deep/facts.json"), lambda _: data)
    with pytest.raises(ConfigError, match=r"artifact: .*facts.json' is no JSON .*; allowed: as"):
        open_artifact(artifact.uri, "factors").read_json("deep/facts.json")
