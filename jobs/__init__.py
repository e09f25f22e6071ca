"""Entry points: `python -m jobs.NAME`, locally or by `ray job submit`."""

import cluster.connect  # noqa: F401 -- sets Ray's environment before any other module imports Ray
