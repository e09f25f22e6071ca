"""Connecting a job to Ray: to the cluster it was sent to, else to a local Ray of its own.

A job connects when the first of its steps needs Ray (`require_ray`): what is done before, what is
refused and what needs no Ray starts none.
"""

import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before Ray is imported: it reads these once.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# A step that forgot to ask for Ray is an error, not another local Ray.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
# Every result of a job is asked for, and its error raised. What nobody asks for is of work beside
# one that has failed already, or of the actor that counts for Ray's dashboard: where that had to be
# started again, Ray Data has it count for datasets that it does not know (a KeyError).
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
# Stages show their own progress (cluster/progress.py).
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
# Ray prints what befalls nodes and workers on stdout, with twenty lines of a log, even with
# `log_to_driver=False`: none of these lines. What matters of it is raised, or said by
# cluster/nodes.py.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
os.environ.setdefault("RAY_DATA_LOG_LEVEL", "WARNING")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # else Tune prints a table even at verbose=0
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # cluster/stopping.py has one
# Tune runs each trial in a thread of its own, and glibc gives a thread an arena of its own, which
# keeps what was freed: a worker of the demo's search grew to 2.6 GB, with one arena to 1.3.
os.environ.setdefault("MALLOC_ARENA_MAX", "1")
# Processes that read the ends of Parquet files before their rows. Here one does, which reads many
# files at once: Ray's default, 32 that last for one reading, took more time than small stages.
# Workers of a cluster do not get this from here.
os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
# Workers that start side by side. Ray's default, the cores, makes it warn on a small machine.
os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "4")

import ray

from cluster.errors import ConfigError, one_line
from cluster.heard import stderr_without

logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # "bars disabled"
# "No CPU is free", where a pipeline begins again while the workers of the last try are still going.
logging.getLogger("ray.data.dataset").setLevel(logging.ERROR)
# They announce, with a stack trace, what is raised in the driver right behind.
for _announcer in (
    "ray.data.exceptions",
    "ray.data._internal.execution.streaming_executor_state",
    "ray.tune.execution.tune_controller",
):
    logging.getLogger(_announcer).setLevel(logging.CRITICAL)

# Ray Data spills to disk beyond it. Ray's own default, 30 % of the memory, is too much of a laptop.
OBJECT_STORE_BYTES = 400_000_000
LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"
"""Environment variable of Ray's processes; below it they write no line of their own."""
START_SECONDS = 60
"""In which Ray has to be there."""
ANSWER_SECONDS = 10
"""In which the address of a cluster has to answer."""
LONGEST_SOCKET = 107
"""Bytes of the path of a Unix socket."""
SOCKET = "session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""As long as Ray's longest path of a socket gets, below its folder for temporary files."""


@contextmanager
def connect(cpus: int | None = None) -> Iterator[None]:
    """Connected to Ray inside; a no-op in a process that is connected already."""
    with ray_ended():
        require_ray(cpus)
        yield


@contextmanager
def ray_ended() -> Iterator[None]:
    """Ends, when it is left, the connection to Ray that was made inside."""
    before = ray.is_initialized()
    try:
        yield
    finally:
        if not before and ray.is_initialized():
            ray.shutdown()


def require_ray(cpus: int | None = None) -> None:
    """Connects this process to Ray, unless it is connected already.

    With RAY_ADDRESS (set by a user, or by `ray job submit`) joins that cluster; otherwise starts a
    local Ray with `cpus` logical CPUs.
    cpus: default max(4, cores). A resumed Ray Data job needs up to one CPU more than its stages,
    and on two cores with two logical CPUs would wait for ever.
    Raises ConfigError if no cluster answers, or Ray cannot start. A start that takes longer than
    START_SECONDS ends the process, for nothing else ends it: one line, exit code 2.
    """
    if ray.is_initialized():
        return
    address = ray_address()
    if address == "local":
        _start(
            "ray",
            address="local",
            num_cpus=cpus or max(4, os.cpu_count() or 1),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=_own_folder(),
        )
    else:
        _require_answer(address)
        # Of this process alone, which starts no other of Ray's here: it would write a line on
        # stderr where it makes again what was lost with a node. What it cannot make is raised.
        os.environ.setdefault(LOG_LEVEL, "fatal")
        _start(f"RAY_ADDRESS: {address!r}", runtime_env=_code_for_workers())
        from cluster.worker_versions import compare_workers  # an actor of its own, which connects

        compare_workers()


