"""Growth of what curation and discovery look for: near-copies, test images, neighbours.

Each in a process of its own with one thread, on drawn hashes and vectors. Seconds are the process's
own CPU seconds, which other load on the machine changes little; memory is what it held at most
beyond what it began with, the vectors (1 kB each in a curation, 2 kB in a discovery) among it.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch

from actors.curation.copies import first_likes_here
from actors.curation.decisions import CONTAMINATED, DUPLICATE
from actors.curation.likeness import NONE, Pictures, nearest
from jobs.bench.apart import apart, peak
from jobs.bench.scale.growth import Row
from kernels.neighbours import EXACT_KEYS, NeighbourIndex
from kernels.neighbours import nearest as nearest_exact

DIM = 512
NEIGHBOURS = 8
COPIES = 20
"""Of so many pictures one is a near-copy of another."""
TEST_IMAGES = 10_000
QUERIES = 1024
"""Queries whose exact neighbours are looked up for the recall."""
CLASSES, DIRECTIONS = 1000, 64
AT_ONCE = 8192


def near_copies(sizes: Sequence[int]) -> list[Row]:
    """Near-copies among so many pictures, by hash and embedding; `copies`: how many."""
    return [_row("near copies", size, apart(_near_copies, size)) for size in sizes]


def copies_of_tests(sizes: Sequence[int]) -> list[Row]:
    """So many pictures against TEST_IMAGES test images."""
    return [_row("copies of test images", size, apart(_copies_of_tests, size)) for size in sizes]


def neighbours(sizes: Sequence[int]) -> list[Row]:
    """The nearest NEIGHBOURS of so many vectors among themselves, by all or by inverted lists.

    `recall`: share of the true ones; `exact_seconds`: of all by comparing all, calculated from
    QUERIES of them. Stages: `exact neighbours` up to EXACT_KEYS, `listed neighbours` beyond.
    """
    return [
        _row(f"{'exact' if size <= EXACT_KEYS else 'listed'} neighbours", size, measurements)
        for size, measurements in ((size, apart(_neighbours, size)) for size in sizes)
    ]


def _row(stage: str, size: int, measurements: dict[str, float]) -> Row:
    return {"stage": stage, "size": size, **measurements}


def _near_copies(size: int) -> dict[str, float]:
    before, pictures = peak(), drawn_pictures(size)
    started = time.process_time()
    likes = first_likes_here(pictures, np.arange(size), DUPLICATE, lambda _: None)
    seconds = time.process_time() - started
    copies = int((likes != NONE).sum())
    return {"seconds": seconds, "peak_mb": peak() - before, "copies": copies}


def _copies_of_tests(size: int) -> dict[str, float]:
    before, pictures, tests = peak(), drawn_pictures(size), drawn_pictures(TEST_IMAGES, seed=1)
    started = time.process_time()
    nearest(pictures, np.arange(size), tests, CONTAMINATED, lambda _: None)
    return {"seconds": time.process_time() - started, "peak_mb": peak() - before}


def _neighbours(size: int) -> dict[str, float]:
    torch.set_num_threads(1)
    before, vectors = peak(), torch.from_numpy(_vectors(size, np.dtype(np.float32)))
    started = time.process_time()
    itself = torch.arange(size)
    _, places = NeighbourIndex(vectors).nearest(vectors, NEIGHBOURS, itself)
    seconds, held = time.process_time() - started, peak() - before
    some = itself[:: max(1, size // QUERIES)][:QUERIES]
    started = time.process_time()
    _, expected = nearest_exact(vectors[some], vectors, NEIGHBOURS, some)
    exact = (time.process_time() - started) * size / len(some)
    hits = (places[some, :, None] == expected[:, None]).any(dim=1)
    return {
        "seconds": seconds,
        "peak_mb": held,
        "recall": hits.float().mean().item(),
        "exact_seconds": exact,
    }


def drawn_pictures(size: int, dimensions: int = DIM, seed: int = 0) -> Pictures:
    """Random hashes; one of COPIES is up to 6 bits from another, whose embedding it has."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, size, dtype=np.uint64)
    embeddings = _vectors(size, np.dtype(np.float16), dimensions, seed)
    copies = rng.permutation(size)[: size // COPIES]
    sources = rng.integers(0, size, len(copies))
    bits = np.left_shift(np.uint64(1), rng.integers(0, 64, (len(copies), 6)).astype(np.uint64))
    hashes[copies] = hashes[sources] ^ np.bitwise_or.reduce(bits, axis=1)
    embeddings[copies] = embeddings[sources]
    return Pictures(hashes, embeddings)


def _vectors(size: int, dtype: np.dtype, dimensions: int = DIM, seed: int = 0) -> np.ndarray:
    """(size, dimensions) of unit length: a class, less of DIRECTIONS that all share, and noise."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((CLASSES, dimensions), dtype=np.float32)
    shared = rng.standard_normal((DIRECTIONS, dimensions), dtype=np.float32) / DIRECTIONS**0.5
    vectors = np.empty((size, dimensions), dtype=dtype)
    for start in range(0, size, AT_ONCE):
        part = vectors[start : start + AT_ONCE]
        along = rng.standard_normal((len(part), DIRECTIONS), dtype=np.float32) @ shared
        noise = rng.standard_normal((len(part), dimensions), dtype=np.float32)
        drawn = centres[rng.integers(CLASSES, size=len(part))] + 0.7 * along + 0.5 * noise
        part[:] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return vectors
