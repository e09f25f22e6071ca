"""How stages grow: seconds and memory at several sizes, the law that fits them, and what it says of
sizes that are not run."""
