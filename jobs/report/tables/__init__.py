"""The tables of a report, and the one idea of a table."""
