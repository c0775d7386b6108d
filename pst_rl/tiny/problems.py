"""Procedural mathematics problems with one-line worked solutions: the world the tiny peers live in.

Three families: `"arithmetic"` (two-digit sums, differences and products, worked by columns), `"word"` (ten
templates of two or three steps, in the manner of MultiArith) and `"linear"` (four kinds of 2x2 linear systems, in
the manner of SimulEq). Every intermediate result is a non-negative integer.
"""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

FAMILIES = ("arithmetic", "word", "linear")

_NAMES = ("Tom", "Ann", "Sam", "Mia", "Leo", "Eva", "Max", "Zoe", "Ben", "Amy", "Joe", "Kim")
_THINGS = ("apples", "pens", "cards", "books", "shells", "coins", "eggs", "balls", "stamps", "cookies")
_CONTAINERS = ("boxes", "bags", "shelves", "jars", "trays", "crates")
_UNKNOWNS = (("x", "y"), ("a", "b"), ("p", "q"))


@dataclass(frozen=True)
class Step:
    """One line of working: `numbers` joined by `operators`, and the `result` written down (which may be wrong)."""

    numbers: tuple[int, ...]
    operators: str
    result: int

    def __str__(self) -> str:
        rest = "".join(f"{op}{number}" for op, number in zip(self.operators, self.numbers[1:], strict=True))
        return f"{self.numbers[0]}{rest}={self.result}"


@dataclass(frozen=True)
class Problem:
    """A question, its working and the final answer that the working leads to."""

    family: str
    question: str
    steps: tuple[Step, ...]
    answer: str

    @property
    def solution(self) -> str:
        """The worked solution as a response, for example `"6+5=11. 3+2+1=6. #### 61"`."""
        return f"{'. '.join(map(str, self.steps))}. #### {self.answer}"


Worked = tuple[str, tuple[Step, ...]]
"""A question and its working."""


def work(first: int, *rest: str | int) -> Step:
    """Return the right step for an expression read from left to right: `work(6, "+", 5, "+", 1)` is `6+5+1=12`.

    Division rounds down and a negative result becomes 0, so that working on from a wrong number stays well formed.
    """
    operators, numbers = "".join(map(str, rest[::2])), tuple(map(int, rest[1::2]))
    result = first
    for operator, number in zip(operators, numbers, strict=True):
        if operator == "+":
            result += number
        elif operator == "-":
            result -= number
        elif operator == "*":
            result *= number
        else:
            result //= max(number, 1)
    return Step((first, *numbers), operators, max(result, 0))


def in_columns(family: str, steps: tuple[Step, ...]) -> bool:
    """Whether the working is a column sum or difference: a ones step and a tens step, each with its carry."""
    return family == "arithmetic" and steps[0].operators[0] in "+-"


def conclude(family: str, steps: tuple[Step, ...]) -> str:
    """Return the final answer that the steps lead to, right or wrong."""
    if in_columns(family, steps):
        ones, tens = steps
        return str(10 * tens.result + ones.result % 10)
    return str(steps[-1].result)


def sample_problem(rng: Random, family: str) -> Problem:
    """Draw a problem of a family with its right solution."""
    question, steps = _SAMPLERS[family](rng)
    return Problem(family, question, steps, conclude(family, steps))


