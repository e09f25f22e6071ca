"""Versions of a driver and its workers are compared."""

from cluster.worker_versions import Versions

DRIVER = {"python": "3.11.7", "torch": "2.14.1+cpu", "ray": "2.60.0"}


def test_what_is_alike_is_told_and_a_library_that_the_driver_lacks_has_one_version() -> None:
    versions = Versions(DRIVER)
    assert versions.of_workers() == {}
    painter = {"python": "3.11.9", "torch": "2.14.1+cu130", "diffusers": "0.42"}
    assert versions.differences(painter) == []
    assert versions.of_workers() == painter
    other = painter | {"diffusers": "0.41", "torch": "2.14"}
    assert versions.differences(other) == [
        "torch 2.14 (elsewhere 2.14.1+cpu)",
        "diffusers 0.41 (elsewhere 0.42)",
    ]
    assert versions.differences({"ray": "2.60.0", "vllm": "0.33"}) == []
    assert versions.of_workers() == painter | {"ray": "2.60.0", "vllm": "0.33"}
