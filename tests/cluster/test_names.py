import pytest

from cluster.catalog.names import by_names, equal_names, shown_name, told_apart
from cluster.errors import ConfigError


def test_a_shown_name_is_composed_and_on_one_line() -> None:
    assert shown_name(" sun_glasses\n ") == "sun glasses"
    assert shown_name("\ufeffe\u0301clair\x1b") == "éclair"
    assert shown_name("_ \x07") == ""


def test_names_are_equal_but_for_case_composition_and_spaces() -> None:
    names = ["fox", "goat", "Fox", "éclair", "sun glasses", "e\u0301clair", "sunglasses", "fox"]
    assert equal_names(names) == [[0, 2, 7], [3, 5], [4, 6]]
    assert equal_names(["C", "C++", "C#", "Straße", "strasse"]) == [[3, 4]]


def test_classes_of_one_name_are_shown_with_their_labels() -> None:
    shown = told_apart({0: "fox", 1: "goat", 2: "Fox", 7: "fox"})
    assert shown == {0: "fox [0]", 1: "goat", 2: "Fox", 7: "fox [7]"}


def test_each_name_finds_its_own_key() -> None:
    languages = {"c": 0, "c++": 1, "c#": 2}
    assert by_names(["C", "C++", "C#"], languages, "prompts") == [0, 1, 2]
    assert by_names(["Cafe\u0301", "AC/DC fan_heater"], {"café": 0, "ac_dc-fan heater": 1}, "") == [
        0,
        1,
    ]
    assert by_names(["fox", "fox"], {"fox": 0}, "prompts") == [0, 0], "two classes of one name"
    assert by_names(["fox", "Fox"], {"Fox": 1, "fox": 0}, "prompts") == [0, 1]


@pytest.mark.parametrize(
    ("names", "keys", "words"),
    [
        (["C++"], ["c", "c#"], "has 'c', 'c#' for 'C\\+\\+'"),
        (["C", "C++"], ["C"], r"has none for 1 of 2 classes, the first 'C\+\+'"),
        (["!!!"], ["???"], "has none for 1 of 1"),
        (["fox", "Fox"], ["FOX"], "has 'FOX' for 'fox', 'Fox'"),
        (["é"], ["é", "e\u0301"], "has 'é', 'e\u0301' for 'é'"),
        (["F-16"], ["F16", "f 16"], "has 'F16', 'f 16' for 'F-16'"),
    ],
)
def test_keys_that_are_equal_or_empty_are_refused(
    names: list[str], keys: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        by_names(names, dict.fromkeys(keys, 0), "prompts: 'file'")
