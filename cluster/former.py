"""Options of earlier versions, and what they are called now."""

import re

FORMER_OPTIONS = {
    "workers": "pool.workers",
    "gpu": "pool.gpus, a number",
    "gpus_per_worker": "pool.gpus",
    "cpus_per_trial": "pool.cpus",
    "gpus_per_trial": "pool.gpus",
    "concurrent": "pool.workers",
    "max_workers": "workers",
    "min_workers": "workers alone; they come as there is work",
    "engines_max": "pool.workers",
    "engines_min": "pool.workers alone; engines come as there is work",
    "resources": "pool",
}
"""Last part of a dotted name to what stands in its place."""
_NAMES = re.compile(r"(?:--|[Oo]ption ')([\w.]+)")


def former_options(message: str) -> list[str]:
    """What is to be said about each former option in a parser's complaint about unknown ones."""
    lines = []
    for name in _NAMES.findall(message):
        prefix, dot, last = name.rpartition(".")
        if last in FORMER_OPTIONS:
            lines.append(f"{name} is now {prefix}{dot}{FORMER_OPTIONS[last]}")
    return lines
