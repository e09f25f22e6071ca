"""python -m jobs.bench synthesis | pretrain | adapt | search | discovery

Measurements. Each prints a table and ends with one JSON line; what is to be compared between
machines are the ratios, measured within one run.
"""

import json
import os

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from jobs.bench.adapt import AdaptBench, adapting
from jobs.bench.discovery import DiscoveryBench, discovering
from jobs.bench.pretrain import PretrainBench, pretraining
from jobs.bench.search.procedure import SearchBench, searching
from jobs.bench.synthesis import SynthesisBench, synthesis


def main() -> None:
    """Measures what the command line names."""
    cfg = auto_cli(
        {
            "synthesis": SynthesisBench,
            "pretrain": PretrainBench,
            "adapt": AdaptBench,
            "search": SearchBench,
            "discovery": DiscoveryBench,
        },
        as_positional=False,
    )
    match cfg:
        case SynthesisBench():
            name, figures = "synthesis", synthesis(cfg)
        case PretrainBench():
            name, figures = "pretrain", pretraining(cfg)
        case AdaptBench():
            name, figures = "adapt", adapting(cfg)
        case SearchBench():
            name, figures = "search", searching(cfg)
        case DiscoveryBench():
            name, figures = "discovery", discovering(cfg)
    _show(figures, Console(stderr=True))
    print(json.dumps({"bench": name, "cores": os.cpu_count(), **figures}))


def _show(figures: dict[str, float], console: Console) -> None:
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}")
    console.print(table)


if __name__ == "__main__":
    main()
