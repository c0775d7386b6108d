"""Keys of values: exact where they are rational, else nine significant digits at each fixed point."""

from collections.abc import Sequence

from pst_rl.answers.expression import Value


def value_key(values: Sequence[Value]) -> str:
    r"""Key of the values of an expression: "1/2", "2" for `\sqrt{2}^2`, "~1.41421356", or one per point.

    >>> from fractions import Fraction
    >>> value_key([Fraction(1, 2)]), value_key([2 + 0j]), value_key([1.41421356237 + 0j])
    ('1/2', '2', '~1.41421356')
    """
    if not all(isinstance(value, complex) for value in values):
        return str(values[0])
    number = complex(values[0])
    if all(abs(value - number) <= 1e-12 * max(1, abs(number)) for value in values):
        values = values[:1]  # x - x + 2
    if len(values) == 1 and abs(number) < 1e4 and abs(number - round(number.real)) < 1e-11:
        return str(round(number.real))  # \sqrt{2}^2, \log_2 8
    return "~" + fingerprint(values)


def fingerprint(values: Sequence[Value]) -> str:
    """Nine significant digits of each value: enough to tell expressions apart, few enough to hide rounding errors."""
    return "|".join(map(_nine_digits, map(complex, values)))


def _nine_digits(value: complex) -> str:
    noise = 1e-9 * max(abs(value), 1e-6)
    real, imag = (0.0 if abs(part) <= noise else part for part in (value.real, value.imag))
    return f"{real:.9g}{imag:+.9g}i" if imag else f"{real:.9g}"
