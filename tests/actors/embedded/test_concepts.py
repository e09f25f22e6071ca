import pytest

from actors.embedded.concepts import (
    DATASETS,
    IP_PER_DATASET,
    NUMBER_WORDS,
    OOP_PER_DATASET,
    SUBJECTS,
    caption_words,
    draw_concepts,
    load_concepts,
    require_known,
    words_of,
)
from cluster.errors import ConfigError


def test_the_committed_list_is_what_the_seed_draws() -> None:
    assert list(load_concepts()) == draw_concepts()


def test_no_word_of_an_oop_name_stands_in_an_ip_name_or_in_a_caption() -> None:
    concepts = load_concepts()
    known = {word for c in concepts if c.group == "IP" for word in words_of(c.name)}
    hints = {word for subject in SUBJECTS.values() for word in words_of(subject.hint)}
    spoken = known | caption_words() | hints
    oop = [c for c in concepts if c.group == "OOP"]
    assert len(oop) > 300
    assert [c.name for c in oop if words_of(c.name) & spoken] == []


def test_about_a_quarter_is_out_of_pre_training() -> None:
    concepts = load_concepts()
    assert 0.24 < sum(c.group == "OOP" for c in concepts) / len(concepts) < 0.26


def test_every_dataset_has_its_classes_of_both_groups() -> None:
    for dataset in SUBJECTS:
        groups = [c.group for c in load_concepts() if c.dataset == dataset]
        assert groups.count("OOP") == OOP_PER_DATASET
        assert groups.count("IP") == IP_PER_DATASET


def test_no_name_says_a_number() -> None:
    assert [c.name for c in load_concepts() if words_of(c.name) & NUMBER_WORDS] == []


def test_names_and_codes_are_unique() -> None:
    concepts = load_concepts()
    assert len({c.name for c in concepts}) == len({c.code for c in concepts}) == len(concepts)


def test_an_unknown_dataset_is_named() -> None:
    require_known(DATASETS)
    with pytest.raises(ConfigError, match="datasets: 'animls' is unknown; allowed: animals, food"):
        require_known(["food", "animls"])


def test_the_datasets_are_the_subjects_and_the_digits() -> None:
    assert (*SUBJECTS, "digits") == DATASETS
