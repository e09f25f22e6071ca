"""`python -m jobs.bench artists` on two small sets."""

from pathlib import Path

import pytest

from actors.embedded import target_scenes
from cluster.errors import ConfigError
from cluster.pool import Pool
from jobs.bench.artists import ArtistsBench, artists

pytestmark = pytest.mark.ray


def test_names_fail_features_cluster_and_learned_names_restore(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_scenes, "PER_CLASS", {"train": 4, "val": 4, "test": 8})
    cfg = ArtistsBench(
        storage=str(tmp_path),
        artists=["noto_colour"],
        datasets=["tools", "digits"],
        seeds=[0],
        pool=Pool(workers=1),
    )
    values = artists(cfg)
    lines = {
        f"{drawer}_{line}"
        for drawer in ("noto_colour", "digits")
        for line in ("OOP_zero_shot", "OOP_class_means", "OOP_fsnl")
    } | {"noto_colour_IP_zero_shot", "noto_colour_IP_fsnl"}  # digits have no IP class
    assert set(values) == lines | {f"{line}_datasets" for line in lines}
    for drawer in ("noto_colour", "digits"):
        names, learned = values[f"{drawer}_OOP_zero_shot"], values[f"{drawer}_OOP_fsnl"]
        assert names < values[f"{drawer}_OOP_class_means"]
        assert names < learned


def test_no_artist_is_refused() -> None:
    with pytest.raises(ConfigError, match="artists: none; allowed: at least one"):
        ArtistsBench(artists=[])
