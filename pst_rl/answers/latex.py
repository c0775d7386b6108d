"""Surface clean-up shared by keys and scoring: LaTeX wrappers, look-alike characters, brackets and lists.

Every function here is linear in the length of its input (patterns have no nested quantifiers over the same
characters), so untrusted text cannot make it slow.
"""

import re
from functools import lru_cache

_MAX_CACHED = 400  # characters; one answer is cleaned many times while it is scored
# Characters that only look different, and invisible ones (NUL, zero width, byte order mark, bidirectional controls).
_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("−–—‒﹣－", "-"),
        **dict.fromkeys("“”„", '"'),
        **dict.fromkeys("‘’", "'"),
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": "/",
        "⁄": "/",
        "π": r"\pi ",
        "√": r"\sqrt ",
        "∞": r"\infty ",
        "°": r"^\circ ",
        "∪": r"\cup ",
        "±": r"\pm ",
        "≤": r"\leq ",
        "≥": r"\geq ",
        "≈": r"\approx ",
        "≠": r"\neq ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "⋅": r"\cdot ",
        "∶": ":",
        "½": " 1/2",
        "¼": " 1/4",
        "¾": " 3/4",
        "⅓": " 1/3",
        "⅔": " 2/3",
        "，": ", ",
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},  # full-width digits
        **dict.fromkeys(map(chr, [0, 0xAD, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F)]), None),
        **dict.fromkeys(map(chr, range(0x2060, 0x206A)), None),
        **dict.fromkeys(map(chr, [0xA0, 0x2009, 0x202F]), " "),
        **dict.fromkeys("$€£¥₹₩₽", None),  # currency or math mode: neither changes a value
    }
)

_SUPERSCRIPTS = {ord(sign): str(digit) for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {ord("⁻"): "-"}
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
# Spellings of one symbol.  (?<!\\) keeps the matrix row break \\ whole.
_SPELLINGS = tuple(
    (re.compile(pattern), symbol)
    for pattern, symbol in (
        (r"(?<!\\)\\le(?:q|qslant|qq)?(?![A-Za-z])|<=", r"\\leq "),
        (r"(?<!\\)\\ge(?:q|qslant|qq)?(?![A-Za-z])|>=", r"\\geq "),
        (r"(?<!\\)\\lt(?![A-Za-z])", "<"),
        (r"(?<!\\)\\gt(?![A-Za-z])", ">"),
        (r"(?<!\\)\\neq?(?![A-Za-z])", r"\\neq "),
        (r"(?<!\\)\\colon(?![A-Za-z])", ":"),
        (r"(?<!\\)\\lbrace(?![A-Za-z])", r"\\{"),
        (r"(?<!\\)\\rbrace(?![A-Za-z])", r"\\}"),
        (r"(?<!\\)\\varnothing(?![A-Za-z])", r"\\emptyset "),
        (r"(?<!\\)\\\{\s?\\\}", r"\\emptyset "),
        (r"\+\s?\\infty(?![A-Za-z])", r"\\infty "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    )
)
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z\\])")  # a backslash escaped once too often

# Pure layout: \left, \quad, \, \! and the like.  (?<!\\) keeps the matrix row break \\ whole.
_LAYOUT = re.compile(
    r"(?<!\\)\\(?:(?:left|right|displaystyle|textstyle|bigl|bigr|Bigl|Bigr|big|Big)(?![A-Za-z])|q?quad|[,;:> ])"
)
_THIN = re.compile(r"(?<!\\)\\!\s*")  # 11,\! 111 -> 11,111
_TEXT = re.compile(
    r"(?P<before>(?<=[0-9A-Za-z})]))?\\(?:text|mbox|textbf|textit|textrm|textnormal|textup|texttt|mathrm|mathbf|mathit"
    r"|mathtt|operatorname|rm)\s*\{(?P<inside>[^{}]*)\}"
)
_DEGREES = re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|\\degrees?(?![A-Za-z])")
_MATH_MARKS = re.compile(r"(?<!\\)\\[()\[\]]")
_ESCAPED = re.compile(r"\\([%#&])|\\(?=[$€£¥₹])")
# 10 000 and 1 234 567, not 3 1/2 or 1 000/3
_BLANK_THOUSANDS = re.compile(r"(?<![0-9.,/^_])(?<![0-9.,/^_] )[1-9][0-9]{0,2}(?: [0-9]{3})+(?![0-9/]| ?[0-9/])")
_DECIMAL_COMMA = re.compile(r"(?<=[0-9])\{,\}(?=(?:[0-9]{1,2}|[0-9]{4,20})(?![0-9]))")  # 1{,}5 but not 1{,}500
# 1,234,567 but not the pair in (100,200) nor the tail of 1,2,300
_THOUSANDS = re.compile(r"(?<![0-9.,(\[])(?<!\\\{)[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"(?<!\\)[{}]")
_BETWEEN_BOXES = re.compile(r"(?:[\s,;$]|\\[()\[\],;: ]|\\q?quad|\\text\s*\{|\}|and|or)*")

_OPENING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}
_CLOSING = frozenset(_OPENING.values())
_BRACKET_OR_SEPARATOR = re.compile(r"\\?[{}]|[()\[\],;]|(?<![A-Za-z])(?:and|or)(?![A-Za-z])|\\cup(?![A-Za-z])")


