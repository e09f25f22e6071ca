"""Foreign bytes, mutated: each reader answers or refuses in one line, and the engine notices what
is neither."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from cluster.errors import ConfigError
from jobs.bench.fuzz.children import Limits, Outcome, Reader, outcomes
from jobs.bench.fuzz.mutations import MUTATIONS, mutated
from jobs.bench.fuzz.procedure import fault_line, fuzz_case
from jobs.bench.fuzz.readers import READERS

INPUTS = 40
"""Of each reader, its good ones among them."""
SMALL = Limits(seconds=3, waiting_seconds=10, memory=64 << 20)
"""Memory comes slowly on a loaded machine: less of it than what is planted takes is soon there."""


def _outcomes(
    readers: dict[str, Reader], folder: Path, inputs: int, limits: Limits
) -> list[Outcome]:
    cases = (fuzz_case(n, reader, i) for i in range(inputs) for n, reader in readers.items())
    return list(outcomes(cases, readers, folder, limits, os.cpu_count() or 1))


@pytest.mark.parametrize("name", READERS)
def test_a_mutated_input_is_answered_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    readers = {name: READERS[name]()}
    good = len(readers[name].inputs)
    rows = _outcomes(readers, tmp_path, good + INPUTS, Limits())
    assert not [fault_line(row) for row in rows if row.is_fault]
    assert all(row.kind == "answer" for row in rows if row.case.number < good)
    assert any(row.kind == "refusal" for row in rows)
    assert not list(tmp_path.iterdir())


def _planted(data: bytes, folder: Path) -> None:
    match data:
        case b"trace":
            raise KeyError("planted")
        case b"subclass":
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no ValueError by intention")
        case b"lines":
            raise ValueError("one\nline")
        case b"escape":
            raise ValueError("a name \x1b[2J in it")
        case b"spin":
            while True:
                pass
        case b"wait":
            time.sleep(3600)
        case b"hog":
            hog = [bytearray(1 << 20) for _ in range(300)]
            time.sleep(len(hog))
        case b"huge":
            bytearray(1 << 40)
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"exit":
            os._exit(3)
        case b"noise":
            print("Traceback (most recent call last):", file=sys.stderr)
        case b"usage":
            print("error: one\nerror: two", file=sys.stderr)
            sys.exit(2)
        case b"refused":
            print("error: one line", file=sys.stderr)
            sys.exit(2)
        case b"bad":
            raise ConfigError("field: 'bad'; allowed: good")
        case b"good":
            (folder / "file").write_bytes(data)


PLANTED = {
    "trace": "trace", "subclass": "trace", "lines": "message", "escape": "message",
    "spin": "hang", "wait": "hang", "hog": "memory", "huge": "trace", "crash": "crash",
    "exit": "crash", "noise": "noise", "usage": "message", "refused": "refusal",
    "bad": "refusal", "good": "answer",
}  # fmt: skip


def test_what_is_planted_is_noticed(tmp_path: Path) -> None:
    reader = Reader([name.encode() for name in PLANTED], _planted, (ConfigError, ValueError))
    rows = _outcomes({"planted": reader}, tmp_path, len(PLANTED), SMALL)
    assert {row.case.data.decode(): row.kind for row in rows} == PLANTED


def test_a_short_peak_of_memory_is_noticed(tmp_path: Path) -> None:
    def read(data: bytes, folder: Path) -> None:
        bytearray(SMALL.memory * 3 // 2)

    (row,) = _outcomes({"peak": Reader([b"x"], read)}, tmp_path, 1, SMALL)
    assert (row.kind, row.memory > SMALL.memory) == ("memory", True)


def test_the_same_number_is_the_same_input() -> None:
    reader = READERS["prompts"]()
    first = [fuzz_case("prompts", reader, number) for number in range(50)]
    assert first == [fuzz_case("prompts", reader, number) for number in range(50)]
    assert len({case.data for case in first}) > 40


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_takes_any_bytes(name: str) -> None:
    inputs = [b"", b"x", b'{"a": [1, 2.5]}', b"PK\3\4", b"12345678{", b"\x89PNG\r\n\x1a\n"]
    for number, data in enumerate(inputs * 3):
        assert isinstance(MUTATIONS[name](data, random.Random(number)), bytes)


def test_mutations_change_what_they_are_given() -> None:
    rng, data = random.Random(0), b'{"okapi": ["a photo of an okapi", 7, 0.5]}'
    changed = [mutated([data], rng)[0] for _ in range(100)]
    assert sum(result != data for result in changed) > 90
