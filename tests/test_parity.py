"""Numbers of the original implementation, and that the comparison can fail."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity import ALLOWED, main, parity

IMAGINEFSL = Path(__file__).parent / "golden" / "imaginefsl"


@pytest.mark.parametrize("golden", ["imaginefsl", "fsnl"])
def test_the_command_passes_on_the_committed_goldens(golden: str) -> None:
    assert main([str(IMAGINEFSL.with_name(golden))]) == 0


def test_pretraining_is_the_originals() -> None:
    errors = parity(IMAGINEFSL)
    assert {"tokens", "masked tokens", "loss", "student after three steps"} <= errors.keys()
    assert max(errors.values()) <= ALLOWED


@pytest.mark.parametrize(
    "quantity", ["backbone_tokens_masked", "step2.loss", "step1.grad_mask_token", "moments.out"]
)
def test_a_wrong_number_is_found(tmp_path: Path, quantity: str) -> None:
    folder = shutil.copytree(IMAGINEFSL, tmp_path / "golden")
    golden = dict(np.load(folder / "golden.npz"))
    golden[quantity] = golden[quantity] * 1.001
    np.savez(folder / "golden.npz", **golden)
    assert main([str(folder)]) == 1


def test_sinkhorn_is_compared_where_the_original_did_not_overflow(tmp_path: Path) -> None:
    """The golden's logits reach 6.4, and exp(6.4 / 0.07) is no float32: its output is all NaN."""
    folder = shutil.copytree(IMAGINEFSL, tmp_path / "golden")
    golden = dict(np.load(folder / "golden.npz"))
    assert np.isnan(golden["sinkhorn.out"]).all()
    golden["sinkhorn.out"] = np.full_like(golden["sinkhorn.out"], 0.5)
    np.savez(folder / "golden.npz", **golden)
    assert parity(folder)["sinkhorn"] > ALLOWED


def test_nan_where_the_golden_is_finite_is_found(tmp_path: Path) -> None:
    folder = shutil.copytree(IMAGINEFSL, tmp_path / "golden")
    golden = dict(np.load(folder / "golden.npz"))
    golden["moments.in"][0, 0, 0] = np.nan
    np.savez(folder / "golden.npz", **golden)
    assert main([str(folder)]) == 1


def test_a_wrong_weight_is_found(tmp_path: Path) -> None:
    folder = shutil.copytree(IMAGINEFSL, tmp_path / "golden")
    after = torch.load(folder / "after_3_steps.pth", weights_only=True)
    after["teacher"]["adapter.blocks.1.mlp.fc2.weight"] *= 1.001
    torch.save(after, folder / "after_3_steps.pth")
    assert main([str(folder)]) == 1


def test_another_learning_rate_is_found(tmp_path: Path) -> None:
    folder = shutil.copytree(IMAGINEFSL, tmp_path / "golden")
    config = json.loads((folder / "config.json").read_text())
    config["optimizer"]["lr"] *= 1.01
    (folder / "config.json").write_text(json.dumps(config))
    assert main([str(folder)]) == 1


def test_a_folder_without_config_is_no_golden(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2
