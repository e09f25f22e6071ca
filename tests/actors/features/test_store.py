"""Features in shards: what is written is what is read, however images lie and whatever is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from actors.features import store as store_module
from actors.features.encoding import SCHEMAS, Shard, ShardPlan, write_shard
from actors.features.plan import SCHEMA
from actors.features.shards import MAPPED, ShardSizes
from actors.features.store import FeatureStore
from cluster.artifacts import Artifact, draft
from cluster.errors import ConfigError
from cluster.pieces import Pieces

VIEWS = {"train": 2, "val": 1, "test": 1, "imagined": 1}
IMAGE = (3, 512)
COUNTS = {"train": 150, "val": 1, "test": 70, "imagined": 0}


def row_of(split: str, number: int) -> str:
    """An id that says what it is of."""
    return f"{split}/{number}".ljust(16).encode().hex()


def numbered(row: str) -> tuple[str, int]:
    split, number = bytes.fromhex(row).decode().split("/")
    return split, int(number)


BAD = {row_of("train", 7), row_of("train", 149), row_of("test", 64)}


def tokens_of(split: str, number: int) -> np.ndarray:
    """(V, T, D): other numbers for each image and view."""
    rng = np.random.default_rng([len(split), number])
    return rng.normal(size=(VIEWS[split], *IMAGE)).astype(np.float16)


def plan() -> pa.Table:
    """In order of id, which is not that of places."""
    rows: list[dict[str, Any]] = [
        dict.fromkeys(SCHEMA.names, f"{split}/{number}")
        | {"id": bytes.fromhex(row_of(split, number)), "split": split, "file": f"{number % 4}"}
        | {"source": "", "place": count - number, "label": number % 5, "views": VIEWS[split]}
        for split, count in COUNTS.items()
        for number in range(count)
    ]
    ordered = pa.Table.from_pylist(sorted(rows, key=lambda row: row["id"]))
    return ordered.select(SCHEMA.names).cast(SCHEMA)


def written(shard: Shard) -> dict[str, pa.Table]:
    """A shard whose images have `tokens_of`, but for BAD ones."""
    ids = shard.images["id"].tolist()
    encoded = [
        ("no image", b"") if row in BAD else ("", tokens_of(*numbered(row)).tobytes())
        for row in ids
    ]
    return write_shard(shard, IMAGE, encoded)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    out = draft(str(tmp_path_factory.mktemp("s")), "features", "toy", config=None, inputs={})
    encoding, pieces = ShardPlan(out, plan(), VIEWS, IMAGE), Pieces(out, SCHEMAS)
    for shard in encoding.shards():
        pieces.write(shard.key, written(shard))
    counts = encoding.write_index(pieces)
    assert counts == {
        "train": 148,
        "val": 1,
        "test": 69,
        "imagined": 0,
        "index": 218,
        "rejected": 3,
    }
    return FeatureStore(out.publish(counts, encoding.extra()).uri)


@pytest.fixture
def distant(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """The same store on a file system that is not this machine's: nothing of it can be mapped."""
    place = SubTreeFileSystem("/", LocalFileSystem()), store.artifact.uri.removeprefix("/")
    monkeypatch.setattr(Artifact, "filesystem", lambda self: place)
    return FeatureStore(store.artifact.uri)


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actors.features.shards.SHARD_IMAGES", 64)
        yield


def expected(split: str, ids: list[str]) -> torch.Tensor:
    each = [tokens_of(*numbered(row)) for row in ids]
    return torch.from_numpy(np.stack(each, axis=1))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_all_images_of_a_split_lie_in_order_of_id(store: FeatureStore, split: str) -> None:
    """Over several shards and views, without those that could not be decoded."""
    ids = sorted({row_of(split, number) for number in range(COUNTS[split])} - BAD)
    features = store.features(split)
    assert store.ids(split) == ids
    assert torch.equal(features.copied().tokens, expected(split, ids))
    assert features.labels.tolist() == [numbered(row)[1] % 5 for row in ids]
    places = store.places(split)
    assert torch.equal(features.stored[:, [places[row] for row in ids]], expected(split, ids))


