from pathlib import Path

import pytest

from actors.pretraining.config import PretrainerConfig
from actors.synthesis.captions.writer import WriterConfig
from actors.synthesis.painters.painter import PainterConfig
from actors.synthesis.painters.sprites import SpritesConfig
from cluster.errors import ConfigError
from jobs.dataset import DatasetSpec
from jobs.world import WorldConfig, world
from tests.small_trees import folder_tree


def test_a_name_longer_than_clip_reads_is_refused_before_a_caption_is_written(
    tmp_path: Path,
) -> None:
    folder_tree(tmp_path / "zoo", {"ant": 1, "okapi": 1})
    (tmp_path / "zoo" / "classnames.txt").write_text(f"ant ant\nokapi {'okapi ' * 80}\n")
    spec = DatasetSpec(name="zoo", folder=str(tmp_path / "zoo"))
    cfg = WorldConfig(datasets=[spec], pretrainer=PretrainerConfig())
    with pytest.raises(ConfigError, match=r"dataset zoo: class name 'okapi .* allowed 1 to 75"):
        world(str(tmp_path / "runs"), cfg)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["dataset"]


def test_a_batch_larger_than_all_captions_is_refused_before_one_is_written(tmp_path: Path) -> None:
    folder_tree(tmp_path / "zoo", {"cat": 1, "owl": 1})
    spec = DatasetSpec(name="zoo", folder=str(tmp_path / "zoo"))
    writer = WriterConfig(per_class=4)
    cfg = WorldConfig(datasets=[spec], writer=writer, pretrainer=PretrainerConfig(batch_size=9))
    with pytest.raises(ConfigError, match=r"pretrainer.batch_size: 9; allowed: from 4 .* to 8,"):
        world(str(tmp_path / "runs"), cfg)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"dataset", "factors"}


def test_who_draws_a_dataset_paints_no_base_set_of_it() -> None:
    spec = DatasetSpec(name="animals", artist="noto_colour")
    painter = PainterConfig(sprites=SpritesConfig(hands=("openmoji", "noto_colour+poster")))
    with pytest.raises(ConfigError, match=r"noto_colour draws the dataset animals; allowed: hands"):
        WorldConfig(datasets=[spec], painter=painter, pretrainer=PretrainerConfig())
