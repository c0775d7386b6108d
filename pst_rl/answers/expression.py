r"""Values of mathematical expressions, without a symbolic engine.

An expression is evaluated by a small recursive-descent parser: exactly (rationals) where it can be, otherwise in
complex floating point, with its variables set to fixed pseudo-random numbers. Two expressions that are identical as
functions then have equal values at every point, and two different ones agree by accident with negligible probability
(the Schwartz-Zippel idea). The cost is bounded for any text: at most 300 tokens, nesting 25, numbers of 2,000 bits.
"""

import cmath
import math
import re
import zlib
from collections.abc import Callable
from fractions import Fraction

Value = Fraction | complex

_POINTS = 3  # evaluations of an expression with variables
_MAX_TOKENS, _MAX_DEPTH, _MAX_BITS, _MAX_LITERAL = 300, 25, 2000, 60

_TOKEN = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]*)?|\.[0-9]+)|\\?([A-Za-z]+)|(\*\*|\\[{}]|[-+*/^_(){}\[\]|!]))")
_NAMES = frozenset("alpha beta gamma delta theta lambda mu phi varphi omega sigma rho tau epsilon".split())
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "cot": lambda z: 1 / cmath.tan(z),
    "sec": lambda z: 1 / cmath.cos(z),
    "csc": lambda z: 1 / cmath.sin(z),
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "tanh": cmath.tanh,
    "ln": cmath.log,
    "log": cmath.log,
    "exp": cmath.exp,
}
_CONSTANTS: dict[str, Value] = {"pi": complex(math.pi), "e": complex(math.e), "i": 1j}
_INFIX = {"cdot": "*", "times": "*", "div": "/"}
_ROUND: dict[str, tuple[str, Callable[[Fraction], int]]] = {
    "lfloor": ("rfloor", math.floor),
    "lceil": ("rceil", math.ceil),
}
_WORDS = frozenset([*_FUNCTIONS, *_INFIX, *_NAMES, *"pi frac sqrt binom lfloor rfloor lceil rceil".split()])


_NO_FACTOR = frozenset([*"+-)]}|!^_", "**", "rfloor", "rceil"])  # what cannot begin a factor


class NotAnExpression(ValueError):
    """The text is not an expression this module can evaluate."""


def evaluate_at(text: str, value: Fraction) -> tuple[Value, int]:
    r"""Value of cleaned `text` where its variables have this value, and how many variables it has.

    >>> evaluate_at("2x + 3", Fraction(1, 2))
    (Fraction(4, 1), 1)

    Raises:
        NotAnExpression: as for `evaluate`.
    """
    parser = _Parser(_tokenize(text), point=0, fixed=value)
    try:
        return parser.parse(), len(parser.variables)
    except NotAnExpression:
        raise
    except (ArithmeticError, ValueError) as error:
        raise NotAnExpression(f"undefined or out of range: {error}") from error


def evaluate(text: str) -> list[Value]:
    r"""Values of cleaned `text` at fixed points: one exact rational, or one or `_POINTS` complex numbers.

    >>> evaluate("2+3"), evaluate(r"\sqrt{\frac{4}{9}}")
    ([Fraction(5, 1)], [Fraction(2, 3)])

    Raises:
        NotAnExpression: not an expression, too large, or undefined (division by zero, overflow).
    """
    tokens = _tokenize(text)
    try:
        parser = _Parser(tokens, point=0)
        values = [parser.parse()]
        if parser.variables:
            values += [_Parser(tokens, point).parse() for point in range(1, _POINTS)]
    except NotAnExpression:
        raise
    except (ArithmeticError, ValueError) as error:  # cmath raises a ValueError for \ln 0
        raise NotAnExpression(f"undefined or out of range: {error}") from error
    if any(isinstance(value, complex) and not cmath.isfinite(value) for value in values):
        raise NotAnExpression("out of range")
    return values


def _tokenize(text: str) -> list[str]:
    tokens: list[str] = []
    end, text = 0, text.rstrip()
    while end < len(text):
        match = _TOKEN.match(text, end)
        if match is None or len(tokens) >= _MAX_TOKENS:
            raise NotAnExpression("unknown symbol or too long")
        end = match.end()
        number, word, symbol = match.groups()
        if number:
            if len(number) > _MAX_LITERAL:
                raise NotAnExpression("number too long")
            tokens.append(number)
        elif symbol:
            tokens.append(symbol.lstrip("\\") if symbol not in (r"\{", r"\}") else symbol[1])
        elif word in _WORDS:
            tokens.append(_INFIX.get(word, word))
        elif len(word) <= 2 and match[0].lstrip()[0] != "\\":  # xy is x times y; longer runs are prose
            tokens.extend(word)
        else:
            raise NotAnExpression(f"unknown word {word}")
    if not tokens:
        raise NotAnExpression("empty")
    return tokens


