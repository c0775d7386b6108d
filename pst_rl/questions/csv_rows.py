"""CSV as text, every row held against the header: one comma too many must not shift a row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TextIO

from pst_rl.questions.table import Table

LONGEST_FIELD = 2**31 - 1


def read_csv(path: Path) -> Table:
    """The rows of a comma-separated file in UTF-8, every value the text that it is.

    Blanks after a comma do not count, and rows with nothing in them are left out. So are columns without a name that
    number the rows (an index that pandas or R wrote) or have nothing in them (a comma at the end of every line).

    Raises:
        ValueError: For a row with more or fewer fields than the header, a quote that is not closed, a name that the
            header has twice, or a column with values and no name. The message begins with the line.
    """
    with _long_fields(), path.open(newline="", encoding="utf-8-sig") as file:
        records = _records(file)
        line, header = next(records, (1, []))
        header = [name.strip() for name in header]
        if twice := [name for name in header if name and header.count(name) > 1]:
            raise ValueError(f"line {line} names the column {twice[0]!r} twice.")
        lines, rows = [], []
        for line, fields in records:
            if len(fields) != len(header):
                raise ValueError(
                    f"line {line} has {len(fields)} field{'s' * (len(fields) != 1)}, but the header has "
                    f"{len(header)}. Put fields with commas or line breaks in them between quotes, and as many commas "
                    "in every line as in the first."
                )
            lines.append(line)
            rows.append(fields)
    named = _named_columns(header, rows, lines)
    return Table(({header[index]: fields[index] for index in named} for fields in rows), lines)


def _named_columns(header: list[str], rows: list[list[str]], lines: list[int]) -> list[int]:
    """The columns with a name; refuses a column with values that has none, unless it numbers the rows."""
    leading = len(list(takewhile(lambda name: not name, header)))
    for index in [index for index, name in enumerate(header) if not name]:
        values = [fields[index].strip() for fields in rows]
        filled = next((row for row, value in enumerate(values) if value), None)
        if filled is not None and not (index < leading and all(value.isdecimal() for value in values)):
            raise ValueError(
                f"the header has no name for column {index + 1}, which says {values[filled]!r} in line "
                f"{lines[filled]}. Give it a name."
            )
    return [index for index, name in enumerate(header) if name]


def _records(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """The line that each record begins in, and its fields; none of those that are empty throughout."""
    reader, line = csv.reader(file, skipinitialspace=True, strict=True), 1
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f'line {line}: {error}. Close every quote, and write a quote inside of quotes twice ("").'
            ) from error
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield line, fields
        line = reader.line_num + 1


@contextmanager
def _long_fields() -> Iterator[None]:
    """The `csv` module stops at fields of 128 KiB; a question with its text may be longer."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
