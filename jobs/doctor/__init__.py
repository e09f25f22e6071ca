"""`python -m jobs.doctor`: what a machine and its datasets lack."""
