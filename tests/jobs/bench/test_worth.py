"""What `python -m jobs.bench worth` measures, on numbers by hand and on a small world."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from actors.features.store import FeatureStore
from cluster.artifacts import Artifact, draft
from cluster.catalog.dataset import Concept
from cluster.errors import ConfigError
from jobs.bench.__main__ import main
from jobs.bench.imagined import found_by_means, trained_with_labels
from jobs.bench.worth import WorthBench, gains, labels, pairs, prototypes
from jobs.report.sources import result_scores
from jobs.report.statistics.scores import Score
from models.backbones import load_clip
from models.methods.imagine_model import ImagineModel
from models.moment_adapter import AdapterConfig, MomentAdapter
from models.task import Features
from tests.actors.small_world import SMALL_ADAPTER, make_dataset, make_features
from tests.jobs.report.report_artifacts import SEEDS, write_sources

CONCEPTS = [Concept("cat", "IP"), Concept("okapi", "OOP")]
ADAPTER = AdapterConfig(**SMALL_ADAPTER)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorthBench:
    """A dataset of six classes, its features, and a teacher that has learned nothing."""
    folder = tmp_path_factory.mktemp("world")
    dataset = make_dataset(folder)
    return WorthBench(
        datasets=[dataset.artifact.uri],
        features=[make_features(folder, dataset).uri],
        teacher=write_teacher(folder).uri,
        shots=[1, 4],
        seeds=[0, 1],
        epochs=2,
    )


def write_teacher(storage: Path) -> Artifact:
    """A random adapter, as `jobs.pretrain` writes it."""
    clip = load_clip("tiny")
    out = draft(str(storage), "teacher", "random", content={}, config={}, inputs={})
    torch.manual_seed(0)
    state = MomentAdapter(clip.embed_dim, ADAPTER).state_dict()
    tensors = {f"adapter.{name}": tensor for name, tensor in state.items()}
    out.write_bytes("teacher.safetensors", save(tensors))
    sizes = {"dim": clip.embed_dim, "adapter": dataclasses.asdict(ADAPTER)}
    out.write_json(
        "model.json", {"backbone": clip.backbone, "weights_hash": clip.weights_hash, **sizes}
    )
    return out.publish({"steps": 0})


def score(method: str, dataset: str, seed: int, value: float, shots: int = 4) -> Score:
    return Score(dataset, method, seed, "accuracy", "all", value, shots, f"drawn {dataset} {seed}")


def test_gains_are_means_over_datasets_of_means_over_seeds() -> None:
    scores = [score("b", d, s, 0.5 + 0.1 * s) for d in ("food", "music", "tools") for s in (0, 1)]
    of_a = {"food": (0.1, 0.3), "music": (0.3, 0.3), "tools": (-0.1, 0.3)}
    scores += [score("a", d, s, 0.5 + 0.1 * s + g[s]) for d, g in of_a.items() for s in (0, 1)]
    # 20, 30 and 10 points: s = 10; t(0.975, 2) = 4.302653; 4.302653 * 10 / sqrt(3)
    assert gains(scores, "a", "b") == {
        "gain_4_shots": pytest.approx(20),
        "half_width_4_shots": pytest.approx(24.84138, abs=1e-5),
        "datasets_4_shots": 3,
        "ahead_4_shots": 3,
    }
    one = [s for s in scores if s.dataset == "tools"]
    assert gains(one, "b", "a") == {
        "gain_4_shots": pytest.approx(-10), "datasets_4_shots": 1, "ahead_4_shots": 0,
    }  # fmt: skip


def test_pairs_are_of_the_accuracies_of_an_artifact(tmp_path: Path) -> None:
    results = write_sources(tmp_path).results
    value = {
        (s.dataset, s.method, s.shots, s.seed): s.value
        for s in result_scores(results)
        if s.measure == "accuracy" and s.label_space == "all"
    }
    measurements = pairs(WorthBench(results=results.uri))
    for shots in (1, 4):
        gain = [
            sum(
                value[d, "imaginefsl", shots, seed] - value[d, "imaginefsl-scratch", shots, seed]
                for seed in SEEDS
            )
            / len(SEEDS)
            for d in ("animals", "digits")
        ]
        assert measurements[f"gain_{shots}_shots"] == pytest.approx(50 * sum(gain))
        # t(0.975, 1) = 12.706205; s / sqrt(2) of two numbers is half their distance
        half = 12.706205 * 50 * abs(gain[0] - gain[1])
        assert measurements[f"half_width_{shots}_shots"] == pytest.approx(half, rel=1e-6)
        assert measurements[f"ahead_{shots}_shots"] == sum(g > 0 for g in gain)


def features(directions: list[list[float]], numbers: list[int]) -> Features:
    """One view of images of two tokens, of which the second one is not looked at."""
    tokens = torch.tensor([[direction, [9.0, -9.0]] for direction in directions])
    return Features(tokens[None], torch.tensor(numbers))


def test_nearest_means_by_hand() -> None:
    # cat at 0°, twice, and 90°: its mean of unit-norm features lies at 26.6°. okapi at 180°.
    known = features([[2, 0], [5, 0], [0, 1], [-1, 0]], [0, 0, 0, 1])
    # Both classes are chosen from: of the cats at 0°, 90° and 150° the last one is called an okapi,
    # and the okapis, at 10° and 180°, do not count.
    cats = [[1.0, 0.0], [0.0, 3.0], [-0.866, 0.5]]
    test = features([*cats, [0.985, 0.174], [-1, 0]], [0, 0, 0, 1, 1])
    assert found_by_means(known, test, CONCEPTS) == pytest.approx(2 / 3)


def test_a_class_without_images_is_named() -> None:
    one = features([[1, 0]], [0])
    with pytest.raises(ConfigError, match="no image of class 'okapi'"):
        found_by_means(one, one, CONCEPTS)


def test_prototypes_of_a_small_world(world: WorthBench) -> None:
    measurements = prototypes(world)
    names = {"imagined_toys", "few_1_shots_toys", "few_4_shots_toys"}
    assert measurements.keys() == names
    # Of twelve images, three of six classes: four shots tell more than chance, 17 %.
    assert measurements["few_4_shots_toys"] > 50
    twelfths = measurements["imagined_toys"] * 12 / 100
    assert twelfths == pytest.approx(round(twelfths))


def test_an_adapter_learns_from_the_labels_of_imagined_images(world: WorthBench) -> None:
    imagined = FeatureStore(world.features[0]).features("imagined")
    two = [imagined, imagined]  # as of two datasets: twice as many classes, pairwise alike
    model = trained_with_labels(two, ADAPTER, epochs=40)
    torch.manual_seed(0)
    random = ImagineModel(imagined.stored.shape[-1], 12, ADAPTER, "auto")

    def right(model: ImagineModel) -> float:
        """Share of images whose class is right, of whichever of the two datasets."""
        answers = model.predict(imagined.clean)[0].argmax(dim=1) % 6
        return (answers == imagined.labels).double().mean().item()

    assert right(model) > 0.9 > 0.5 > right(random)
    before = random.adapter.state_dict()
    assert all((w != before[name]).any() for name, w in model.adapter.state_dict().items())


def test_both_teachers_are_set_against_none(world: WorthBench) -> None:
    cfg = dataclasses.replace(world, shots=[1])
    measurements = labels(cfg)
    of_one = ("gain_1_shots", "datasets_1_shots", "ahead_1_shots")
    assert [*measurements] == [f"{who}_{x}" for who in ("labels", "moment_dino") for x in of_one]
    # Shares of 24 test images, means over two seeds.
    for who in ("labels", "moment_dino"):
        assert measurements[f"{who}_datasets_1_shots"] == 1
        images = measurements[f"{who}_gain_1_shots"] * 48 / 100
        assert images == pytest.approx(round(images))
    assert labels(cfg) == measurements


BAD = {
    "no results": ([], "results: none"),
    "no datasets": (["--part", "prototypes"], "datasets: none"),
    "no such dataset of a world": (["--world.datasets", "[zoo]"], "'zoo'"),
    "no such part": (["--part", "all"], '"part"'),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_one_line_and_exit_2(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, named = BAD[name]
    monkeypatch.setattr(sys, "argv", ["bench", "worth", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    line = capsys.readouterr().err
    assert (ended.value.code, line.count("\n")) == (2, 1)
    assert named in line


def test_artifacts_that_do_not_serve_are_refused(world: WorthBench, tmp_path: Path) -> None:
    results = write_sources(tmp_path).results.uri
    with pytest.raises(ConfigError, match="allowed, with the same shots: two of linear-probe"):
        pairs(WorthBench(results=results, against="zero-shot"))
    with pytest.raises(ConfigError, match="targets: 'zoo'; allowed: toys"):
        prototypes(dataclasses.replace(world, targets=["zoo"]))
    with pytest.raises(ConfigError, match="teacher: none"):
        labels(dataclasses.replace(world, teacher=None))


def test_the_command_line_prints_what_was_measured(
    world: WorthBench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts = [f"--datasets={json.dumps(world.datasets)}", f"--features={world.features}"]
    arguments = ["--part=prototypes", "--shots=[4]", "--seeds=[0, 1]", *artifacts]
    monkeypatch.setattr(sys, "argv", ["bench", "worth", *arguments])
    main()
    printed = json.loads(capsys.readouterr().out)
    assert printed["bench"] == "worth"
    assert printed["few_4_shots_toys"] == prototypes(world)["few_4_shots_toys"]
