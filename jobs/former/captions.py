"""`python -m jobs.captions`, as it was."""

from cluster.job import refuse

if __name__ == "__main__":
    refuse("jobs.captions is now jobs.synthesize with --painter null")
