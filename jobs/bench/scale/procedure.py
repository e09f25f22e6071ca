"""`python -m jobs.bench scale`: how stages grow, and what that says of a million and a hundred."""

import dataclasses

from jsonargparse.typing import PositiveInt

from jobs.bench.scale.adaptation import adaptations
from jobs.bench.scale.blocks import blocks_of_rows
from jobs.bench.scale.curation import drivers_of_curations
from jobs.bench.scale.growth import Row, laws
from jobs.bench.scale.likeness import copies_of_tests, near_copies, neighbours
from jobs.bench.scale.tables import features_indexed, files_together
from jobs.bench.scale.whole import whole_encodings, whole_searches


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleBench:
    """Sizes that each stage is measured at; none: it is left out."""

    pictures: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [10_000, 100_000, 1_000_000]
    )
    """Pictures of a curation among which near-copies are looked for."""
    drivers: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [100_000, 300_000, 1_000_000]
    )
    """Pictures of a curation whose driver is looked at, while workers look for near-copies."""
    against_tests: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [3_000, 10_000, 30_000]
    )
    """Pictures of a curation that are compared with 10,000 test images."""
    neighbours: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [12_500, 25_000, 50_000, 60_000, 100_000, 150_000]
    )
    """Images of a discovery whose neighbours are looked for."""
    encoded: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [10_000, 100_000, 1_000_000]
    )
    """Images whose shards are planned, and then indexed."""
    adapted: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [10_000, 30_000, 100_000]
    )
    """Images to train on, imagined, and to test on, so many each, of a search and its evaluation;
    at least 800, of which shots are drawn."""
    rows: list[PositiveInt] = dataclasses.field(default_factory=lambda: [1_000, 4_000, 16_000])
    """Rows made by Ray Data in blocks, which take no time to be made."""
    painted: list[PositiveInt] = dataclasses.field(default_factory=lambda: [4_000, 16_000, 64_000])
    """Pictures whose small files are put together."""
    encoded_whole: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [100_000, 300_000, 1_000_000]
    )
    """Rows of a base set that `jobs.encode` encodes as a whole, of which 1 % have a picture."""
    searched: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [10_000, 30_000, 100_000]
    )
    """As `adapted`, of each of two datasets that `jobs.search` searches as a whole."""


def scaling(cfg: ScaleBench) -> dict[str, float]:
    """Every measurement, `STAGE_SIZE_…`, and the laws, `STAGE_…`."""
    rows = [
        *near_copies(cfg.pictures),
        *drivers_of_curations(cfg.drivers),
        *copies_of_tests(cfg.against_tests),
        *neighbours(cfg.neighbours),
        *features_indexed(cfg.encoded),
        *adaptations(cfg.adapted),
        *blocks_of_rows(cfg.rows),
        *files_together(cfg.painted),
        *whole_encodings(cfg.encoded_whole),
        *whole_searches(cfg.searched),
    ]
    named = [(f"{row['stage']}_{row['size']}", row) for row in rows]
    return _flat([*named, *((law["stage"], law) for law in laws(rows))])


def _flat(rows: list[tuple[str, Row]]) -> dict[str, float]:
    return {
        f"{key}_{name}".replace(" ", "_"): value
        for key, row in rows
        for name, value in row.items()
        if name not in ("stage", "size")
    }
