"""Procedural mathematics problems with one-line worked solutions: the world the tiny peers live in.

Three families: `"arithmetic"` (two-digit sums, differences and products, worked by columns), `"word"` (ten
templates of two or three steps, in the manner of MultiArith) and `"linear"` (four kinds of 2x2 linear systems, in
the manner of SimulEq). Every intermediate result is a non-negative integer.
"""

from dataclasses import dataclass
from random import Random

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


def _arithmetic(rng: Random) -> tuple[str, tuple[Step, ...]]:
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


def _word(rng: Random) -> tuple[str, tuple[Step, ...]]:
    (name, other), (thing, thing2) = rng.sample(_NAMES, 2), rng.sample(_THINGS, 2)
    container, draw = rng.choice(_CONTAINERS), rng.randint
    template = draw(0, 9)
    if template == 0:
        have, more = draw(5, 40), draw(3, 30)
        total = work(have, "+", more)
        less = min(draw(3, total.result - 2), 30)
        change = rng.choice(
            (
                f"{name} bought {more} more and gave {less} to {other}.",
                f"{other} gave {name} {more} more, but {name} lost {less}.",
            )
        )
        text = f"{name} had {have} {thing}. {change} How many {thing} does {name} have now?"
        return text, (total, work(total.result, "-", less))
    if template == 1:
        boxes, each = draw(3, 9), draw(3, 9)
        total = work(boxes, "*", each)
        taken = draw(2, total.result - 1)
        text = f"There are {boxes} {container} with {each} {thing} in each. {name} takes {taken} {thing}. "
        return text + f"How many {thing} are left?", (total, work(total.result, "-", taken))
    if template == 2:
        total, each = _product(rng)
        first = draw(1, total - 1)
        text = f"{name} found {first} {thing} and {total - first} {thing2}. They go in {container} of {each}. "
        text += f"How many {container} does {name} need?"
        return text, (work(first, "+", total - first), work(total, "/", each))
    if template == 3:
        total, boxes = _product(rng)
        given = draw(3, 20)
        text = f"{name} had {total + given} {thing}. After giving {given} to {other}, {name} put the rest in "
        text += f"{boxes} {container} equally. How many {thing} are in each?"
        return text, (work(total + given, "-", given), work(total, "/", boxes))
    if template == 4:
        first, second, price = draw(2, 9), draw(2, 9), draw(3, 9)
        text = f"{name} sold {first} {thing} and {second} {thing2}. Each cost {price} dollars. "
        total = work(first, "+", second)
        return text + f"How many dollars did {name} get?", (total, work(total.result, "*", price))
    if template == 5:
        have, more = draw(5, 30), draw(3, 20)
        text = f"{name} has {have} {thing}. {other} has {more} more than {name}. "
        theirs = work(have, "+", more)
        return text + f"How many {thing} do they have together?", (theirs, work(have, "+", theirs.result))
    if template == 6:
        fewer = draw(3, 20)
        have = draw(fewer + 2, 40)
        text = f"{name} has {have} {thing}. {other} has {fewer} fewer than {name}. "
        theirs = work(have, "-", fewer)
        return text + f"How many {thing} do they have together?", (theirs, work(have, "+", theirs.result))
    if template == 7:
        boxes, each, had = draw(3, 9), draw(3, 9), draw(3, 20)
        bought = work(boxes, "*", each)
        total = work(had, "+", bought.result)
        lost = min(draw(2, 20), total.result - 1)
        text = f"{name} had {had} {thing} and bought {boxes} {container} of {each}. Then {name} lost {lost}. "
        steps = (bought, total, work(total.result, "-", lost))
        return text + f"How many {thing} does {name} have now?", steps
    if template == 8:
        boxes, each, boxes2, each2 = draw(2, 9), draw(3, 9), draw(2, 9), draw(3, 9)
        text = f"{name} has {boxes} {container} of {each} {thing} and {boxes2} {container} of {each2} {thing2}. "
        first, second = work(boxes, "*", each), work(boxes2, "*", each2)
        return text + "How many items in all?", (first, second, work(first.result, "+", second.result))
    total, each = _product(rng)
    left, lost = draw(1, total - 1), draw(1, 20)
    text = f"{name} had {left + lost} {thing}, lost {lost}, then got {total - left} more. "
    text += f"They go in {container} of {each}. How many {container} are full?"
    return text, (work(left + lost, "-", lost), work(left, "+", total - left), work(total, "/", each))


def _product(rng: Random) -> tuple[int, int]:
    """Draw a total that divides evenly, and its divisor."""
    quotient, divisor = rng.randint(2, 9), rng.randint(3, 9)
    return quotient * divisor, divisor


def _linear(rng: Random) -> tuple[str, tuple[Step, ...]]:
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
