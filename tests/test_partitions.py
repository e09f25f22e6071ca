"""Nothing of ours reads columns out of a path: libraries do unless they are told not to."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
INFER = {"pq.read_table", "ray.data.read_parquet", "pandas.read_parquet", "pq.ParquetDataset"}
"""Calls that take a folder `id=7` for a column by default."""


def test_every_reader_of_parquet_is_told_not_to_infer_partitions() -> None:
    calls, inferring = 0, []
    for room in ("jobs", "actors", "models", "cluster"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in INFER:
                    calls += 1
                    if "partitioning" not in [keyword.arg for keyword in node.keywords]:
                        inferring.append(f"{path}:{node.lineno}")
    assert calls
    assert inferring == []
