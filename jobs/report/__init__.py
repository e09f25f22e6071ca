"""`python -m jobs.report`: what was run and measured, on a page that opens from disk."""
