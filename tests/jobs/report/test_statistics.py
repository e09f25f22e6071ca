"""Means, intervals, pairs and H-mean against numbers computed by hand."""

import pytest

from jobs.report.statistics.differences import (
    against_zero_shot,
    all_paired,
    below_zero_shot,
    paired,
    verdict,
)
from jobs.report.statistics.scores import (
    AVERAGE,
    H_MEAN,
    HALVES,
    Score,
    estimate,
    few_shot_scores,
    generalisation,
    h_mean,
    summaries,
    with_average,
    with_h_mean,
)


def row(
    method: str,
    seed: int,
    accuracy: float,
    *,
    dataset: str = "food",
    shots: int = 4,
    space: str = "all",
    split: str = "drawn",
    concepts: str = "all",
    measure: str = "accuracy",
) -> Score:
    drawn = f"{split} {seed}"
    return Score(dataset, method, seed, measure, space, accuracy, shots, drawn, concepts)


def test_interval_of_three_values_is_that_of_students_t() -> None:
    interval = estimate([0.5, 0.6, 0.7])
    assert interval.mean == pytest.approx(0.6)
    # s = 0.1; t(0.975, 2) = 4.302653 from a table; 4.302653 * 0.1 / sqrt(3)
    assert interval.half_width == pytest.approx(0.2484138, abs=1e-7)
    assert (interval.low, interval.high) == pytest.approx((0.3515862, 0.8484138), abs=1e-7)
    assert interval.text() == "60.0 ± 24.8"


def test_one_value_has_no_interval() -> None:
    interval = estimate([0.25])
    assert (interval.mean, interval.half_width, interval.low, interval.n) == (0.25, None, None, 1)
    assert interval.text(signed=True) == "+25.0"
    assert not interval.excludes_zero


def test_no_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        estimate([])


@pytest.mark.parametrize(
    ("oop", "ip", "expected"), [(0.2, 0.6, 0.3), (0.5, 0.5, 0.5), (0.0, 0.9, 0.0), (0.0, 0.0, 0.0)]
)
def test_h_mean_by_hand(oop: float, ip: float, expected: float) -> None:
    assert h_mean(oop, ip) == pytest.approx(expected)


@pytest.mark.parametrize(("one", "other"), HALVES)
def test_h_mean_is_taken_per_seed_then_averaged(one: str, other: str) -> None:
    values = [(0, 0.2, one), (0, 0.6, other), (1, 0.6, one), (1, 0.6, other), (0, 0.5, "all")]
    rows = [row("fsnl", seed, x, space=space, concepts=one) for seed, x, space in values]
    rows.append(row("probe", 0, 0.9))  # learned all classes: another table's
    (line,) = generalisation(with_h_mean(rows), (one, other))
    # (0.3 + 0.6) / 2; the H-mean of the averages 0.4 and 0.6 would be 0.48
    assert line.estimates[H_MEAN].mean == pytest.approx(0.45)
    assert line.estimates[one].n == 2
    assert line.estimates["all"].n == 1


def test_a_dataset_without_ip_classes_is_shown_and_not_in_the_average() -> None:
    rows = [
        row("fsnl", 0, 0.2, space="OOP", dataset="digits", concepts="OOP"),
        *(
            row("fsnl", 0, 0.4, space=s, dataset=d, concepts="OOP")
            for d in ("food", "music")
            for s in ("OOP", "IP")
        ),
        *(  # another table's, of datasets that all have both halves
            row("fsnl-base", 0, 0.6, space=s, dataset=d, concepts="base")
            for d in ("digits", "food", "music")
            for s in ("base", "new")
        ),
    ]
    lines = {
        line.dataset: line.estimates
        for line in generalisation(with_average(with_h_mean(rows)), ("OOP", "IP"))
    }
    assert lines["digits"].keys() == {"OOP"}
    assert lines[AVERAGE].keys() == {"OOP", "IP", H_MEAN}
    assert lines[AVERAGE]["OOP"].mean == pytest.approx(0.4)
    assert lines[AVERAGE][H_MEAN].mean == pytest.approx(0.4)


def test_average_is_taken_per_seed_and_only_over_all_datasets() -> None:
    both = [row("probe", s, 0.2 + 0.2 * s, dataset=d) for s in (0, 1) for d in ("food", "music")]
    one = [row("other", 0, 0.9)]
    means = [r for r in with_average([*both, *one]) if r.dataset == AVERAGE]
    assert [(r.method, r.seed, r.value) for r in means] == [
        ("probe", 0, pytest.approx(0.2)),
        ("probe", 1, pytest.approx(0.4)),
    ]
    assert with_average(one) == one


