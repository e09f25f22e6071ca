"""The bench of image towers, on a small one."""

import pytest

from cluster.errors import ConfigError
from jobs.bench.towers import TowersBench, towers


def test_each_arithmetic_is_measured_beside_open_clips_own() -> None:
    measurements = towers(TowersBench(archs=["PE-Core-T-16-384"], images=1, passes=1))
    assert measurements.keys() == {
        f"PE-Core-T-16-384_{precision}_{name}"
        for precision in ("fp32", "bf16")
        for name in ("images_per_s", "tokens_over_open_clip", "feature_over_open_clip")
    }
    assert all(value > 0 for value in measurements.values())


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"archs: 'ViT-Z'; allowed: .*list_models"):
        TowersBench(archs=["ViT-Z"])