def ray_address() -> str:
    """Where the cluster is; "local" if a job starts a Ray of its own."""
    return os.environ.get("RAY_ADDRESS") or "local"


def _start(what: str, **settings: Any) -> None:
    """`ray.init`, within START_SECONDS; what fails is one line."""
    terminate = signal.getsignal(signal.SIGTERM)
    # What it says of a failure is in the error; that it has read LOG_LEVEL, it says, too.
    with stderr_without(LOG_LEVEL) as real_stderr:
        watch = threading.Timer(START_SECONDS, _give_up, (what, real_stderr))
        watch.daemon = True
        watch.start()
        try:
            # What fails later is raised in the driver; the rest is in Ray's logs.
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **settings)
        except Exception as error:  # Ray has no common class of what can go wrong here
            raise ConfigError(
                f"{what}: Ray cannot be used ({type(error).__name__}: {one_line(error)}); allowed: "
                "a running cluster in RAY_ADDRESS, or none for a Ray of this machine's own"
            ) from error
        finally:
            watch.cancel()
    if terminate is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)  # Ray has put its own there
    logging.getLogger("ray").setLevel(logging.ERROR)
    _hear_the_warning_of_restarts()


def _give_up(what: str, stderr: int) -> None:
    """In a thread: the main one is inside Ray, where nothing can be raised."""
    line = f"error: {what}: no Ray within {START_SECONDS} s; allowed: a cluster that answers, or a "
    os.write(stderr, f"{line}machine with free memory and CPUs\n".encode())
    os._exit(2)


class _Restartable:
    """An actor that never does anything."""

    def __init__(self, argument: object) -> None:
        pass


def _hear_the_warning_of_restarts() -> None:
    """Takes a warning that Ray gives once in a process, for the first actor of its kind.

    It says that an actor which Ray may start again has arguments in the object store, where they
    could be lost. All pools of Ray Data have such; their arguments live as long as the driver,
    without which there is nothing to be made.
    """
    with stderr_without("has constructor arguments in the object store and max_restarts > 0"):
        kind: Any = ray.remote(num_cpus=0, max_restarts=1)(_Restartable)
        ray.kill(kind.remote(ray.put(None)))


def _own_folder() -> str:
    """A folder of this user for Ray's temporary files, which nobody else may enter.

    Ray makes its own folders writable by all. Raises ConfigError if there cannot be one, or a path
    below it would be too long for a socket.
    """
    variable = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    base = os.environ.get(variable) if variable == "RAY_TMPDIR" else tempfile.gettempdir()
    folder = Path(str(base)).absolute() / f"ray-{os.getuid()}"
    longest = LONGEST_SOCKET - len(f"/{folder.name}/{SOCKET}")
    if len(os.fsencode(folder.parent)) > longest:
        raise ConfigError(
            f"{variable}: {str(folder.parent)!r} is too long for Ray's sockets; allowed: at most "
            f"{longest} bytes"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        if folder.is_symlink() or state.st_uid != os.getuid():
            raise ConfigError(
                f"{variable}: {str(folder)!r} is of another user; allowed: a folder of one's own"
            )
        folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"{variable}: {str(folder)!r} cannot be made ({one_line(error)}); allowed: a folder in "
            "which this user may create folders"
        ) from error
    return str(folder)


def _require_answer(address: str) -> None:
    """ConfigError if nobody listens at HOST:PORT; Ray itself asks for ten minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isdigit()):
        return  # "auto", or what Ray has a word for
    try:
        with contextlib.closing(
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS)
        ):
            pass
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"RAY_ADDRESS: {address!r} does not answer ({one_line(error)}); allowed: a running "
            "cluster's, or none for a Ray of this machine's own"
        ) from error


def _code_for_workers() -> dict[str, Any] | None:
    """The checkout as working directory of all workers, if this driver runs from one.

    A submitted job has been given its working directory already; an installed package is on every
    node by the cluster's set-up commands.
    """
    root = Path(__file__).resolve().parents[1]
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if submitted or not (root / "pyproject.toml").exists():
        return None
    return {"working_dir": str(root)}
