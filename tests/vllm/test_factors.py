"""Factors asked from a real server: random weights, but structured outputs keep to the schemas."""

import dataclasses
import re
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq
import pytest

from actors.synthesis.factors import questions as factor_questions
from actors.synthesis.factors.answers import COUNTS, WORDS
from actors.synthesis.factors.tables import MODES
from actors.synthesis.language_models.endpoint import EndpointConfig
from cluster.artifacts import Draft
from cluster.errors import ConfigError
from jobs.factors import FactorsConfig, factors
from tests.jobs.small_datasets import dataset_of
from tests.vllm.conftest import SECRET
from tests.vllm.server import SERVED_NAME

NAMES = ("beagle", "crème brûlée (F-16A/B)")
EXAMPLES = 2
AT_ONCE = 4
"""More prompts at once would be read in chunks, and chunks and seeds together end vLLM's engine on
a CPU ("CPU Generator does not use offset")."""
NOBODY = "http://127.0.0.1:9/v1"


def interrupted(*_: Any, **__: Any) -> NoReturn:
    raise KeyboardInterrupt


def text_of(path: Path) -> str:
    """What a file holds; Parquet is compressed."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return f"{table.schema} {table.to_pylist()}"
    return path.read_text("utf-8", errors="replace")


def test_a_real_server_fills_the_table(
    base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_ray: None
) -> None:
    monkeypatch.setattr(factor_questions, "EXAMPLES", EXAMPLES)
    pets = dataset_of(tmp_path, "pets", NAMES, "animal")
    endpoint = EndpointConfig(
        base_url=base_url, model=SERVED_NAME, timeout_s=300, concurrent=AT_ONCE
    )
    cfg = FactorsConfig(storage=str(tmp_path), datasets=[pets.artifact.uri], endpoint=endpoint)
    with monkeypatch.context() as patch:
        patch.setattr(Draft, "publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            factors(cfg)

    # It was killed just before the end: nobody is asked now, as nobody would answer.
    alone = dataclasses.replace(endpoint, base_url=NOBODY, tries=1)
    made = factors(dataclasses.replace(cfg, endpoint=alone))
    assert made.manifest.rows == {"classes": len(NAMES), "refused": 0}
    rows = made.read_table("classes").to_pylist()
    for row, name in zip(rows, NAMES, strict=True):
        for kind, (fewest, most) in COUNTS.items():
            assert fewest <= len(set(row[kind])) <= most
        for mode in MODES:
            assert len(row["examples"][mode]) == EXAMPLES
            for caption in row["examples"][mode]:
                assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", caption, re.IGNORECASE)
                assert len(caption.split()) <= WORDS
    assert rows[0]["attributes"] != rows[1]["attributes"]
    assert rows[0]["lightings"] == rows[1]["lightings"]

    texts = {path: text_of(path) for path in tmp_path.rglob("*") if path.is_file()}
    assert any(NOBODY in text for text in texts.values())
    assert [path for path, text in texts.items() if SECRET in text] == []


def test_a_key_that_is_not_accepted_is_said(base_url: str, tmp_path: Path, local_ray: None) -> None:
    pets = dataset_of(tmp_path, "pets", NAMES[:1], "animal")
    endpoint = EndpointConfig(base_url=base_url, model=SERVED_NAME, key_variable="NO_SUCH_KEY")
    cfg = FactorsConfig(storage=str(tmp_path), datasets=[pets.artifact.uri], endpoint=endpoint)
    with pytest.raises(ConfigError, match=r"5 of 5 answers .*5 x HTTP 401: the key in NO_SUCH_KEY"):
        factors(cfg)
