"""Text files from outside: read with or without a byte order mark, refused by file and line."""

import os
from pathlib import Path

import pytest

from cluster.errors import ConfigError
from cluster.text_files import read_json, read_json_lines, read_lines, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_letter(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("okapi\r\n\n  né \rant\n".encode(encoding))
    assert read_lines(tmp_path / "a.txt", "names") == ["okapi", "né", "ant"]
    (tmp_path / "a.json").write_bytes('{"okapi": ["é"]}'.encode(encoding))
    assert read_json(tmp_path / "a.json", "prompts") == {"okapi": ["é"]}


def test_other_separators_of_lines_are_letters(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"path": "a\u2028b\x85.png"}\n\n{"path": "c"}\n')
    lines = read_json_lines(tmp_path / "a.jsonl", "shots")
    assert [content["path"] for _, content in lines] == ["a\u2028b\x85.png", "c"]
    assert lines[1][0].endswith("a.jsonl', line 3")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("okapi\nné\n".encode("latin-1"), "line 2: byte 0xe9 is no UTF-8"),
        ("okapi\n".encode("utf-16"), "line 1: byte 0xff is no UTF-8"),
    ],
)
def test_another_encoding_is_refused_by_file_and_line(
    tmp_path: Path, data: bytes, words: str
) -> None:
    (tmp_path / "names.txt").write_bytes(data)
    with pytest.raises(ConfigError, match=rf"names: '.*names.txt', {words}"):
        read_text(tmp_path / "names.txt", "names")


def test_what_is_no_text_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("pipe", "no regular file"),
        (".", "no regular file"),
        ("x", "No such file"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_text(tmp_path / name, "names")


def test_the_tilde_is_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "names.txt").write_text("okapi")
    assert read_text("~/names.txt", "names") == "okapi"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "nested too deep"),
        ('{"a": 1', "is no JSON"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice"),
        ('["\\ud800"]', "is no JSON"),
        ("9" * 5000, "is no JSON"),
    ],
)
def test_json_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=words) as refusal:
        read_json(tmp_path / "a.json", "root")
    assert "\n" not in str(refusal.value)


def test_a_character_in_two_halves_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["\\ud83e\\udd8a"]')
    assert read_json(tmp_path / "a.json", "root") == ["🦊"]
