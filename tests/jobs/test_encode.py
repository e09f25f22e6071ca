"""Images to features on local Ray."""

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.features.encoder import Encoder, EncoderConfig
from actors.features.encoding import ShardPlan
from actors.features.plan import encoding_plan
from actors.features.store import FeatureStore
from actors.pictures.base_set import open_base_set_rows
from actors.pictures.places import texts_of_ids
from cluster.catalog.dataset import open_dataset
from cluster.errors import ConfigError
from cluster.pieces import Pieces
from cluster.pool import Pool
from jobs.encode import EncodeConfig, encode
from tests.actors.small_world import CONCEPTS, IMAGES, make_base_set, make_dataset

BAD = 2
ENCODER = EncoderConfig(views=2, imagined_views=2, precision="fp32")
VIEWS = {"train": 2, "val": 1, "test": 1, "imagined": 2}


@pytest.fixture(scope="module")
def cfg(tmp_path_factory: pytest.TempPathFactory) -> EncodeConfig:
    storage = tmp_path_factory.mktemp("encode")
    dataset, base_set = make_dataset(storage, bad=BAD), make_base_set(storage)
    return EncodeConfig(
        storage=str(storage),
        datasets=[dataset.artifact.uri],
        base_set=base_set.uri,
        encoder=ENCODER,
        pool=Pool(workers=1),
    )


@pytest.fixture(scope="module")
def store(cfg: EncodeConfig, local_ray: None) -> FeatureStore:
    (features,) = encode(cfg)
    return FeatureStore(features.uri)


def test_every_image_has_its_tokens(store: FeatureStore, cfg: EncodeConfig) -> None:
    counts = {split: len(CONCEPTS) * count for split, count in IMAGES.items()}
    counts |= {"train": counts["train"] - BAD, "imagined": len(CONCEPTS) * 2}
    for split, count in counts.items():
        features = store.features(split)
        tokens = features.copied().tokens
        assert tokens.shape == (VIEWS[split], count, 65, 128)
        assert tokens.dtype == torch.half
        names = [CONCEPTS[label].name for label in features.labels]
        assert names == store.index[split]["class_name"].to_pylist()


def test_tokens_are_those_of_their_row(store: FeatureStore, cfg: EncodeConfig) -> None:
    assert cfg.base_set
    base_set = open_base_set_rows(cfg.base_set)
    plan = texts_of_ids(encoding_plan(open_dataset(cfg.datasets[0]), base_set, VIEWS)).to_pylist()
    good = [row for row in plan if row["id"] in set(store.index["imagined"]["id"].to_pylist())][::5]
    batch = {name: np.array([row[name] for row in good]) for name in good[0]}
    alone = Encoder(ENCODER)(batch)["tokens"]
    tokens = store.rows("imagined", [row["id"] for row in good]).tokens
    for place in range(len(good)):
        expected = torch.frombuffer(bytearray(alone[place]), dtype=torch.half).view(2, 65, 128)
        torch.testing.assert_close(tokens[:, place], expected, atol=1e-2, rtol=1e-2)


def test_a_truncated_image_is_a_rejected_row(store: FeatureStore) -> None:
    rejected = store.artifact.read_table("rejected").to_pylist()
    assert len(rejected) == store.rejected == BAD
    assert {(row["class_name"], row["split"]) for row in rejected} == {("cat", "train")}
    assert all("not a readable image" in row["reason"] for row in rejected)


def test_what_is_done_is_not_done_twice(
    store: FeatureStore, cfg: EncodeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(cfg) == [store.artifact]
    assert "done before" in capsys.readouterr().err
    assert list(Path(cfg.storage).glob("encoding/*")) == [], "the working folder is gone"


def test_a_run_broken_off_between_two_datasets_encodes_nothing_again(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [make_dataset(tmp_path, images={"train": 2, "val": n, "test": 1}) for n in (1, 2)]
    both = EncodeConfig(
        storage=str(tmp_path),
        datasets=[dataset.artifact.uri for dataset in sets],
        encoder=ENCODER,
        pool=Pool(workers=1),
    )
    write_index = ShardPlan.write_index
    written: list[dict[str, int]] = []

    def shards() -> dict[str, int]:
        files = tmp_path.glob("features/*/*/*/*.f16")
        return {str(path): path.stat().st_mtime_ns for path in files}

    def breaks_at_the_second(encoding: ShardPlan, pieces: Pieces) -> dict[str, int]:
        if written:
            raise KeyboardInterrupt
        written.append(shards())
        return write_index(encoding, pieces)

    def notes(encoding: ShardPlan, pieces: Pieces) -> dict[str, int]:
        written.append(shards())
        return write_index(encoding, pieces)

    monkeypatch.setattr(ShardPlan, "write_index", breaks_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        encode(both)
    monkeypatch.setattr(ShardPlan, "write_index", notes)
    made = encode(both)
    assert [features.manifest.rows["val"] for features in made] == [
        len(CONCEPTS),
        2 * len(CONCEPTS),
    ]
    assert len(written) == 2, "the first dataset was published before"
    assert written[0]
    assert written[0] == written[1]
    assert len(FeatureStore(made[1].uri).features("test")) == len(CONCEPTS)


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = EncodeConfig(
        storage=str(tmp_path), datasets=[make_dataset(tmp_path).artifact.uri], encoder=ENCODER
    )
    rows = len(CONCEPTS) * sum(count * VIEWS[split] for split, count in IMAGES.items())
    need = rows * 65 * 128 * 2
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(need, 1, need - 1))
    with pytest.raises(ConfigError, match=r"storage: '.*' has 0\.0 GB free, and encoding needs"):
        encode(cfg)
    assert f"encode: 96 images in {rows} views, " in capsys.readouterr().err