class _Parser:
    """Evaluate one token list at one point; grammar: sum -> product -> signed -> power -> atom."""

    def __init__(self, tokens: list[str], point: int, fixed: Fraction | None = None):
        self.tokens = [*reversed(tokens)]  # a stack: the next token is last
        self.point = point
        self.depth = 0
        self.fixed = fixed
        self.powered = False  # whether a power was read last
        self.variables: set[str] = set()

    def parse(self) -> Value:
        value = self.sum()
        if self.tokens:
            raise NotAnExpression(f"unexpected {self.tokens[-1]}")
        return value

    def peek(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def take(self, *expected: str) -> str:
        if not self.tokens or (expected and self.tokens[-1] not in expected):
            raise NotAnExpression(f"expected {expected}")
        return self.tokens.pop()

    def sum(self) -> Value:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise NotAnExpression("nested too deeply")
        value = self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
            _check_size(value)
        self.depth -= 1
        return value

    def product(self) -> Value:
        value = self.signed()
        while True:
            token = self.peek()
            if token in ("*", "/"):
                self.take()
                value = value * self.signed() if token == "*" else value / self.signed()
            elif token and token not in _NO_FACTOR and not (token[0].isdigit() or token[0] == "."):
                value = value * self.power()  # juxtaposition: 2x, 3(4), \sqrt{2}\pi
            elif token and (token[0].isdigit() or token[0] == ".") and self.powered:
                value = value * self.power()  # 2^6 3^5, but not 3 4
            else:
                return value
            _check_size(value)

    def signed(self) -> Value:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        value = self.power()
        return -value if negative else value

    def power(self) -> Value:
        self.powered = False
        base = self.atom()
        if self.peek() == "!":
            self.take()
            if not isinstance(base, Fraction) or base.denominator != 1 or not 0 <= base <= 30:
                raise NotAnExpression("factorial of a large or non-integer number")
            base = Fraction(math.factorial(int(base)))
        if self.peek() in ("^", "**"):
            self.take()
            value = _power(base, self.exponent())
            self.powered = True
            return value
        return base

    def exponent(self) -> Value:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise NotAnExpression("nested too deeply")
        value = self.signed()  # right-associative: 2^3^2 is 2^9; -1 in 10^-1
        self.depth -= 1
        return value

    def argument(self, single_digit: bool = False) -> Value:
        r"""One TeX argument: {...}, or the next symbol (the next digit in \frac34)."""
        token = self.peek()
        if single_digit and token.isdigit() and len(token) > 1:
            self.tokens[-1] = token[1:]
            return Fraction(token[0])
        return self.atom()

    def atom(self) -> Value:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            if self.peek() == "_":
                raise NotAnExpression("number in another base")
            return Fraction(token.rstrip("."))
        if token in ("(", "{", "["):
            value = self.sum()
            self.take({"(": ")", "{": "}", "[": "]"}[token])
            return value
        if token == "|":
            value = self.sum()
            self.take("|")
            return abs(value) if isinstance(value, Fraction) else complex(abs(value))
        if token == "frac":
            return self.argument(single_digit=True) / self.argument(single_digit=True)
        if token == "binom":
            return _binomial(self.argument(single_digit=True), self.argument(single_digit=True))
        if token == "sqrt":
            root: Value = Fraction(2)
            if self.peek() == "[":
                root = self.atom()
            return _power(self.argument(), 1 / root)
        if token in _ROUND:
            return self.rounded(*_ROUND[token])
        if token in _FUNCTIONS:
            return self.function(token)
        if token in _CONSTANTS and self.peek() != "_":
            return _CONSTANTS[token]
        if token.isalpha():
            return self.variable(token)
        raise NotAnExpression(f"unexpected {token}")

    def rounded(self, closing: str, rounding: Callable[[Fraction], int]) -> Value:
        value = self.sum()
        self.take(closing)
        if not isinstance(value, Fraction):  # a step function is not told from others by its values at a few points
            raise NotAnExpression("floor of a number that is not rational")
        return Fraction(rounding(value))

    def function(self, name: str) -> Value:
        base, exponent = None, None
        if self.peek() == "_":
            self.take()
            base = self.argument()
        if self.peek() == "^":
            self.take()
            exponent = self.argument()
            if exponent == -1:
                raise NotAnExpression("inverse function")
        if name == "log" and base is None:
            raise NotAnExpression("logarithm to an unknown base")
        argument = self.power()
        while self.peek().isalpha() and self.peek() not in _FUNCTIONS:
            argument = argument * self.power()  # \sin 2x
        value = _FUNCTIONS[name](complex(argument))
        if base is not None:
            value /= cmath.log(complex(base))
        return value if exponent is None else _power(value, exponent)

    def variable(self, name: str) -> Value:
        if self.peek() == "_":
            self.take()
            token = self.take()
            if token == "{":
                while self.peek() not in ("}", ""):
                    token += self.take()
                self.take("}")
            name += "_" + token.lstrip("{")
        self.variables.add(name)
        if self.fixed is not None:
            return self.fixed
        unit = zlib.crc32(f"{name} {self.point}".encode()) / 2**32  # [0, 1)
        return complex(4 * unit - 2)


def magnitude(value: Value) -> Fraction | float:
    """Absolute value, exact where the value is."""
    return abs(value) if isinstance(value, Fraction) else abs(value)


def _check_size(value: Value) -> None:
    if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise NotAnExpression("number too large")


def _binomial(top: Value, bottom: Value) -> Value:
    if isinstance(top, Fraction) and isinstance(bottom, Fraction) and top.denominator == bottom.denominator == 1:
        if 0 <= bottom <= top <= 200:
            return Fraction(math.comb(int(top), int(bottom)))
    raise NotAnExpression("binomial coefficient of large or non-integer numbers")


def _power(base: Value, exponent: Value) -> Value:
    """base ** exponent, exact where the result is a rational of bounded size."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(exponent) * bits > _MAX_BITS:
                raise NotAnExpression("power too large")
            return base ** int(exponent)
        if exponent == Fraction(1, 2) and base >= 0:
            top, bottom = math.isqrt(base.numerator), math.isqrt(base.denominator)
            if top * top == base.numerator and bottom * bottom == base.denominator:
                return Fraction(top, bottom)
    return complex(base) ** complex(exponent)
