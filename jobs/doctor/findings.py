"""What this machine has and lacks for the jobs, and what state datasets are in."""

import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from actors.pictures.sources import read_image
from cluster.artifacts import open_complete
from cluster.catalog.benchmarks import BENCHMARKS
from cluster.catalog.layouts import benchmark_listing
from cluster.catalog.listing import MISSING, Listing
from cluster.catalog.missing import require_files
from cluster.connect import connect, ray_address
from cluster.errors import ConfigError
from cluster.launcher import unfilled
from cluster.storage import require_writable, resolve

LITTLE_SPACE = 20 << 30
"""Bytes free below which there is a warning."""
ENGINES = {
    "vllm": ("vllm",),
    "diffusers": ("diffusers",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
}
"""Module to the distributions that it may come from."""
SAMPLE = 200
"""Images of a dataset that are looked at, unless all are."""
AT_ONCE = 1024
NAMED = 3
"""Broken images or files that are named at most."""
# In a process of its own: it takes the weights' memory, and may not download them.
LOAD = (
    "import sys; from models.backbones import load_clip; print(load_clip(sys.argv[1]).weights_hash)"
)
OFFLINE = {"HF_HUB_OFFLINE": "1", "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": ""}


@dataclass(frozen=True)
class Finding:
    """One line of what the doctor says."""

    verdict: Literal["ok", "warn", "fail"]
    what: str
    words: str


def versions() -> Iterator[Finding]:
    """Python and what every job imports."""
    yield Finding("ok", "python", platform.python_version())
    for library in ("torch", "ray", "open_clip_torch", "pyarrow"):
        installed = _version(library)
        yield Finding("ok" if installed else "fail", library, installed or "not installed")


def engines() -> Iterator[Finding]:
    """Extras, looked for and not imported: only a job that asks for one needs it."""
    for module, distributions in ENGINES.items():
        if find_spec(module) is None:
            yield Finding("warn", module, "not installed; the embedded engines do without")
        else:
            yield Finding("ok", module, _version(*distributions) or "version unknown")


def gpus() -> Finding:
    """The GPUs that torch sees."""
    import torch

    names = Counter(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    if not names:
        return Finding("warn", "gpus", f"none that torch {torch.__version__} can use")
    return Finding("ok", "gpus", ", ".join(f"{count} x {name}" for name, count in names.items()))


def ray_cluster() -> Iterator[Finding]:
    """The cluster of RAY_ADDRESS; nothing where a job starts a Ray of its own."""
    address = ray_address()
    if address == "local":
        return
    import ray

    try:
        with connect():
            resources = ray.cluster_resources()
    except ConfigError as error:
        yield Finding("fail", "cluster", str(error))
        return
    words = ", ".join(f"{resources.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
    yield Finding("ok", "cluster", f"{address}: {words}")


def launcher(path: str) -> Iterator[Finding]:
    """Whether every value that only its user can know is in a launcher file."""
    try:
        places = unfilled(path)
    except ConfigError as error:
        yield Finding("fail", "launcher", str(error))
        return
    for place, text in places.items():
        words = f"{place} of {path!r}: {text!r}; allowed: a value of yours (docs/cluster.md)"
        yield Finding("fail", "launcher", words)
    if not places:
        yield Finding("ok", "launcher", f"{path}: every value is filled in")


def storage(root: str) -> Finding:
    """Whether it can be written, and what is free where that can be known."""
    uri = resolve(root)
    try:
        require_writable(uri, root)
    except ConfigError as error:
        return Finding("fail", "storage", str(error))
    if "://" in uri:
        return Finding("ok", "storage", f"{root} can be written")
    free = shutil.disk_usage(uri).free
    words = f"{root} can be written, {free / 2**30:.1f} GiB free"
    return Finding("warn" if free < LITTLE_SPACE else "ok", "storage", words)


def artifact(uri: str) -> Finding:
    """Whether all files of an artifact are there, with the bytes that its manifest says.

    Reads them all.
    """
    try:
        opened = open_complete(uri)
    except ConfigError as error:
        return Finding("fail", "artifact", str(error))
    changed = list(opened.changed())
    if changed:
        named = ", ".join(changed[:NAMED])
        return Finding("fail", "artifact", f"{uri}: {len(changed)} files are damaged: {named}")
    files = opened.manifest.files.values()
    size = sum(facts.size for facts in files)
    words = f"{uri}: {len(files)} files, {size / 1e9:.3g} GB, as they were published"
    unread = sum(facts.sha256 is None for facts in files)
    if unread:
        return Finding("warn", "artifact", f"{words}; {unread} of them have no hash, only a size")
    return Finding("ok", "artifact", words)


def weights(backbone: str) -> Finding:
    """Whether this CLIP loads from what is on this machine; a warning if it would be downloaded."""
    command = [sys.executable, "-c", LOAD, backbone]
    done = subprocess.run(command, env=os.environ | OFFLINE, capture_output=True, text=True)
    if done.returncode == 0:
        return Finding("ok", "weights", f"{backbone}, hash {done.stdout.strip()}")
    words = (done.stderr.strip().splitlines() or ["it could not be loaded"])[-1]
    if "/" in backbone and ":" not in backbone and not words.startswith("ValueError"):
        return Finding("warn", "weights", f"{backbone} is not on this machine: a job downloads it")
    return Finding("fail", "weights", words)


def benchmark(
    name: str, root: str, splits: dict[str, str | None], all_images: bool = False
) -> Finding:
    """A benchmark set under the root of all: its classes and files, and a sample of its images.

    splits: as `cluster.catalog.layouts.benchmark_listing` takes them.
    """
    try:
        listing = benchmark_listing(name, root, splits)
        require_files(name, listing, "root")
    except (ConfigError, OSError) as error:
        return Finding("fail", name, str(error))
    classes, expected = len(listing.concepts), BENCHMARKS[name].classes
    per_split = Counter(entry.split for entry in listing.entries)
    words = [f"{classes} classes, {', '.join(f'{n} {split}' for split, n in per_split.items())}"]
    if classes != expected:
        words.append(f"{expected} classes were expected")
    missing = listing.sizes.count(MISSING)
    if missing:
        words.append(f"{missing} files are missing")
    looked_at, broken = _broken(listing, all_images)
    if broken:
        named = "; ".join(broken[:NAMED])
        words.append(f"{len(broken)} of {looked_at} images looked at are broken: {named}")
    if len(words) > 1:
        return Finding("warn", name, "; ".join(words))
    return Finding("ok", name, f"{words[0]}; {looked_at} images looked at")


def _broken(listing: Listing, all_images: bool) -> tuple[int, list[str]]:
    """How many files were looked at, evenly spread, and those that are broken, with the reason."""
    there = [i for i, size in enumerate(listing.sizes) if size != MISSING]
    if not all_images:
        there = there[:: -(-len(there) // SAMPLE)]
    broken = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(there), AT_ONCE):  # a pool takes all that it is given at once
            part = there[start : start + AT_ONCE]
            for i, reason in zip(part, pool.map(partial(_reason, listing), part), strict=True):
                if reason:
                    broken.append(f"{listing.entries[i].file} ({reason})")
    return len(there), broken


def _reason(listing: Listing, i: int) -> str | None:
    """Why the image of an entry is refused; its bytes are let go of."""
    return read_image(listing, listing.entries[i])[1]


def _version(*distributions: str) -> str | None:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
