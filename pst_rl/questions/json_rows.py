"""JSON with its values unchanged: no dates made of text, no rounding, no column of one type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from pst_rl.questions.table import Table, Written

_DECODE = json.JSONDecoder(parse_float=Written).decode


def read_json(path: Path) -> Table:
    """The rows of a file in UTF-8 with one JSON object a line, or with one list of objects.

    Raises:
        ValueError: For what is no JSON, or no object. The message begins with the line.
    """
    with path.open(newline="\n", encoding="utf-8-sig") as file:  # only "\n" ends a line: text may hold U+2028
        numbered = ((number, line) for number, line in enumerate(file, 1) if not line.isspace())
        number, first = next(numbered, (1, ""))
        if first.lstrip().startswith("{") and first.rstrip().endswith("}"):
            found = list(_by_line(chain([(number, first)], numbered)))
        else:
            found = [(0, row) for row in _whole(number, first + file.read())]
    for index, (line, row) in enumerate(found):
        if not isinstance(row, dict):
            where = f"line {line}" if line else f"entry {index}"
            raise ValueError(f"{where} is {json.dumps(row)[:60]}, and no object with columns.")
    return Table((row for _, row in found), [line for line, _ in found if line])


def _by_line(numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    for number, line in numbered:
        yield number, _decoded(line, number)


def _whole(number: int, text: str) -> list[Any]:
    """The entries of a list, or the one object that a text is, which begins in this line."""
    value = _decoded(text, number)
    return value if isinstance(value, list) else [value]


def _decoded(text: str, number: int) -> Any:
    try:
        return _DECODE(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number + error.lineno - 1}, column {error.colno}: {error.msg}.") from error
    except (ValueError, RecursionError) as error:  # a whole number of over 4300 digits, or 1000 brackets deep
        raise ValueError(f"line {number}: {error}.") from error