def test_differences_are_paired_by_seed() -> None:
    rows = [row("a", s, x) for s, x in enumerate((0.5, 0.7, 0.9))]
    rows += [row("b", s, x) for s, x in enumerate((0.4, 0.6, 0.8))]
    (difference,) = paired(rows, "a", "b")
    # the seeds differ by 0.2, the methods by 0.1 on each: no spread is left
    assert difference.gain.mean == pytest.approx(0.1)
    assert difference.gain.half_width == pytest.approx(0.0, abs=1e-12)
    assert difference.gain.text(signed=True) == "+10.0 ± 0.0"


def test_every_two_methods_of_the_same_shots_are_paired() -> None:
    rows = [row("zero-shot", 0, 0.1, shots=0), row("a", 0, 0.4), row("b", 0, 0.5), row("c", 0, 0.7)]
    gains = {pair: d[0].gain.mean for pair, d in all_paired(rows).items()}
    expected = {("b", "a"): 0.1, ("c", "a"): 0.3, ("c", "b"): 0.2}
    assert gains == {pair: pytest.approx(gain) for pair, gain in expected.items()}


def test_rows_of_other_shots_or_splits_are_no_pair() -> None:
    rows = [row("a", 0, 0.5), row("b", 0, 0.4, split="other"), row("b", 0, 0.4, shots=1)]
    assert paired(rows, "a", "b") == []


def test_the_verdict_counts_cells_and_leaves_out_the_average() -> None:
    rows = [row("b", seed, 0.5, dataset=d) for seed in (0, 1) for d in ("food", "music", "tools")]
    gains = {"food": (0.1, 0.11), "music": (-0.2, -0.21), "tools": (0.3, -0.2)}
    rows += [row("a", s, 0.5 + gain[s], dataset=d) for d, gain in gains.items() for s in (0, 1)]
    differences = paired(with_average(rows), "a", "b")
    assert len(differences) == 4
    assert verdict(differences, "a", "b") == (
        "a is ahead of b in 2 of 3 cells and behind in 1; "
        "the 95 % interval of the difference excludes zero in 2 (1 ahead, 1 behind). "
        "Of 3 intervals between equal methods 0.2 do by chance (5 %)."
    )


def test_methods_that_learned_some_classes_only_are_not_set_beside_those_that_learned_all() -> None:
    rows = [
        row("zero-shot", 0, 0.3, shots=0),
        row("zero-shot", 0, 0.1, shots=0, space="OOP"),
        row("probe", 0, 0.6),
        row("probe", 0, 0.2, shots=1),
        row("fsnl", 0, 0.5, space="OOP", concepts="OOP"),
        row("fsnl", 0, 0.9, concepts="OOP"),
        row("coop", 0, 0.5, space="OOP"),
        row("coop", 0, 0.25),
    ]
    few_shot = few_shot_scores(rows)
    assert [(r.method, r.shots, r.label_space) for r in few_shot] == [
        ("zero-shot", 0, "all"),
        ("probe", 4, "all"),
        ("probe", 1, "all"),
        ("coop", 4, "all"),
    ]
    assert against_zero_shot(summaries(few_shot)) == ["probe: 1 of 2", "coop: 1 of 1"]


def test_measures_are_not_mixed() -> None:
    scores = [
        row(method, seed, value + 0.1 * seed, space=space, dataset=d, measure=m, concepts="OOP")
        for method, value in (("a", 0.2), ("b", 0.3))
        for m, value in (("accuracy", value), ("other", 2 * value))
        for space in ("OOP", "IP")
        for d in ("food", "music")
        for seed in (0, 1)
    ]
    of_both = with_average(with_h_mean(scores))
    for name in ("accuracy", "other"):
        alone = with_average(with_h_mean([s for s in scores if s.measure == name]))
        assert {s for s in of_both if s.measure == name} == set(alone)
        expected = generalisation(alone, ("OOP", "IP"))
        assert [g for g in generalisation(of_both, ("OOP", "IP")) if g.measure == name] == expected
        gains = [d.gain.mean for d in paired(of_both, "b", "a") if d.measure == name]
        assert gains[0] == pytest.approx({"accuracy": 0.1, "other": 0.2}[name])
    assert len(below_zero_shot(summaries([*scores, row("zero-shot", 0, 0.9, shots=0)]))) == 0
