"""A table and its spellings: text columns, Markdown, CSV, and raw columns for Parquet."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|$&~])")

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """Lines under a header. Strings are outside data, which each spelling keeps harmless."""

    header: list[str]
    lines: list[list[Value]]
    title: str = ""
    names: int = 1
    """Columns on the left that name a line; the others hold what was measured."""

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> "Table":
        """A line per record; all have the keys of the first one."""
        header = list(records[0]) if records else []
        return cls(header, [[record[name] for name in header] for record in records])

    def _rows(self) -> list[Sequence[Value]]:
        return [self.header, *self.lines]

    def text(self) -> str:
        """Plain columns under the title, for a terminal."""
        rows = [[_on_one_line(cell) for cell in line] for line in self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n\n".join(filter(None, [self.title, "\n".join(lines)]))

    def markdown(self) -> str:
        """Without the title."""
        rows = [
            [_MARKDOWN.sub(r"\\\1", _on_one_line(cell)) for cell in line] for line in self._rows()
        ]
        header, *lines = rows
        marks = ["---"] * len(header)
        return "".join(f"| {' | '.join(row)} |\n" for row in (header, marks, *lines))

    def csv(self) -> str:
        """For programs and spreadsheets, which take what begins with =, +, - or @ for a formula,
        some of them also behind spaces or as wide letters.

        A string that does begins with ' here, as the header's; numbers stay numbers.
        """
        writer = csv.writer(buffer := io.StringIO(), lineterminator="\n")
        for line in self._rows():
            writer.writerow(_no_formula(cell) for cell in line)
        return buffer.getvalue()

    def arrow(self) -> pa.Table:
        """Raw, for Parquet."""
        columns = ([line[place] for line in self.lines] for place in range(len(self.header)))
        return pa.table(dict(zip(self.header, columns, strict=True)))


def _on_one_line(cell: Value) -> str:
    """Without line breaks, and without what moves a terminal's cursor."""
    text = "" if cell is None else str(cell)
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _no_formula(cell: Value) -> Value:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell
