"""Text of models and data, made safe to show: it may hold markup, control characters and halves of surrogate pairs."""

import re

# C0 but tab and newline, DEL, C1, marks that turn the direction of the text around, and lone surrogates.
_HOSTILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """The text with every character that would act on the page, not show on it, as a symbol or its code.

    >>> visible("a\\x1b[1m")
    'a␛[1m'
    """
    return _HOSTILE.sub(_symbol, str(text))


def plain(text: object, longest: int = 22) -> str:
    """`visible` text on one line for matplotlib, which would read dollars as formulas, cut to what a label holds."""
    line = " ".join(visible(text).split())
    line = line if len(line) <= longest else f"{line[: longest - 1]}…"
    return line.replace("$", r"\$")


def _symbol(match: re.Match) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
