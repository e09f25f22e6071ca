"""The libraries that the workers of a cluster compute with: they must be the driver's."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import ray

from cluster.beside_driver import actor_beside_driver
from cluster.errors import ConfigError, built
from cluster.provenance import library_versions

Worker = TypeVar("Worker", bound=Callable[[Any], Any])


class Versions:
    """Those of a driver, and what its workers have besides.

    A library that the driver lacks, such as a painter's, has the version of the first worker that
    has it. Python's is only told: Ray itself refuses another one.
    """

    def __init__(self, driver: Mapping[str, str]) -> None:
        self._required, self._workers = dict(driver), dict[str, str]()

    def differences(self, worker: Mapping[str, str]) -> list[str]:
        """In words, what a worker has in another version; without any, it is one of the workers.

        What a version says behind a plus sign, for which device it was built, makes no difference.
        """
        differing = [
            f"{library} {version} (elsewhere {self._required[library]})"
            for library, version in worker.items()
            if library != "python" and not _alike(version, self._required.get(library, version))
        ]
        if not differing:
            self._required = {**worker, **self._required}
            self._workers = {**worker, **self._workers}
        return differing

    def of_workers(self) -> dict[str, str]:
        """Of all libraries that any worker has; empty before the first one."""
        return self._workers


_beside_driver: Any = None
"""The actor lives as long as this process holds it."""


def compare_workers() -> None:
    """From now on this driver's workers must have its versions; see `require_driver_versions`."""
    global _beside_driver
    _beside_driver = actor_beside_driver(Versions, library_versions(), name=_name())


def worker_versions() -> dict[str, str]:
    """Of the libraries that this driver's workers have computed with so far.

    Empty on a Ray of this machine's own, whose workers have the driver's.
    """
    versions = _of_driver()
    return ray.get(versions.of_workers.remote()) if versions else {}


def require_driver_versions() -> None:
    """For a worker, once, before it computes.

    Raises ConfigError if it has a library that changes bytes in another version than its driver or
    than the workers before it.
    """
    versions = _of_driver()
    if versions and (differing := ray.get(versions.differences.remote(library_versions()))):
        raise ConfigError(
            f"versions: a worker on {ray.util.get_node_ip_address()} has {', '.join(differing)}; "
            "allowed: the same on all nodes, those of requirements.lock"
        )


def built_alike(make: Callable[[], Worker]) -> Callable[[Any], Any]:
    """`cluster.errors.built` on a worker that has its driver's versions."""
    return built(partial(_alike_made, make))


def _alike_made(make: Callable[[], Worker]) -> Worker:
    require_driver_versions()
    return make()


def _of_driver() -> Any:
    """The actor of this process's driver; None without one."""
    if ray.is_initialized():
        with contextlib.suppress(ValueError):  # no actor has this name
            return ray.get_actor(_name())
    return None


def _name() -> str:
    return f"versions-{ray.get_runtime_context().get_job_id()}"


def _alike(version: str, other: str) -> bool:
    return version.partition("+")[0] == other.partition("+")[0]
