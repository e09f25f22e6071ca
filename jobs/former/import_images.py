"""`python -m jobs.import_images`, as it was."""

from cluster.job import refuse

if __name__ == "__main__":
    refuse("jobs.import_images is now jobs.import_ images")
