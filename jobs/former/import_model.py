"""`python -m jobs.import_model`, as it was."""

from cluster.job import refuse

if __name__ == "__main__":
    refuse(
        "jobs.import_model is now jobs.import_ teacher, with --file, or jobs.import_ model, "
        "without the prefix fine_tuned"
    )
