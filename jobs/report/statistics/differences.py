"""Methods set side by side: paired differences, and results below zero-shot's."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from jobs.report.statistics.scores import (
    AVERAGE,
    CONFIDENCE,
    Estimate,
    Score,
    Summary,
    estimate,
)


@dataclass(frozen=True)
class Difference:
    """A measure of one method minus that of another on the same shots and seeds."""

    measure: str
    dataset: str
    shots: int
    gain: Estimate


def all_paired(scores: Sequence[Score]) -> dict[tuple[str, str], list[Difference]]:
    """`paired` for every two methods of the same shots, the later one first."""
    methods = dict.fromkeys(score.method for score in scores if score.shots)
    of_method: dict[str, list[Score]] = {method: [] for method in methods}
    for score in scores:
        if score.method in of_method:
            of_method[score.method].append(score)
    pairs = {
        (compare, against): paired([*of_method[compare], *of_method[against]], compare, against)
        for against, compare in combinations(methods, 2)
    }
    return {pair: differences for pair, differences in pairs.items() if differences}


def paired(scores: Sequence[Score], compare: str, against: str) -> list[Difference]:
    """`compare` minus `against`, per measure, dataset and shots; intervals are over the seeds.

    Scores pair up where measure, dataset, shots, seed, label space and split are the same.
    """
    base = {_pairing_key(score): score.value for score in scores if score.method == against}
    gains: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for score in scores:
        if score.method == compare and _pairing_key(score) in base:
            gain = score.value - base[_pairing_key(score)]
            gains[score.measure, score.dataset, score.shots].append(gain)
    return [Difference(*key, estimate(values)) for key, values in gains.items()]


def paired_over_datasets(scores: Sequence[Score], compare: str, against: str) -> list[Difference]:
    """`compare` minus `against`, per measure and shots; intervals are over the datasets.

    Scores pair up as in `paired`; a dataset counts once, with the mean over its seeds.
    """
    gains: dict[tuple[str, int], list[float]] = defaultdict(list)
    for difference in paired(scores, compare, against):
        if difference.dataset != AVERAGE:
            gains[difference.measure, difference.shots].append(difference.gain.mean)
    return [
        Difference(measure, AVERAGE, shots, estimate(values))
        for (measure, shots), values in gains.items()
    ]


def _pairing_key(score: Score) -> Score:
    return score._replace(method="", value=0, concepts="")


def verdict(differences: Iterable[Difference], compare: str, against: str) -> str:
    """What the paired differences of one measure say, counted over datasets × shots.

    Of many intervals some exclude zero by chance; how many is said beside the count.
    """
    cells = [d.gain for d in differences if d.dataset != AVERAGE]
    ahead = sum(gain.mean > 0 for gain in cells)
    behind = sum(gain.mean < 0 for gain in cells)
    clear = [gain.mean for gain in cells if gain.excludes_zero]
    above, below = sum(mean > 0 for mean in clear), sum(mean < 0 for mean in clear)
    intervals = sum(gain.half_width is not None for gain in cells)
    text = (
        f"{compare} is ahead of {against} in {ahead} of {len(cells)} cells and behind in {behind}; "
        f"the 95 % interval of the difference excludes zero in {len(clear)} "
        f"({above} ahead, {below} behind)."
    )
    if intervals < 2:
        return text
    chance = (1 - CONFIDENCE) * intervals
    return f"{text} Of {intervals} intervals between equal methods {chance:.1f} do by chance (5 %)."


def below_zero_shot(summaries: Sequence[Summary]) -> list[Summary]:
    """Those with shots whose mean is below zero-shot's of the same measure and dataset."""
    zero_shot = {
        (s.dataset, s.measure, s.label_space): s.estimate.mean for s in summaries if not s.shots
    }
    return [
        s
        for s in summaries
        if s.shots
        and s.estimate.mean < zero_shot.get((s.dataset, s.measure, s.label_space), -float("inf"))
    ]


def against_zero_shot(summaries: Sequence[Summary]) -> list[str]:
    """For each method, in how many cells its mean is below zero-shot's on the same dataset.

    summaries: of one measure and label space.
    """
    datasets = {s.dataset for s in summaries if not s.shots} - {AVERAGE}
    cells = Counter(s.method for s in summaries if s.shots and s.dataset in datasets)
    below = Counter(s.method for s in below_zero_shot(summaries) if s.dataset in datasets)
    return [f"{method}: {below[method]} of {count}" for method, count in cells.items()]
