"""The spellings of a table, with names that somebody else chose."""

import csv
import io

from jobs.report.tables.table import Table

NAMES = ["a|b", "two\nlines", "=1+1", "-3", "+1", "@sum", "\\|", "<b>", "A $5 and $6", "x_y*z"]
TABLE = Table(["name", "n", "share"], [[name, -2, -0.5] for name in NAMES], "Of names")


def test_columns_stand_under_each_other() -> None:
    title, columns = (
        Table(["a", "b"], [["long name", 1], ["x", None]], "Title").text().split("\n\n")
    )
    assert title == "Title"
    assert columns.split("\n") == ["a          b", "long name  1", "x"]


def test_no_cell_breaks_a_line() -> None:
    assert len(TABLE.text().splitlines()) == 2 + 1 + len(NAMES)
    assert "\x1b" not in Table(["a"], [["\x1b[2J"]]).text()
    assert len(TABLE.markdown().splitlines()) == 2 + len(NAMES)


def test_markdown_shows_names_as_they_are() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[:2] == ["| name | n | share |", "| --- | --- | --- |"]
    assert lines[2] == r"| a\|b | -2 | -0.5 |"
    assert lines[3] == "| two lines | -2 | -0.5 |"
    assert lines[8] == r"| \\\| | -2 | -0.5 |"
    assert lines[9] == r"| \<b\> | -2 | -0.5 |"
    assert lines[10] == r"| A \$5 and \$6 | -2 | -0.5 |"
    assert lines[11] == r"| x\_y\*z | -2 | -0.5 |"


def test_no_cell_of_a_csv_is_a_formula_and_numbers_are_numbers() -> None:
    header, *lines = csv.reader(io.StringIO(TABLE.csv()))
    assert header == ["name", "n", "share"]
    names = [line[0] for line in lines]
    assert names == [f"'{name}" if name[0] in "=-+@" else name for name in NAMES]
    assert {(int(n), float(share)) for _, n, share in lines} == {(-2, -0.5)}
    for cell in (" =1+1", "\n@sum", "＝1"):
        assert next(csv.reader(io.StringIO(Table([cell], []).csv()))) == [f"'{cell}"]
    assert Table(["=a", "b"], [["\t=1", None]]).csv() == "'=a,b\n'\t=1,\n"


def test_raw_columns_keep_their_types() -> None:
    table = Table.of([{"name": "=1", "n": 1, "low": None}, {"name": "b", "n": 2, "low": 0.5}])
    assert table.arrow().to_pydict() == {"name": ["=1", "b"], "n": [1, 2], "low": [None, 0.5]}
    assert Table.of([]).lines == []
