"""The caption job with language models that talk nonsense: what they write is refused, with its
reason, and asked for again."""

from pathlib import Path

import pyarrow as pa
import pytest

from actors.synthesis.captions.writer import WriterConfig
from actors.synthesis.captions.writers.endpoint import EndpointWriter
from actors.synthesis.captions.writers.vllm import VllmWriter
from actors.synthesis.language_models.stages import Sampling
from cluster.artifacts import Artifact, draft
from cluster.pool import Pool
from jobs.synthesize import SynthesizeConfig, synthesize
from tests.vllm.conftest import SECRET
from tests.vllm.engine import ENGINE_POOL, settings
from tests.vllm.server import SERVED_NAME

SHORT = Sampling(max_tokens=12)
CLASSES = ["heron", "owl"]


@pytest.fixture
def factors(tmp_path: Path) -> Artifact:
    out = draft(str(tmp_path), "factors", "toys", content={}, config={}, inputs={})
    rows = [
        {"dataset": "toys", "class_name": name, "label": label, "group": "IP", "hint": "animal"}
        | {"attributes": ["red"], "backgrounds": ["at sea"], "viewpoints": [], "lightings": []}
        | {"degradations": [], "examples": {mode: [f"A {name}."] for mode in ("Base", "BG")}}
        for label, name in enumerate(CLASSES)
    ]
    out.write_table("classes", pa.Table.from_pylist(rows))
    return out.publish({"classes": len(rows)})


def written(factors: Artifact, writer: WriterConfig) -> Artifact:
    storage = str(Path(factors.uri).parents[1])
    return synthesize(
        SynthesizeConfig(storage=storage, factors=factors.uri, writer=writer, painter=None)
    )


def check(made: Artifact, writer: WriterConfig) -> None:
    rows = made.read_table("rows").to_pylist()
    assert len({row["caption_id"] for row in rows}) == len(rows) == 2 * writer.per_class
    assert made.manifest.rows == {"rows": len(rows), "refused": len(rows)}
    assert {row["counter"] for row in rows} == {writer.attempts - 1}
    assert len({row["caption"] for row in rows}) == len(rows), "not one text of its own for each"
    assert {row["reason"] for row in rows} <= {f"does not name {name!r}" for name in CLASSES}
    counted = made.read_table("refusals").to_pylist()
    assert sum(row["count"] for row in counted) == writer.attempts * len(rows)


def test_captions_by_vllm(factors: Artifact, tiny_llama: Path, local_ray: None) -> None:
    engine = VllmWriter(**settings(tiny_llama), sampling=SHORT)
    writer = WriterConfig(per_class=10, attempts=1, vllm=engine, pool=ENGINE_POOL)
    check(written(factors, writer), writer)


def test_captions_by_a_server(factors: Artifact, base_url: str, local_ray: None) -> None:
    server = EndpointWriter(base_url=base_url, model=SERVED_NAME, concurrent=4, sampling=SHORT)
    writer = WriterConfig(per_class=10, attempts=2, endpoint=server, pool=Pool(workers=1))
    made = written(factors, writer)
    check(made, writer)
    files = [path for path in Path(made.uri).rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