def clean(text: str) -> str:
    r"""Return `text` without layout, font, currency and math-mode marks.

    >>> clean(r"\$18,\!000 \text{ and } \$21,000")
    '18000 and 21000'
    >>> clean(r"\left( \dfrac{3}{2}, -13 \right)"), clean("120^\\circ"), clean("**36**.")
    ('( \\frac{3}{2}, -13 )', '120', '36')
    """
    return _cleaned(text) if len(text) <= _MAX_CACHED else _cleaned.__wrapped__(text)


@lru_cache(maxsize=4096)
def _cleaned(text: str) -> str:
    text = _ESCAPED.sub(r"\1", text).translate(_LOOKALIKES)
    text = _SUPERSCRIPT.sub(lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
    if r"\\begin" in text:
        text = text.replace(r"\\", "\\")
    elif r"\\" in text and r"\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    if "\\" in text:
        text = _THIN.sub("", text)
        text = _LAYOUT.sub(" ", text)
        for _ in range(3):  # \text{a \textbf{b}}: innermost first; deeper nesting is left as it is
            text, count = _TEXT.subn(_unwrapped, text)
            if not count:
                break
        text = _MATH_MARKS.sub(" ", text)
    if "\\" in text or "=" in text:
        for pattern, symbol in _SPELLINGS:
            text = pattern.sub(symbol, text)
    text = _DEGREES.sub("", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), _DECIMAL_COMMA.sub(".", text).replace("{,}", ","))
    text = " ".join(text.replace("~", " ").split())
    text = _BLANK_THOUSANDS.sub(lambda match: match[0].replace(" ", ""), text)
    return strip_wrappers(text)


def _unwrapped(match: re.Match[str]) -> str:
    r"""Words of a font command, apart from what stands before: `\pi\text{cm}` is not `\picm`."""
    inside = match["inside"]
    return " " + inside if match["before"] is not None and inside[:1].isalpha() else inside


def strip_wrappers(text: str) -> str:
    """Strip blanks, Markdown marks, quotes and the final full stop."""
    return text.strip(" \t\r\n*`\"'_~").rstrip(".,;:? \t\r\n*`")


def split_list(text: str, *, only: str | None = None) -> list[str]:
    r"""Split at separators outside all brackets: comma, semicolon, "and", "or" (`only` names a single one instead).

    >>> split_list("x = 3 and y = (4, 5)")
    ['x = 3', 'y = (4, 5)']
    >>> split_list(r"(-\infty,1)\cup(2,3)", only=r"\cup")
    ['(-\\infty,1)', '(2,3)']
    """
    return split_separated(text, only=only)[0]


def split_separated(text: str, *, only: str | None = None) -> tuple[list[str], set[str]]:
    r"""The parts of a list, as `split_list` gives them, and the separators between them.

    >>> split_separated("1, 2 or 3")[1] == {",", "or"}
    True
    """
    parts, separators, depth, begin = [], set(), 0, 0
    for match in _BRACKET_OR_SEPARATOR.finditer(text):
        token = match[0]
        if token in _OPENING:
            depth += 1
        elif token in _CLOSING:
            depth = max(0, depth - 1)
        elif depth == 0 and (token == only if only else token != r"\cup"):
            parts.append(text[begin : match.start()])
            separators.add(token)
            begin = match.end()
    parts.append(text[begin:])
    return [part.strip() for part in parts if part.strip()], separators


def unboxed(text: str) -> str:
    r"""What is in the boxes of a text: of all that stand in one list, else of the last; the text if it has none.

    >>> unboxed(r"so $\boxed{\frac{1}{3}}$."), unboxed(r"\boxed{1} and \boxed{2}"), unboxed(r"\boxed{1} no \boxed{2}")
    ('\\frac{1}{3}', '1, 2', '2')
    """
    contents: list[str] = []
    end = 0
    for match in _BOX.finditer(text):
        if match.start() < end:
            continue
        depth, close = 1, len(text)
        for brace in _BRACE.finditer(text, match.end()):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                close = brace.start()
                break
        if contents and not _BETWEEN_BOXES.fullmatch(text[end : match.start()][:60]):
            contents.clear()
        contents.append(text[match.end() : close].strip())
        end = close + 1
    return ", ".join(contents) if contents else text


def enclosed(text: str) -> tuple[str, str, str] | None:
    r"""Return (opening, inside, closing) if one pair of brackets spans all of `text`; half-open intervals count.

    >>> enclosed("(3, 4]")
    ('(', '3, 4', ']')
    >>> enclosed("(3)(4)") is None
    True
    """
    opening = text[:2] if text[:2] == r"\{" else text[:1]
    if opening not in _OPENING:
        return None
    depth = 0
    for match in _BRACKET_OR_SEPARATOR.finditer(text):
        if match[0] in _OPENING:
            depth += 1
        elif match[0] in _CLOSING:
            depth -= 1
            if depth == 0:
                pair = match[0] == _OPENING[opening] or (opening in "([" and match[0] in ")]")
                inside = text[len(opening) : match.start()].strip()
                return (opening, inside, match[0]) if pair and match.end() == len(text) else None
    return None
