"""python -m jobs.report: see `jobs.report.job`."""

from cluster.job import run_job
from jobs.report.job import ReportConfig, report

if __name__ == "__main__":
    run_job(ReportConfig, report)
