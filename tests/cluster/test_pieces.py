"""Keyed pieces of work: what is there is not made again, whoever made it and however it ended."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from ray.exceptions import RayActorError

from cluster import nodes
from cluster.artifacts import Draft, draft
from cluster.crew import TRIES
from cluster.errors import ConfigError
from cluster.pieces import PIECES, Pieces, make_pieces
from cluster.pool import Pool

SCHEMAS = {
    "squares": pa.schema([("key", pa.string()), ("square", pa.int64())]),
    "notes": pa.schema([("key", pa.string())]),
}


@dataclass(frozen=True)
class Number:
    value: int

    @property
    def key(self) -> str:
        return f"n-{self.value}"


class Squarer:
    """Notes every call in a folder; dies of the numbers that it is to die of, `times` each."""

    def __init__(self, folder: str, dies_of: frozenset[int], times: int) -> None:
        self.folder, self.dies_of, self.times = Path(folder), dies_of, times

    def __call__(self, number: Number) -> dict[str, pa.Table]:
        marks = len(list(self.folder.glob(f"{number.key}.*")))
        (self.folder / f"{number.key}.{marks}").touch()
        if number.value in self.dies_of and marks < self.times:
            os._exit(1)
        if number.value < 0:
            raise ConfigError(f"value: {number.value}; allowed: 0 or more")
        rows = {"key": [number.key], "square": [number.value**2]}
        return {"squares": pa.table(rows, SCHEMAS["squares"])}


def new(tmp_path: Path) -> tuple[Draft, Pieces, Path]:
    out = draft(str(tmp_path), "results", "toy", config={}, inputs={})
    calls = tmp_path / "calls"
    calls.mkdir(exist_ok=True)
    return out, Pieces(out, SCHEMAS), calls


def make(
    pieces: Pieces,
    numbers: list[int],
    calls: Path,
    dies_of: frozenset[int],
    times: int = 1,
    workers: int = 2,
) -> None:
    load = partial(Squarer, str(calls), dies_of, times)
    works = [Number(value) for value in numbers]
    make_pieces(pieces, works, load, Pool(workers=workers), title="squares", unit="numbers")


def test_a_piece_is_made_once_and_its_tables_are_gathered_in_order(
    tmp_path: Path, local_ray: None
) -> None:
    out, pieces, calls = new(tmp_path)
    make(pieces, [3, 1], calls, frozenset())
    make(pieces, [3, 2, 1], calls, frozenset())  # as the run that goes on after a kill
    assert sorted(path.name for path in calls.iterdir()) == ["n-1.0", "n-2.0", "n-3.0"]
    assert pieces.gather(["n-1", "n-2", "n-3"]) == {"squares": 3, "notes": 0}
    artifact = out.publish({})
    assert artifact.read_table("squares")["square"].to_pylist() == [1, 4, 9]
    assert not Path(artifact.file(PIECES)).exists()


def test_a_worker_that_dies_is_started_again(tmp_path: Path, local_ray: None) -> None:
    _, pieces, calls = new(tmp_path)
    make(pieces, [1, 2, 3], calls, dies_of=frozenset({2}))
    assert pieces.complete() == {"n-1", "n-2", "n-3"}
    assert len(list(calls.glob("n-2.*"))) == 2


def test_a_piece_that_costs_every_worker_is_given_up(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "NEWS_SECONDS", 1.0)  # no node is lost
    _, pieces, calls = new(tmp_path)
    with pytest.raises(RayActorError):
        make(pieces, [1, 2, 3], calls, dies_of=frozenset({2}), times=TRIES)
    assert len(list(calls.glob("n-2.*"))) == TRIES
    assert pieces.complete() <= {"n-1", "n-3"}


def test_a_worker_without_room_keeps_no_piece_from_the_others(
    tmp_path: Path, local_ray: None
) -> None:
    room = int(ray.cluster_resources()["CPU"])
    numbers = list(range(room + 2))
    _, pieces, calls = new(tmp_path)
    make(pieces, numbers, calls, frozenset(), workers=len(numbers))
    assert pieces.complete() == {f"n-{number}" for number in numbers}


def test_what_a_user_can_mend_is_raised_as_it_is(tmp_path: Path, local_ray: None) -> None:
    _, pieces, calls = new(tmp_path)
    with pytest.raises(ConfigError, match=r"^value: -1; allowed: 0 or more$"):
        make(pieces, [1, -1], calls, frozenset())
    assert pieces.complete() <= {"n-1"}


def refuse() -> Squarer:
    raise ConfigError("folder: none; allowed: one")


def test_what_keeps_a_worker_from_starting_is_raised_as_it_is(
    tmp_path: Path, local_ray: None
) -> None:
    _, pieces, _ = new(tmp_path)
    with pytest.raises(ConfigError, match=r"^folder: none; allowed: one$"):
        make_pieces(pieces, [Number(1)], refuse, Pool(workers=1), title="squares", unit="numbers")


def test_a_piece_without_its_last_table_is_not_there(tmp_path: Path) -> None:
    _, pieces, _ = new(tmp_path)
    pieces.write("n-1", {})
    assert pieces.complete() == {"n-1"}
    Path(pieces.draft.file(PIECES, "notes", "n-1.parquet")).unlink()
    assert pieces.complete() == set()
    assert pieces.read("squares", "n-1").num_rows == 0