def _arithmetic(rng: Random) -> Worked:
    operator = rng.choice("+-*")
    if operator == "*":
        a, b = rng.randint(12, 99), rng.randint(3, 9)
        tens, ones = work(a // 10 * 10, "*", b), work(a % 10, "*", b)
        steps = (tens, ones, work(tens.result, "+", ones.result))
    else:
        a, b = rng.randint(11, 99), rng.randint(11, 99)
        if operator == "-":
            a, b = max(a, b), min(a, b)
        steps = _columns(a, operator, b)
    phrase = rng.choice(("What is {}?", "Compute {}.", "Find {}.", "Work out {}."))
    return phrase.format(f"{a}{operator}{b}"), steps


def _columns(a: int, operator: str, b: int) -> tuple[Step, Step]:
    """Work a two-digit sum or difference from the ones up: a carry is written `+1`, a borrow `-1`."""
    ones_a, ones_b = a % 10, b % 10
    borrow = operator == "-" and ones_a < ones_b
    ones = work(ones_a + 10 * borrow, operator, ones_b)
    carry = borrow or ones.result > 9
    tens = work(a // 10, operator, b // 10, *((operator, 1) if carry else ()))
    return ones, tens


class _Scene(NamedTuple):
    """Who and what a word problem is about, and where its numbers are drawn from."""

    rng: Random
    name: str
    other: str
    thing: str
    thing2: str
    container: str

    def draw(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)


def _word(rng: Random) -> Worked:
    (name, other), (thing, thing2) = rng.sample(_NAMES, 2), rng.sample(_THINGS, 2)
    scene = _Scene(rng, name, other, thing, thing2, rng.choice(_CONTAINERS))
    return _WORD_TEMPLATES[rng.randint(0, 9)](scene)


def _more_then_less(s: _Scene) -> Worked:
    have, more = s.draw(5, 40), s.draw(3, 30)
    total = work(have, "+", more)
    less = min(s.draw(3, total.result - 2), 30)
    change = s.rng.choice(
        (
            f"{s.name} bought {more} more and gave {less} to {s.other}.",
            f"{s.other} gave {s.name} {more} more, but {s.name} lost {less}.",
        )
    )
    text = f"{s.name} had {have} {s.thing}. {change} How many {s.thing} does {s.name} have now?"
    return text, (total, work(total.result, "-", less))


def _taken_from_boxes(s: _Scene) -> Worked:
    boxes, each = s.draw(3, 9), s.draw(3, 9)
    total = work(boxes, "*", each)
    taken = s.draw(2, total.result - 1)
    text = f"There are {boxes} {s.container} with {each} {s.thing} in each. {s.name} takes {taken} {s.thing}. "
    return text + f"How many {s.thing} are left?", (total, work(total.result, "-", taken))


def _two_things_boxed(s: _Scene) -> Worked:
    total, each = _product(s.rng)
    first = s.draw(1, total - 1)
    text = f"{s.name} found {first} {s.thing} and {total - first} {s.thing2}. They go in {s.container} of {each}. "
    text += f"How many {s.container} does {s.name} need?"
    return text, (work(first, "+", total - first), work(total, "/", each))


def _given_then_shared_out(s: _Scene) -> Worked:
    total, boxes = _product(s.rng)
    given = s.draw(3, 20)
    text = f"{s.name} had {total + given} {s.thing}. After giving {given} to {s.other}, {s.name} put the rest in "
    text += f"{boxes} {s.container} equally. How many {s.thing} are in each?"
    return text, (work(total + given, "-", given), work(total, "/", boxes))


def _sold(s: _Scene) -> Worked:
    first, second, price = s.draw(2, 9), s.draw(2, 9), s.draw(3, 9)
    text = f"{s.name} sold {first} {s.thing} and {second} {s.thing2}. Each cost {price} dollars. "
    total = work(first, "+", second)
    return text + f"How many dollars did {s.name} get?", (total, work(total.result, "*", price))


def _more_than(s: _Scene) -> Worked:
    have, more = s.draw(5, 30), s.draw(3, 20)
    text = f"{s.name} has {have} {s.thing}. {s.other} has {more} more than {s.name}. "
    theirs = work(have, "+", more)
    return text + f"How many {s.thing} do they have together?", (theirs, work(have, "+", theirs.result))


def _fewer_than(s: _Scene) -> Worked:
    fewer = s.draw(3, 20)
    have = s.draw(fewer + 2, 40)
    text = f"{s.name} has {have} {s.thing}. {s.other} has {fewer} fewer than {s.name}. "
    theirs = work(have, "-", fewer)
    return text + f"How many {s.thing} do they have together?", (theirs, work(have, "+", theirs.result))


def _boxes_bought(s: _Scene) -> Worked:
    boxes, each, had = s.draw(3, 9), s.draw(3, 9), s.draw(3, 20)
    bought = work(boxes, "*", each)
    total = work(had, "+", bought.result)
    lost = min(s.draw(2, 20), total.result - 1)
    text = f"{s.name} had {had} {s.thing} and bought {boxes} {s.container} of {each}. Then {s.name} lost {lost}. "
    steps = (bought, total, work(total.result, "-", lost))
    return text + f"How many {s.thing} does {s.name} have now?", steps


def _two_kinds_of_boxes(s: _Scene) -> Worked:
    boxes, each, boxes2, each2 = s.draw(2, 9), s.draw(3, 9), s.draw(2, 9), s.draw(3, 9)
    text = f"{s.name} has {boxes} {s.container} of {each} {s.thing} and {boxes2} {s.container} of {each2} {s.thing2}. "
    first, second = work(boxes, "*", each), work(boxes2, "*", each2)
    return text + "How many items in all?", (first, second, work(first.result, "+", second.result))


def _lost_found_boxed(s: _Scene) -> Worked:
    total, each = _product(s.rng)
    left, lost = s.draw(1, total - 1), s.draw(1, 20)
    text = f"{s.name} had {left + lost} {s.thing}, lost {lost}, then got {total - left} more. "
    text += f"They go in {s.container} of {each}. How many {s.container} are full?"
    return text, (work(left + lost, "-", lost), work(left, "+", total - left), work(total, "/", each))


_WORD_TEMPLATES = (
    _more_then_less,
    _taken_from_boxes,
    _two_things_boxed,
    _given_then_shared_out,
    _sold,
    _more_than,
    _fewer_than,
    _boxes_bought,
    _two_kinds_of_boxes,
    _lost_found_boxed,
)


def _product(rng: Random) -> tuple[int, int]:
    """Draw a total that divides evenly, and its divisor."""
    quotient, divisor = rng.randint(2, 9), rng.randint(3, 9)
    return quotient * divisor, divisor


def _linear(rng: Random) -> Worked:
    x, y = rng.randint(1, 12), rng.randint(1, 12)
    v, w = rng.sample(rng.choice(_UNKNOWNS), 2)
    kind, asked, ask = rng.randint(0, 3), v, rng.choice(("Find {}.", "What is {}?"))
    if kind == 0:
        x, y = max(x, y), min(x, y)
        equations = [f"{v}+{w}={x + y}", f"{v}-{w}={x - y}"]
        rng.shuffle(equations)
        asked, operator = rng.choice(((v, "+"), (w, "-")))
        double = work(x + y, operator, x - y)
        steps = (double, work(double.result, "/", 2))
    elif kind == 1:
        k = rng.randint(2, 5)
        total = k * x + y
        equations = [f"{v}+{w}={x + y}", f"{k}{v}+{w}={total}"]
        count, rest = work(k, "-", 1), work(total, "-", x + y)
        steps = (count, rest, work(rest.result, "/", count.result))
    elif kind == 2:
        k = rng.randint(2, 4)
        j = k + rng.randint(1, 2)
        total = j * x + k * y
        equations = [f"{v}+{w}={x + y}", f"{j}{v}+{k}{w}={total}"]
        count, scaled = work(j, "-", k), work(k, "*", x + y)
        rest = work(total, "-", scaled.result)
        steps = (count, scaled, rest, work(rest.result, "/", count.result))
    else:
        k = rng.randint(2, 5)
        equations = [f"{w}={k}{v}", f"{v}+{w}={x + k * x}"]
        count = work(k, "+", 1)
        steps = (count, work(x + k * x, "/", count.result))
    return f"{' and '.join(equations)}. {ask.format(asked)}", steps


_SAMPLERS = {"arithmetic": _arithmetic, "word": _word, "linear": _linear}
