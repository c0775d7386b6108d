r"""Where a response speaks, and where it only thinks: thoughts state no answer."""

import re

from pst_rl.answers.tags import THOUGHT

# <think>, <thinking>, <reasoning>, [THINK], "◁think▷", <|begin_of_thought|>; not one quoted in the text ("`<think>`").
_TAG = re.compile(
    rf"(?<![`\"'])(?:<[ ]?(?P<close>/?)[ ]?{THOUGHT}[ ]?>"
    r"|\[(?P<close2>/?)THINK(?:ING)?\]|◁(?P<close3>/?)think▷|<\|(?:begin|(?P<close4>end))_of_thought\|>)",
    re.IGNORECASE,
)
_NAMES = ("think", "thought", "reasoning", "scratchpad", "analysis")


def spoken(text: str) -> tuple[int, int] | None:
    """Where the part of a response that can state its answer begins and ends; None if it is all thoughts.

    The part is the last one outside thoughts that is not blank. A closing tag alone ends thoughts that the prompt
    opened; an opening tag alone begins thoughts that last to the end, so such a response is still thinking and what it
    may say there is no answer.

    >>> spoken("<think>17? No.</think> It is 18."), spoken("17? No.</think>18"), spoken("18")
    ((22, 32), (15, 17), (0, 2))
    >>> spoken("<think>So it is 17") is None, spoken("It is 18. <think>Is it?")
    (True, (0, 10))
    """
    lower = text.lower()
    if not any(name in lower for name in _NAMES):  # most responses: no need to look for tags
        return (0, len(text)) if text.strip() else None
    parts: list[tuple[int, int]] = []
    begin, thinking = 0, False
    for tag in _TAG.finditer(text):
        if any(tag.groups()):
            if not thinking:
                parts.clear()
            begin, thinking = tag.end(), False
        elif not thinking:
            parts.append((begin, tag.start()))
            thinking = True
    if not thinking:
        parts.append((begin, len(text)))
    return next((part for part in reversed(parts) if text[slice(*part)].strip()), None)
