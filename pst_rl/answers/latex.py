"""Surface clean-up shared by keys and scoring: LaTeX wrappers, look-alike characters, brackets and lists.

Every function here is linear in the length of its input (patterns have no nested quantifiers over the same
characters), so untrusted text cannot make it slow.
"""

import re

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
        "²": "^2",
        "³": "^3",
        "½": " 1/2",
        "¼": " 1/4",
        "¾": " 3/4",
        "，": ", ",
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},  # full-width digits
        **dict.fromkeys(map(chr, [0, 0xAD, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F)]), None),
        **dict.fromkeys(map(chr, range(0x2060, 0x206A)), None),
        **dict.fromkeys(map(chr, [0xA0, 0x2009, 0x202F]), " "),
        **dict.fromkeys("$€£¥₹₩₽", None),  # currency or math mode: neither changes a value
    }
)

# Pure layout: \left, \quad, \, \! and the like.  (?<!\\) keeps the matrix row break \\ whole.
_LAYOUT = re.compile(
    r"(?<!\\)\\(?:(?:left|right|displaystyle|textstyle|bigl|bigr|Bigl|Bigr|big|Big|quad|qquad)(?![A-Za-z])|[,;:> ])"
)
_THIN = re.compile(r"(?<!\\)\\!\s*")  # 11,\! 111 -> 11,111
_TEXT = re.compile(
    r"\\(?:text|mbox|textbf|textit|textrm|textnormal|texttt|mathrm|mathbf|mathit|mathtt|operatorname)\s*\{([^{}]*)\}"
)
_DEGREES = re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|\\degrees?(?![A-Za-z])")
_MATH_MARKS = re.compile(r"(?<!\\)\\[()\[\]]")
_ESCAPED = re.compile(r"\\([%#&])|\\(?=[$€£¥₹])")
# 1,234,567 but not the pair in (100,200) nor the tail of 1,2,300
_THOUSANDS = re.compile(r"(?<![0-9.,(\[])(?<!\\\{)[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")

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
    text = _ESCAPED.sub(r"\1", text).translate(_LOOKALIKES)
    if "\\" in text:
        text = _THIN.sub("", text)
        text = _LAYOUT.sub(" ", text)
        for _ in range(3):  # \text{a \textbf{b}}: innermost first; deeper nesting is left as it is
            text, count = _TEXT.subn(r"\1", text)
            if not count:
                break
        text = re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", text)
        text = _MATH_MARKS.sub(" ", text)
    text = _DEGREES.sub("", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text.replace("{,}", ","))
    return strip_wrappers(" ".join(text.split()))


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
    parts, depth, begin = [], 0, 0
    for match in _BRACKET_OR_SEPARATOR.finditer(text):
        token = match[0]
        if token in _OPENING:
            depth += 1
        elif token in _CLOSING:
            depth = max(0, depth - 1)
        elif depth == 0 and (token == only if only else token != r"\cup"):
            parts.append(text[begin : match.start()])
            begin = match.end()
    parts.append(text[begin:])
    return [part.strip() for part in parts if part.strip()]


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
