r"""Keys of lists, tuples and sets: where order matters it is kept, where it does not the parts are sorted.

| answer | order | key |
|---|---|---|
| "3, 4", "3 and 4" | first and second unknown | `3, 4` |
| "x = 3, y = 4", "y = 4, x = 3" | by variable | `3, 4` |
| "W = 116, L = 46" | by name, which the key keeps: unnamed, nobody knows which is first | `l=46, w=116` |
| `\{4, 3\}`, "4 or 3", "x = 4, 3", "x = 4, x = 3" | none; a set of numbers is its ascending list | `3, 4` |
| "(7, 11), (11, 7)" | none: several points | `{(11, 7), (7, 11)}` |
"""

import re
from collections.abc import Callable
from fractions import Fraction

from pst_rl.answers.labels import named_value

Key = Callable[[str], str]

_RATIONAL = re.compile(r"-?[0-9]{1,1500}(?:/[1-9][0-9]{0,1499})?")
_REAL = re.compile(r"~(-?[0-9.]+(?:e[-+][0-9]+)?)")
_VARIABLE = re.compile(r"([A-Za-z])(?:_\{?([0-9a-z])\}?)?")


def set_key(keys: list[str]) -> str:
    """Key of a set of parts with these keys; one part alone is itself, a set of numbers its ascending list.

    >>> set_key(["5", "-1/2", "5"]), set_key(["(3, 4)", "(1, 2)"]), set_key(["7"])
    ('-1/2, 5', '{(1, 2), (3, 4)}', '7')
    """
    unique = set(keys)
    if len(unique) == 1:
        return next(iter(unique))
    values = {key: real_value(key) for key in unique}
    if all(value is not None for value in values.values()):
        return ", ".join(sorted(unique, key=lambda key: (values[key], key)))
    return "{" + ", ".join(sorted(unique)) + "}"


def real_value(key: str) -> Fraction | None:
    """Value of the key of a real number, of an irrational one to nine digits; None for other keys."""
    if _RATIONAL.fullmatch(key):
        return Fraction(key)
    match = _REAL.fullmatch(key)
    return Fraction(match[1]) if match else None


def list_key(parts: list[str], separators: set[str], key: Key) -> str:
    """Key of several parts without brackets around them; see the table of this module."""
    named = [named_value(part) for part in parts]
    if all(named):
        return _named_key([found for found in named if found], key)
    if any(named[1:]):
        keys = [
            f"{found[0]}={key(found[1])}" if found else key(part) for found, part in zip(named, parts, strict=True)
        ]
        return ", ".join(keys)
    first = named[0][1] if named[0] else parts[0]
    keys = [found for part in (first, *parts[1:]) if (found := key(part))]
    if named[0] and len(named[0][0]) == 1 and None not in map(real_value, keys):
        return set_key(keys)  # x = 5, 1
    if (separators == {"or"} or separators == {",", "or"} or _all_grouped(keys)) and len(keys) > 1:
        return set_key(keys)
    return ", ".join(keys)


def tuple_key(names: list[str], values: list[str]) -> str | None:
    """Key of "(y, x) = (4, 3)", which is (3, 4); None if it has to be compared as it stands."""
    if len(names) != len(values) or len(set(names)) != len(names):
        return None
    pairs = sorted(zip(names, values, strict=True))
    if _are_one_family([name for name, _ in pairs]):
        return "(" + ", ".join(value for _, value in pairs) + ")"
    return ", ".join(f"{name}={value}" for name, value in pairs)


def _all_grouped(keys: list[str]) -> bool:
    return all(key[:1] in ("(", "[") and key[-1:] in (")", "]") and ", " in key for key in keys)


def _named_key(named: list[tuple[str, str]], key: Key) -> str:
    """Key of "x = 3, y = 4" by name, and of "p = 5, q = 2; p = 7, q = 2" as a set of such tuples."""
    rows: list[dict[str, str]] = [{}]
    for name, value in named:
        if name in rows[-1]:
            rows.append({})
        rows[-1][name] = key(value)
    names = sorted(rows[0])
    if len(rows) == 1:
        if _are_one_family(names):
            return ", ".join(rows[0][name] for name in names)
        return ", ".join(f"{name}={rows[0][name]}" for name in names)
    if any(sorted(row) != names for row in rows):
        return "; ".join(", ".join(f"{name}={row[name]}" for name in sorted(row)) for row in rows)
    if len(names) == 1:
        return set_key([row[names[0]] for row in rows])
    if _are_one_family(names):
        return set_key(["(" + ", ".join(row[name] for name in names) + ")" for row in rows])
    return set_key([", ".join(f"{name}={row[name]}" for name in names) for row in rows])


def _are_one_family(names: list[str]) -> bool:
    """Whether sorted names are neighbours (x, y, z; a, b; x_1, x_2), whose order everybody takes for granted."""
    found = [_VARIABLE.fullmatch(name) for name in names]
    if not all(found):
        return False
    letters = [match[1] for match in found if match]
    marks = [match[2] or "" for match in found if match]
    moving = marks if len(set(letters)) == 1 else letters
    steps = [len(b) == len(a) == 1 and ord(b) - ord(a) == 1 for a, b in zip(moving, moving[1:], strict=False)]
    return all(steps) and (moving is marks or len(set(marks)) == 1)
