"""The laws of growth, and what they are fitted to."""

import math
from pathlib import Path

import numpy as np
import pytest

from jobs.bench.apart import own_memory
from jobs.bench.scale import adaptation, likeness, tables, whole
from jobs.bench.scale.growth import exponent, laws
from jobs.bench.scale.procedure import ScaleBench, scaling


def test_a_power_of_the_size_is_found_and_calculated_on() -> None:
    rows = [
        {"stage": stage, "size": n, "seconds": 2e-9 * n**power, "peak_mb": 100 + n / 1000}
        for stage, power in (("square", 2), ("line", 1))
        for n in (1_000, 10_000, 100_000)
    ]
    square, line = laws([*rows, {"stage": "one", "size": 5, "seconds": 1.0, "peak_mb": 1.0}])
    assert (square["stage"], line["stage"]) == ("square", "line")
    assert square["exponent"] == pytest.approx(2)
    assert exponent(rows[3:]) == pytest.approx(1)
    assert square["hours_1000000"] == pytest.approx(2e3 / 3600)
    assert line["hours_100000000"] == pytest.approx(0.2 / 3600)
    assert line["peak_gb_1000000"] == pytest.approx(1100 / 1024)


def test_what_curation_and_discovery_look_for_is_measured() -> None:
    copies = likeness._near_copies(5_000)
    assert 0.8 < copies["copies"] / 250 <= 1  # some are copies of what is a copy itself
    tests, exact = likeness._copies_of_tests(1_000), likeness._neighbours(2_000)
    assert exact["recall"] == 1
    assert all(row["seconds"] > 0 for row in (copies, tests, exact))


def test_what_is_done_to_tables_of_rows_is_measured() -> None:
    for measurements in (tables._features_indexed(3000), tables._files_together(50)):
        assert measurements.keys() == {"seconds", "peak_mb"}
        assert measurements["seconds"] > 0


def test_what_a_search_and_an_evaluation_do_about_images_is_measured(tmp_path: Path) -> None:
    """What is learned depends on the drawn shots, and all test images are answered."""
    world = adaptation.write_world(str(tmp_path), 1_000)
    search = (adaptation._driver_of_a_search(world), adaptation._worker_of_a_search(world))
    assert all(row["seconds"] > 0 and row["peak_mb"] >= 0 for row in search)
    evaluation = adaptation._worker_of_an_evaluation(world)
    assert evaluation["images"] == 1_000
    assert evaluation["seconds"] > 0


def test_memory_of_a_process_is_what_lies_in_no_file(tmp_path: Path) -> None:
    (tmp_path / "mapped").write_bytes(bytes(64 << 20))
    with own_memory() as memory:
        assert not np.memmap(tmp_path / "mapped", np.uint8, "r").any()
    assert memory.highest < 16
    with own_memory() as memory:
        ones = np.ones(64 << 20, np.uint8)
    assert memory.highest > 32
    assert ones.all(), "in memory until it was looked at"


@pytest.mark.ray
def test_whole_jobs_are_measured(tmp_path: Path, local_ray: None) -> None:
    encoding = whole._encoding(str(tmp_path / "encoding"), 250)
    assert encoding["rejected"] == 250 - 3 + 3, "all but three pictures, and the dataset's own"
    search = whole._search(str(tmp_path / "search"), 800)
    assert search["trials"] == 2 * 3 * 4  # datasets, cells of each, trials of each
    for figures in (encoding, search):
        assert min(figures["seconds"], figures["worker_mb"], figures["files"]) > 0


@pytest.mark.ray
def test_the_bench_measures_apart_and_prints_numbers_alone() -> None:
    cfg = ScaleBench(
        pictures=[500, 1_000],
        drivers=[400],
        against_tests=[],
        neighbours=[300],
        rows=[20],
        adapted=[],
        encoded=[],
        painted=[],
        encoded_whole=[],
        searched=[],
    )
    figures = scaling(cfg)
    assert figures["near_copies_1000_copies"] <= 50
    assert figures["near_copies_1000_peak_mb"] > 0
    assert "near_copies_exponent" in figures
    assert 300 < figures["driver_of_a_curation_400_kept"] < 400
    assert figures["rows_in_blocks_20_blocks"] == 2
    assert "exact_neighbours_300_seconds" in figures
    assert "exact_neighbours_exponent" not in figures
    assert all(math.isfinite(value) for value in figures.values())
