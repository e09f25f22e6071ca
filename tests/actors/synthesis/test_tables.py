"""Tables of factors from a file and from the package."""

from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from actors.synthesis.factors.tables import (
    CLASSES_SCHEMA,
    clean_phrases,
    embedded_table,
    read_factor_file,
    table_rows,
)
from cluster.artifacts import Artifact
from cluster.catalog.dataset import Concept, Dataset
from cluster.errors import ConfigError

DOCUMENT = Path(__file__).parents[3] / "docs" / "factor_tables.md"


def dataset(name: str, *classes: str) -> Dataset:
    artifact = Artifact("nowhere", None)  # type: ignore[arg-type]
    return Dataset(artifact, name, tuple(Concept(n, "IP") for n in classes), "animal", "a {}.")


PETS = dataset("pets", "Maine Coon", "crème", "8")


def test_the_documented_example_is_read_and_the_most_specific_list_wins(tmp_path: Path) -> None:
    text = DOCUMENT.read_text("utf-8").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "table.yaml").write_text(text)
    table = read_factor_file(str(tmp_path / "table.yaml"), [PETS])
    rows = table_rows([PETS, dataset("birds", "owl")], table)
    coon, creme, _, owl = pa.Table.from_pylist(rows, schema=CLASSES_SCHEMA).to_pylist()
    assert coon["attributes"] == ["with a bushy tail", "silver and black"]
    assert creme["attributes"] == owl["attributes"] == ["small", "large", "asleep"]
    assert coon["backgrounds"] == []
    assert creme["backgrounds"] == ["on a sofa", "in a garden"]
    assert owl["backgrounds"] == ["in a meadow", "on a sofa", "in the snow"]
    assert coon["lightings"] == owl["lightings"] == ["at dusk", "by candlelight"]
    assert (coon["synonyms"], creme["synonyms"]) == (["Maine cat"], [])
    assert {mode: len(said) for mode, said in coon["examples"].items()} == {
        "Base": 1, "BG": 0, "LC": 1, "CD": 1,
    }  # fmt: skip
    assert creme["examples"] == {"Base": [], "BG": [], "LC": [], "CD": []}
    assert [row["label"] for row in rows] == [0, 1, 2, 0]


def test_names_and_phrases_are_text_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(
        "classes:\n  8: {attributes: [no, 1e-4, 2026-01-01]}\n  cre\u0300me: {attributes: [old]}"
    )
    rows = table_rows([PETS], read_factor_file(str(path), [PETS]))
    assert [row["attributes"] for row in rows] == [[], ["old"], ["no", "1e-4", "2026-01-01"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attributes: [a, b", "cannot be read"),
        ("- a", r"\$: \['a'\] is not of type 'object'"),
        ("colours: [red]", "'colours' was unexpected"),
        ("attributes: red", r"\$\.attributes: 'red' is not of type 'array'"),
        ("attributes: [red, [blue]]", r"\$\.attributes\[1\]"),
        ("attributes: [red, ' ']", r"\$\.attributes\[1\]: ' ' does not match"),
        ("datasets: {pets: {synonyms: [a]}}", r"\$\.datasets\.pets: .*'synonyms' was unexpected"),
        ("classes: {'8': {examples: {XY: [a]}}}", r"\.examples: .*'XY' was unexpected"),
        ("classes: {Main Coon: {}}", "classes: 'Main Coon' is none of the job's"),
        ("datasets: {pet: {}}", "datasets: 'pet' is none of the job's; allowed: pets"),
        ("attributes: !!python/object/apply:os.system ['exit 1']\nx: []", "'x' was unexpected"),
    ],
)
def test_a_bad_table_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as error:
        read_factor_file(str(path), [PETS])
    assert str(error.value).startswith(f"table: {str(path)!r}")
    assert "\n" not in str(error.value)


def test_a_table_is_read_with_a_byte_order_mark_and_in_utf_8_alone(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_bytes("attributes: [gr\u00fcn]".encode("utf-8-sig"))
    assert read_factor_file(str(path), [PETS]) == {"attributes": ["gr\u00fcn"]}
    path.write_bytes("backgrounds: []\nattributes: [gr\u00fcn]".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"table.yaml', line 2: byte 0xfc is no UTF-8"):
        read_factor_file(str(path), [PETS])
    path.write_text("classes: {cr\u00e8me: {}, cre\u0300me: {}}")
    with pytest.raises(ConfigError, match="is there twice, composed otherwise"):
        read_factor_file(str(path), [PETS])


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"table: '.*none\.yaml' cannot be read"):
        read_factor_file(str(tmp_path / "none.yaml"), [PETS])


def test_phrases_are_clean() -> None:
    given = [" at\tdusk", "At Dusk", "", "e\u0301te\u0301", "été", "  "]
    assert clean_phrases(given) == ["at dusk", "été"]


def test_the_embedded_table_has_the_form_of_a_file(tmp_path: Path) -> None:
    table = embedded_table()
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(table))
    known = [dataset(name, "a class") for name in table["datasets"]]
    assert table_rows(known, read_factor_file(str(path), known)) == table_rows(known, table)
    rows = {row["dataset"]: row for row in table_rows([*known, PETS], table)}
    assert rows["digits"]["backgrounds"][0] == "on lined paper"
    assert rows["pets"]["backgrounds"] == table["backgrounds"]
