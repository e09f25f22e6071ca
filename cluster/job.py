"""The command line that every job has: --config, dotted overrides, --print_config, clear errors."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, auto_cli, get_loader, set_loader, set_parsing_settings

from cluster.artifacts import Artifact
from cluster.connect import ray_ended
from cluster.errors import ConfigError, one_line, printed, refusal
from cluster.former import former_options
from cluster.stopping import stoppable
from cluster.text_files import read_text

set_parsing_settings(docstring_parse_attribute_docstrings=True)
_load_yaml = get_loader("yaml")

Config = TypeVar("Config")


def _load(text: str) -> Any:
    """YAML. Text that is well formed and makes no value, such as `!!int x`, a whole number of 5,000
    digits or lists in 10,000 lists, is a YAMLError, too."""
    try:
        return _load_yaml(text)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise yaml.YAMLError(one_line(error)) from error


set_loader("yaml", _load, (yaml.YAMLError,))


def run_job(
    config_type: type[Config],
    function: Callable[[Config], Artifact | None],
    recipe: Path | None = None,
) -> None:
    """Parses the command line into a config and runs the job; its result is a line of JSON.

    A step that needs Ray connects to it (`cluster.connect.require_ray`); it is ended here.

    recipe: a config file whose values are the defaults, for a job that runs without arguments.

    A bad setting, found here, by the job or by a worker, is one line on stderr and exit code 2;
    Ctrl-C and SIGTERM are one line, within seconds. A job that returns None has printed its own
    closing lines.
    """
    _run(function, parsed(config_type, recipe))


def run_jobs(jobs: Mapping[str, tuple[type, Callable[[Any], Artifact | None]]]) -> None:
    """`run_job` with a choice: the command line begins with the name of one of the jobs.

    jobs: name to config, of a type that no other has, and function.
    """
    cfg = parsed({name: config_type for name, (config_type, _) in jobs.items()})
    (function,) = (run for config_type, run in jobs.values() if type(cfg) is config_type)
    _run(function, cfg)


def parsed(config_type: Any, recipe: Path | None = None) -> Any:
    """The config that the command line says; see `run_job`.

    config_type: a dataclass, or several by the name that the command line begins with.
    """
    defaults = [str(recipe)] if recipe else []
    try:
        return auto_cli(
            config_type,
            as_positional=False,
            parser_class=OneLineParser,
            default_config_files=defaults,
        )
    except ConfigError as error:  # of a part that refuses itself
        refuse(str(error))
    except UnicodeDecodeError:
        _refuse_config_files()
        raise


def _refuse_config_files() -> None:
    """Names the file of --config that is no UTF-8, and its line."""
    values = [value for flag, value in pairwise(sys.argv) if flag == "--config"]
    values += [flag.partition("=")[2] for flag in sys.argv if flag.startswith("--config=")]
    try:
        for value in values:
            read_text(value, "config")
    except ConfigError as error:
        refuse(str(error))


def show_made(artifact: Artifact) -> None:
    """The JSON line of an artifact that a job has made, on stdout."""
    print(json.dumps({"kind": artifact.manifest.kind, "artifact": artifact.uri}), flush=True)


@contextmanager
def one_line_for_users() -> Iterator[None]:
    """Ends the process with one line, exit code 2, if what is raised inside is what a user can
    mend, here or in a worker."""
    try:
        yield
    except Exception as error:
        if (refused := refusal(error)) is None:
            raise
        refuse(str(refused))


def _run(function: Callable[[Any], Artifact | None], cfg: Any) -> None:
    with one_line_for_users(), stoppable(), ray_ended():
        artifact = function(cfg)
    if artifact is not None:
        show_made(artifact)


class OneLineParser(ArgumentParser):
    """Says what is wrong in one line, without the usage; takes no beginning of a name for it."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False} | settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # asked whether a value fits one of several types
            super().error(message, ex)
        refuse("; ".join([message, *former_options(message)]))

    def instantiate(self, *args: Any, **kwargs: Any) -> Any:
        """The configuration; ConfigError of one that refuses itself, also inside `Config | None`,
        where jsonargparse makes a ValueError of it."""
        try:
            return super().instantiate(*args, **kwargs)
        except ValueError as error:
            if (refused := refusal(error)) is None:
                raise
            raise ConfigError(str(refused)) from error


def refuse(message: str) -> NoReturn:
    """Ends the process: one line on stderr, exit code 2."""
    print(f"error: {printed(message)}", file=sys.stderr)
    sys.exit(2)
