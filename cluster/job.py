"""The command line that every job has: --config, dotted overrides, --print_config, clear errors."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from jsonargparse import ArgumentParser, auto_cli, set_parsing_settings

from cluster.artifacts import Artifact
from cluster.connect import connect
from cluster.errors import ConfigError

set_parsing_settings(docstring_parse_attribute_docstrings=True)

Config = TypeVar("Config")


def run_job(
    config_type: type[Config],
    function: Callable[[Config], Artifact | None],
    recipe: Path | None = None,
) -> None:
    """Parses the command line into a config and runs the job on Ray; its result is a line of JSON.

    recipe: a config file whose values are the defaults, for a job that runs without arguments.

    A bad setting, found here (before Ray starts) or by the job, is one line on stderr and exit
    code 2. A job that returns None has printed its own closing lines.
    """
    defaults = [str(recipe)] if recipe else []
    try:
        cfg = auto_cli(
            config_type,
            as_positional=False,
            parser_class=OneLineParser,
            default_config_files=defaults,
        )
        with connect():
            artifact = function(cfg)
    except ConfigError as error:  # also of a configuration that refuses itself, before Ray starts
        refuse(str(error))
    if artifact is not None:
        print(json.dumps({"kind": artifact.manifest.kind, "artifact": artifact.uri}))


class OneLineParser(ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # asked whether a value fits one of several types
            super().error(message, ex)
        refuse(message)


def refuse(message: str) -> NoReturn:
    """Ends the process: one line on stderr, exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
