"""`python -m jobs.export_model`, as it was."""

from cluster.job import refuse

if __name__ == "__main__":
    refuse("jobs.export_model is now jobs.export teacher, or jobs.export model")
