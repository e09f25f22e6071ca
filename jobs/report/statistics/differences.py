"""Methods set side by side: paired differences, and cells below zero-shot."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from jobs.report.statistics.scores import AVERAGE, Estimate, Measured, Row, estimate


@dataclass(frozen=True)
class Difference:
    """Accuracy of one method minus that of another on the same shots and seeds."""

    dataset: str
    shots: int
    gain: Estimate


def all_paired(rows: Sequence[Row]) -> dict[tuple[str, str], list[Difference]]:
    """`paired` for every two methods of the same shots, the later one first."""
    methods = dict.fromkeys(row.method for row in rows if row.shots)
    pairs = ((compare, against) for against, compare in combinations(methods, 2))
    found = {pair: paired(rows, *pair) for pair in pairs}
    return {pair: differences for pair, differences in found.items() if differences}


def paired(rows: Sequence[Row], compare: str, against: str) -> list[Difference]:
    """`compare` minus `against`, per dataset × shots; the interval is over the seeds' differences.

    Rows pair up where dataset, shots, seed, label space and split are the same.
    """
    base = {_pairing_key(row): row.accuracy for row in rows if row.method == against}
    gains: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        if row.method == compare and _pairing_key(row) in base:
            gains[row.dataset, row.shots].append(row.accuracy - base[_pairing_key(row)])
    return [Difference(*key, estimate(values)) for key, values in gains.items()]


def _pairing_key(row: Row) -> tuple[str, int, int, str, str]:
    return row.dataset, row.shots, row.seed, row.label_space, row.split_hash


def verdict(differences: Iterable[Difference], compare: str, against: str) -> str:
    """What the paired differences say, counted over datasets × shots."""
    cells = [d.gain for d in differences if d.dataset != AVERAGE]
    ahead = sum(gain.mean > 0 for gain in cells)
    behind = sum(gain.mean < 0 for gain in cells)
    clear = [gain.mean for gain in cells if gain.excludes_zero]
    above, below = sum(mean > 0 for mean in clear), sum(mean < 0 for mean in clear)
    return (
        f"{compare} is ahead of {against} in {ahead} of {len(cells)} cells and behind in {behind}; "
        f"the 95 % interval of the difference excludes zero in {len(clear)} "
        f"({above} ahead, {below} behind)."
    )


def below_zero_shot(cells: Sequence[Measured]) -> list[Measured]:
    """Cells with shots whose mean is below zero-shot's on the same dataset."""
    zero_shot = {c.dataset: c.accuracy.mean for c in cells if not c.shots}
    return [c for c in cells if c.shots and c.accuracy.mean < zero_shot.get(c.dataset, 0)]


def against_zero_shot(cells: Sequence[Measured]) -> list[str]:
    """For each method, in how many cells its mean is below zero-shot's on the same dataset."""
    compared = {c.dataset for c in cells if not c.shots} - {AVERAGE}
    of = Counter(cell.method for cell in cells if cell.shots and cell.dataset in compared)
    below = Counter(c.method for c in below_zero_shot(cells) if c.dataset in compared)
    return [f"{method}: {below[method]} of {count}" for method, count in of.items()]
