"""Entry points: `python -m jobs.NAME`, locally or by `ray job submit`."""

from cluster.stopping import quiet_interrupts

quiet_interrupts()  # before the seconds that the imports of a job take

# It sets Ray's environment before any other module imports Ray.
import cluster.connect  # noqa: E402, F401

__path__.append(f"{__path__[0]}/former")  # `python -m jobs.captions` says what it is now
