"""What a reader of answers finds: a surface, where it stands, and the reason to take it for the answer."""

import re
from typing import Literal, NamedTuple

Style = Literal["auto", "boxed", "hash", "phrase", "number", "choice", "text"]
"""Where the answer of a response is looked for: see `pst_rl.answers.extract.find_answer`."""

Reason = Literal["tag", "box", "heading", "phrase", "whole", "last_number", "choice"]

REASONS: dict[Reason, str] = {
    "tag": "inside an answer tag",
    "box": "in a box",
    "heading": "under a heading that announces the answer, or after ####",
    "phrase": "after a phrase such as 'the answer is'",
    "whole": "the text or its last sentence is nothing but an answer",
    "last_number": "the last stand-alone quantity: the response announces no answer",
    "choice": "a letter that a sentence chooses",
}

MANY_FALLBACKS = 0.2
"""Share of answers that are only the last quantity from which on it is worth a warning: our choice."""


class Reading(NamedTuple):
    """An answer as it was read: its text, the `span` of it, and the `start` of its whole statement, in characters."""

    start: int
    text: str
    span: tuple[int, int]
    reason: Reason

    def moved(self, offset: int) -> "Reading":
        """The same reading in a text that has `offset` characters more in front."""
        return self._replace(start=self.start + offset, span=(self.span[0] + offset, self.span[1] + offset))


# "the answer is", "Final answer:", "The correct option is"; not "the answer to part 1 is", "to find the answer:".
_NOUN = (
    r"(?:[aA](?:nswer|NSWER)|(?<=[cC]orrect )(?:[oO]ption|[cC]hoice)|(?<=[rR]ight )(?:[oO]ption|[cC]hoice)"
    r"|(?<=[bB]est )(?:[oO]ption|[cC]hoice)|(?<=[fF]inal )[rR]esult)\b"
)
PHRASE = re.compile(rf"\b{_NOUN}(?P<of>[^.\n:=]{{0,60}}?)(?:\b(?i:is)\b|[:=])[ \t]*[:*]*\s*|答案(?:是|为|：|:)\s*")
OPENING_PHRASE = re.compile(rf"\s*(?i:the\s+)?(?i:(?:final|correct|right|best)\s+)?(?:{PHRASE.pattern})")
_ARTICLE = re.compile(r"(?i:\bthe\s+)?(?:(?i:\b(?:final|correct|right|best)\s+))?$|(?i:\bthe\s+)$")


def phrase_start(text: str, noun: int) -> int:
    """Where "the final answer" begins, whose noun is at `noun`."""
    article = _ARTICLE.search(text[max(0, noun - 24) : noun])
    assert article is not None  # it may be empty
    return max(0, noun - 24) + article.start()


_MATH_OPENING = re.compile(r"(?:\\[(\[]|\$\$?|\*\*)\s*$")
_ONLY_MATH_OPENING = re.compile(r"[\s$*:]*(?:\\[(\[])?\s*")


def statement_start(text: str, start: int) -> int:
    r"""Move `start` back over "\(" or "$" and over "The answer is" right before it."""
    before = text[max(0, start - 120) : start]
    for phrase in PHRASE.finditer(before):
        if _ONLY_MATH_OPENING.fullmatch(before, phrase.end()):
            return phrase_start(text, start - len(before) + phrase.start())
    opening = _MATH_OPENING.search(before[-12:])
    return start - len(opening[0]) if opening else start
