"""`python -m jobs.bench fuzz`: readers of foreign bytes against mutated inputs.

Each input is answered or refused in one line, within 10 s and 2 GB; anything else is a fault.
"""

import dataclasses
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jsonargparse.typing import NonNegativeInt, PositiveFloat
from rich.console import Console
from rich.table import Table

from cluster.errors import ConfigError
from cluster.progress import say
from cluster.storage import resolve
from jobs.bench.fuzz.children import Case, Limits, Outcome, Reader, outcomes
from jobs.bench.fuzz.mutations import mutated
from jobs.bench.fuzz.readers import READERS


@dataclasses.dataclass(frozen=True, kw_only=True)
class FuzzBench:
    """Mutated inputs for all that reads foreign bytes: an answer or one line for each, never a
    trace, a crash, more than 10 s or 2 GB."""

    minutes: PositiveFloat = 1
    """How long; the readers take turns."""
    readers: list[str] = dataclasses.field(default_factory=list)
    """Which ones; default: all."""
    first: NonNegativeInt = 0
    """Number of the first input of each reader; the same number is the same input."""
    storage: str = "runs/bench"
    """Local folder; inputs with faults go to its folder fuzz."""
    again: list[str] = dataclasses.field(default_factory=list)
    """Files of that folder that are read again, instead of new inputs."""

    def __post_init__(self) -> None:
        for name in self.readers:
            if name not in READERS:
                raise ConfigError(f"readers: {name!r}; allowed: {', '.join(READERS)}")
        for file in self.again:
            if Path(file).name.partition("-")[0] not in READERS or not Path(file).is_file():
                raise ConfigError(f"again: {file!r}; allowed: files READER-NUMBER-MUTATION")


def fuzzing(cfg: FuzzBench) -> dict[str, float]:
    """Inputs, answers, refusals, faults, seconds and bytes at most; a table by reader on stderr.

    Each fault is a line, and its input a file, whose name says reader, number and mutations.
    """
    names = cfg.readers or list(READERS)
    if cfg.again:
        names = list(dict.fromkeys(Path(file).name.partition("-")[0] for file in cfg.again))
    torch.set_num_threads(1)  # a fork does not inherit its other threads
    readers = {name: READERS[name]() for name in names}
    end = time.monotonic() + 60 * cfg.minutes
    cases = _stored(cfg.again) if cfg.again else fuzz_cases(readers, cfg.first)
    by_reader: dict[str, list[Outcome]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for outcome in outcomes(
            _until(end, cases), readers, Path(folder), Limits(), os.cpu_count() or 1
        ):
            # The bytes themselves are not kept: there are many.
            case = dataclasses.replace(outcome.case, data=b"")
            by_reader[case.reader].append(dataclasses.replace(outcome, case=case))
            if outcome.is_fault:
                say(f"fuzz: {fault_line(outcome)}; input: {_store(cfg.storage, outcome.case)}")
    _show(by_reader)
    return _figures([outcome for rows in by_reader.values() for outcome in rows])


def fuzz_cases(readers: dict[str, Reader], first: int = 0) -> Iterator[Case]:
    """Cases without end, the readers in turn: number 0, 1, … are their good inputs as they are."""
    number = first
    while True:
        for name, reader in readers.items():
            yield fuzz_case(name, reader, number)
        number += 1


def fuzz_case(name: str, reader: Reader, number: int) -> Case:
    """One case of a reader: the same for the same number, as long as its good inputs are."""
    if number < len(reader.inputs):
        return Case(name, number, "good", reader.inputs[number])
    data, mutation = mutated(reader.inputs, random.Random(f"{name} {number}"))
    return Case(name, number, mutation, data)


def fault_line(outcome: Outcome) -> str:
    """A fault in one line."""
    case = outcome.case
    message = " | ".join(line.strip() for line in outcome.message.splitlines())
    return f"{case.reader} {case.number} ({case.mutation}): {outcome.kind}, {message[-600:]}"


def _until(end: float, cases: Iterator[Case]) -> Iterator[Case]:
    for case in cases:
        if time.monotonic() > end:
            return
        yield case


def _stored(files: Sequence[str]) -> Iterator[Case]:
    for place, file in enumerate(files):
        name, _, _ = Path(file).name.partition("-")
        yield Case(name, place, "again", Path(file).read_bytes())


def _store(storage: str, case: Case) -> Path:
    path = Path(resolve(storage), "fuzz", f"{case.reader}-{case.number}-{case.mutation}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(case.data)
    return path


def _figures(rows: Sequence[Outcome]) -> dict[str, float]:
    return {
        "inputs": len(rows),
        "answers": sum(row.kind == "answer" for row in rows),
        "refusals": sum(row.kind == "refusal" for row in rows),
        "faults": sum(row.is_fault for row in rows),
        "slowest_seconds": max((row.seconds for row in rows), default=0),
        "largest_bytes": max((row.memory for row in rows), default=0),
    }


def _show(by_reader: dict[str, list[Outcome]]) -> None:
    table = Table("reader", "inputs", "answers", "refusals", "faults", "slowest, s", "largest, MB")
    for name, rows in by_reader.items():
        *counts, seconds, size = _figures(rows).values()
        table.add_row(name, *(f"{n:.0f}" for n in counts), f"{seconds:.2f}", f"{size / 1e6:.0f}")
    Console(stderr=True).print(table)
