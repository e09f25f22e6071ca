"""python -m jobs.bench NAME, of: synthesis, pretrain, adapt, search, discovery, worth, effect,
artists, scale, encodings, fuzz, towers

Measurements. Each prints a table and ends with one JSON line; what is to be compared between
machines are the ratios, measured within one run.
"""

import json
import os
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.job import one_line_for_users, parsed
from cluster.stopping import stoppable
from jobs.bench.adapt import AdaptBench, adapting
from jobs.bench.artists import ArtistsBench, artists
from jobs.bench.discovery import DiscoveryBench, discovering
from jobs.bench.effect import EffectBench, effect
from jobs.bench.encodings import EncodingsBench, encodings
from jobs.bench.fuzz.procedure import FuzzBench, fuzzing
from jobs.bench.pretrain import PretrainBench, pretraining
from jobs.bench.scale.procedure import ScaleBench, scaling
from jobs.bench.search.procedure import SearchBench, searching
from jobs.bench.synthesis import SynthesisBench, synthesis
from jobs.bench.towers import TowersBench, towers
from jobs.bench.worth import WorthBench, worth

Measure = Callable[[Any], dict[str, float]]
BENCHES: dict[str, tuple[type, Measure]] = {
    "synthesis": (SynthesisBench, synthesis),
    "pretrain": (PretrainBench, pretraining),
    "adapt": (AdaptBench, adapting),
    "search": (SearchBench, searching),
    "discovery": (DiscoveryBench, discovering),
    "worth": (WorthBench, worth),
    "effect": (EffectBench, effect),
    "artists": (ArtistsBench, artists),
    "scale": (ScaleBench, scaling),
    "encodings": (EncodingsBench, encodings),
    "fuzz": (FuzzBench, fuzzing),
    "towers": (TowersBench, towers),
}
"""What each is asked for, and what measures it."""


def main() -> None:
    """Measures what the command line names; a bad setting is one line and exit code 2."""
    cfg = parsed({name: config for name, (config, _) in BENCHES.items()})
    ((name, measure),) = ((n, run) for n, (config, run) in BENCHES.items() if type(cfg) is config)
    with one_line_for_users(), stoppable():
        figures = measure(cfg)
    _show(figures, Console(stderr=True))
    print(json.dumps({"bench": name, "cores": os.cpu_count(), **figures}))


def _show(figures: dict[str, float], console: Console) -> None:
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}")
    console.print(table)


if __name__ == "__main__":
    main()
