r"""math-verify for the LaTeX answers that keys do not decide: sets and inequalities in other forms.

math-verify stops long computations by SIGALRM, which works in the main thread only, and it can take seconds to solve
one inequality with a root. Here its timeouts are off and its input is restricted beforehand to a few symbols, small
numbers and at most two occurrences of a variable, for which it needs well under a second. Only its LaTeX grammar reads
that; its other reader hands text to sympy's `parse_expr`, which evaluates it as Python, and so does a fallback inside
the LaTeX grammar. The characters that are let through here cannot reach it, which a test watches
(`test_no_text_reaches_what_evaluates_python`): widen them only together with that test.

Inequalities that are linear in one variable, chains and unions of intervals have keys of their own
(`pst_rl.answers.relations`); what is left for math-verify is a set that is written in another way, such as
`\mathbb{R} \setminus \{1\}` for `x \ne 1`.
"""

import logging
import re
from functools import cache

_MAX_LENGTH = 80  # characters
_MAX_COMMANDS, _MAX_DIGITS, _MAX_LETTERS, _MAX_BRACKETS = 12, 6, 2, 12
_RELATION_OR_SET = re.compile(r"[<>]|\\(?:le|ge|lt|gt|ne|in|cup|cap|setminus|emptyset|varnothing|mathbb|\{)")
_INTERVAL = re.compile(r"\s*(?:\\left\s*)?[(\[][^,]*,[^,]*[)\]]\s*")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)")
_HARMLESS = frozenset(
    rf"\{name}"
    for name in "frac dfrac tfrac pi infty cup cap in le leq ge geq lt gt ne neq cdot left right text mathbb "
    "setminus emptyset varnothing , ; ! { } $ %".split()
)
_NUMBER_SET = re.compile(r"\\mathbb\s*\{[A-Z]\}|\\text\s*\{\s*(?:or|and)\s*\}")
_ELSE_ALLOWED = re.compile(r"[A-Za-z0-9\s.,+\-*/=<>()\[\]{}]*")


def symbolically_equal(gold: str, answer: str) -> bool:
    r"""Whether math-verify takes `answer` for `gold`; False, without trying, for anything else than short sets.

    >>> symbolically_equal(r"(-\infty, 5]", r"x \le 5"), symbolically_equal("1 < x < 2", "(1, 2)")
    (True, True)
    """
    if not (_RELATION_OR_SET.search(gold) or _RELATION_OR_SET.search(answer)):
        return False
    if not (_is_cheap_set(gold) and _is_cheap_set(answer)):
        return False
    parse, verify, latex = _math_verify()
    parsed = [parse(f"${text}$", extraction_config=[latex], parsing_timeout=None) for text in (gold, answer)]
    return verify(*parsed, timeout_seconds=None, allow_set_relation_comp=True)


def _is_cheap_set(text: str) -> bool:
    if not (_RELATION_OR_SET.search(text) or _INTERVAL.fullmatch(text)):
        return False
    if len(text) > _MAX_LENGTH or re.search(rf"[0-9]{{{_MAX_DIGITS + 1}}}", text):
        return False
    commands = _COMMAND.findall(text)
    if len(commands) > _MAX_COMMANDS or not _HARMLESS.issuperset(commands):
        return False
    rest = _COMMAND.sub(" ", _NUMBER_SET.sub(" ", text))  # no power, root, factorial or absolute value
    letters, brackets = len(re.findall("[A-Za-z]", rest)), len(re.findall(r"[(\[{]", rest))
    few_letters = letters < _MAX_LETTERS if "/" in text or "frac" in text else letters <= _MAX_LETTERS
    return bool(_ELSE_ALLOWED.fullmatch(rest)) and "**" not in rest and few_letters and brackets <= _MAX_BRACKETS


@cache
def _math_verify():
    from math_verify import LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its timeouts are off: meant here
    return parse, verify, LatexExtractionConfig()
