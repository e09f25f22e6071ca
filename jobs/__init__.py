"""Entry points: `python -m jobs.NAME`, locally or by `ray job submit`."""

import cluster.connect  # noqa: F401 -- sets Ray's environment before any other module imports Ray

__path__.append(f"{__path__[0]}/former")  # `python -m jobs.captions` says what it is now
