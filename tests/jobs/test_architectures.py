"""What is said of architectures, without their weights."""

import json
from pathlib import Path

import open_clip
import pytest

from jobs.doctor.architectures import line, table
from jobs.doctor.towers import towers
from models.architectures import facts
from models.building import built
from tests.models.towers.families import FAMILIES, family_clip, family_config

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"


@pytest.mark.long
def test_the_table_is_what_the_architectures_are() -> None:
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("|")]
    assert rows == list(table())


@pytest.mark.parametrize("arch", ["RN50", "ViT-B-16", "EVA02-B-16", "ViT-B-16-SigLIP2"])
def test_a_row_of_the_table_is_of_its_architecture(arch: str) -> None:
    config = open_clip.get_model_config(arch)
    assert config
    assert line(arch, facts(config)) in PAGE.read_text().splitlines()


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_are_those_of_the_loaded_tower(family: str, tmp_path: Path) -> None:
    clip = family_clip(family, tmp_path)
    here = facts(family_config(family, tmp_path))
    assert here.gifts | here.unknown == clip.gifts
    assert (here.image_size, here.embed_dim) == (clip.image_size, clip.embed_dim)
    assert here.patches == clip.num_tokens - 1
    if family == "roberta":
        assert here.text
    else:
        assert here.parameters == sum(p.numel() for p in clip.model.parameters())


@pytest.mark.parametrize(
    ("backbone", "verdict", "parts"),
    [
        ("tiny", "ok", ["64 patches", "fits every method", "pretraining fits"]),
        ("RN50/openai", "ok", ["224 pixels", "no tokens of patches", "0.41 GB", "not class_means"]),
        ("MobileCLIP2-S0/dfndr2b", "warn", ["256 pixels", "licence: Apple's: for research only"]),
        (
            "ViT-B-16-SigLIP2/webli",
            "ok",
            ["196 patches", "fits every", "licence: Apache-2.0 (see timm/ViT-B-16-SigLIP2"],
        ),
        ("ViT-B-16/metaclip_400m", "warn", ["licence: CC-BY-NC-4.0: not for commercial use"]),
        ("ViT-B-16/laion2b_s34b_b88k", "ok", ["licence: MIT"]),
        ("RN50/yfcc15m", "ok", ["licence: unknown (see timm/"]),
        (
            "roberta-ViT-B-32/laion2b_s12b_b32k",
            "ok",
            ["by its text tower perhaps coop, cocoop, clip_lora, fsnl"],
        ),
        ("ViT-B-16/nothing", "fail", ["allowed are", "laion400m_e32"]),
        ("huge", "fail", ["ARCH/TAG"]),
    ],
)
def test_the_doctor_answers_before_anything_is_fetched(
    backbone: str, verdict: str, parts: list[str]
) -> None:
    finding = towers(backbone)
    assert finding.verdict == verdict
    assert all(part in finding.words for part in parts), finding.words


def test_a_foreign_config_fails_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"x")
    config = {"embed_dim": 8, "vision_cfg": {"timm_model_name": "hf-hub:a/b"}, "text_cfg": {}}
    (tmp_path / "w.json").write_text(json.dumps(config))
    finding = towers(f"config:{tmp_path / 'w.pt'}")
    assert finding.verdict == "fail"
    assert "'hf-hub:a/b' is no model of timm" in finding.words
    with pytest.raises(ValueError, match="no model of timm"):
        built(config)
