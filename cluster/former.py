"""Options of earlier versions, and what they are called now."""

import re

RENAMED = {
    "workers": "pool.workers",
    "gpu": "pool.gpus, a number",
    "gpus_per_worker": "pool.gpus",
    "cpus_per_trial": "pool.cpus",
    "gpus_per_trial": "pool.gpus",
    "concurrent": "pool.workers",
    "max_workers": "workers",
    "min_workers": "workers alone, which come as there is work",
}
"""Last part of a dotted name to what stands in its place, behind the same prefix."""
MOVED = {
    "captions_per_class": "writer.per_class",
    "engines_max": "writer.pool.workers",
    "engines_min": "writer.pool.workers alone, which come as there is work",
    "resources": "writer.pool",
    "sampling": "writer.vllm.sampling or writer.endpoint.sampling",
}
"""Last part of a dotted name to what stands in its place, wherever it was."""
_NAMES = re.compile(r"(?:--|[Oo]ption ')([\w.]+)")


def former_options(message: str) -> list[str]:
    """What is to be said about each former option in a parser's complaint about unknown ones."""
    lines = []
    for name in _NAMES.findall(message):
        prefix, dot, last = name.rpartition(".")
        if last in RENAMED:
            lines.append(f"{name} is now {prefix}{dot}{RENAMED[last]}")
        elif last in MOVED:
            lines.append(f"{name} is now {MOVED[last]}")
    return lines
