"""`python -m jobs.images`, as it was."""

from cluster.job import refuse

if __name__ == "__main__":
    refuse("jobs.images is now jobs.synthesize with --captions")
