"""Synthesis that is killed again and again ends with the bytes of a run that was not."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.synthesis.captions.writer import WriterConfig
from cluster.artifacts import Artifact, open_artifact
from jobs.synthesize import SynthesizeConfig, synthesize
from tests.faults.under_fire import DRIVER, Fire

pytestmark = pytest.mark.ray
KILLS = int(os.environ.get("KILLS", 6))
SEED = 2026
PER_CLASS = 30
STAGES = {name: rf"MapBatches\({name}\)" for name in ("GrammarWriter", "Acceptance", "Counted")}
"""Of Ray Data: caption engine, acceptance, painters."""
LONGEST_WAIT = 8.0
"""Seconds in which stages are at work, before a kill."""


def test_random_kills_change_nothing(
    table: Artifact, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    unbroken = synthesize(
        SynthesizeConfig(
            storage=str(tmp_path / "unbroken"),
            factors=table.uri,
            writer=WriterConfig(per_class=PER_CLASS),
        )
    )
    fire = Fire(KILLS, STAGES, LONGEST_WAIT, np.random.default_rng(SEED))
    while fire.killed.total() < KILLS:
        storage = tmp_path_factory.mktemp("killed")
        command = [sys.executable, "-m", "jobs.synthesize", "--storage", str(storage)]
        fire.run([*command, "--factors", table.uri, f"--writer.per_class={PER_CLASS}"])
        (folder,) = storage.glob("images/*")
        made = open_artifact(str(folder), "images")
        assert made.read_table("rows").equals(unbroken.read_table("rows"))
        assert made.manifest.rows == unbroken.manifest.rows
    print(f"killed: {dict(fire.killed)}")
    assert fire.killed[DRIVER] * fire.killed["Counted"] > 0