def test_a_split_without_images_is_empty(store: FeatureStore) -> None:
    features = store.features("imagined")
    assert len(features) == 0
    assert features.clean.shape == (0, *IMAGE)


@pytest.mark.parametrize("there", ["store", "distant"])
def test_some_images_come_in_the_order_asked_for(
    there: str, request: pytest.FixtureRequest
) -> None:
    store = request.getfixturevalue(there)
    asked = [row_of("train", number) for number in (149, 3, 66, 2, 140)]
    features = store.rows("train", asked)
    assert torch.equal(features.tokens, expected("train", asked[1:]))
    assert features.labels.tolist() == [3, 1, 2, 0]
    assert len(store.rows("val", [])) == 0
    with pytest.raises(ConfigError, match=r"lack 1 of 2 train images .*select.draws"):
        store.rows("train", [row_of("train", 1), "nobody"])


def test_near_images_are_read_together(
    distant: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order, with gaps and without; each part of no more than a bound."""
    places = np.random.default_rng(0).permutation(64)[:40].tolist()
    sizes, rows = ShardSizes(64, 2, IMAGE, 64), np.argsort(places).tolist()
    assert len(list(store_module._near(rows, places, sizes))) == 1
    ids = sorted(set(distant.ids("train")), key=lambda row: row[::-1])
    for gap, most in ((0, 1), (0, 3), (1, 7), (64, 9)):
        monkeypatch.setattr(store_module, "GAP_BYTES", gap * sizes.image_bytes)
        monkeypatch.setattr(store_module, "READ_BYTES", most * sizes.image_bytes)
        parts = list(store_module._near(rows, places, sizes))
        assert [row for part in parts for row in part] == rows
        assert all(places[part[-1]] - places[part[0]] < most for part in parts)
        assert torch.equal(distant.rows("train", ids).tokens, expected("train", ids))


def test_a_distant_split_is_copied_and_no_other(distant: FeatureStore) -> None:
    ids = distant.ids("test")
    assert torch.equal(distant.features("test").copied().tokens, expected("test", ids))
    folder = distant.artifact.local_dir("test")
    assert not folder.is_relative_to(distant.artifact.uri)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"view-0"}


def test_the_manifest_has_every_hash(store: FeatureStore) -> None:
    files = store.artifact.manifest.files
    assert {name for name in files if name.endswith(".f16")} >= {"train/view-1/000002.f16"}
    assert all(facts.sha256 for facts in files.values())
    assert not list(store.artifact.changed())


def test_pieces_of_another_plan_are_not_taken(tmp_path: Path) -> None:
    out = draft(str(tmp_path), "features", "toy", config=None, inputs={})
    pieces = Pieces(out, SCHEMAS)
    for shard in ShardPlan(out, plan(), VIEWS, IMAGE).shards():
        pieces.write(shard.key, written(shard))
    fewer = ShardPlan(out, plan().slice(1), VIEWS, IMAGE)
    with pytest.raises(RuntimeError, match="other images"):
        fewer.write_index(pieces)


def test_a_shard_fills_whole_pages_unless_it_is_the_last() -> None:
    for image in ((197, 512), (65, 128), (3, 2), (257, 1024), (729, 1152)):
        sizes = ShardSizes.of(100_000, 4, image)
        assert sizes.images * sizes.image_bytes % MAPPED == 0
        ranges = list(sizes.ranges())
        assert [r.start for r in ranges[1:]] == [r.stop for r in ranges[:-1]]
        assert ranges[-1].stop == 100_000
    assert ShardSizes.of(100_000, 4, (197, 512)).images == 64


def test_a_manifest_without_shards_is_one_line(tmp_path: Path) -> None:
    out = draft(str(tmp_path), "features", "toy", config=None, inputs={})
    artifact = out.publish({}, {"shards": {"train": {"count": 1}}})
    with pytest.raises(ConfigError, match=r"^features: .*says nothing of shards"):
        FeatureStore(artifact.uri)
