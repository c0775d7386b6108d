"""A short answer in words, such as a name: what a response says that is asked for nothing else."""

import re

from pst_rl.answers.reading import Reading

MAX_WORDS = 5
"""Words that a short answer has at most: our choice."""

_EDGES = " \t\"'`“”‘’«»*_"
_SPEAKER = re.compile(r"(?:I(?:['’]m|['’]ve)?\s|Sorry\b)", re.IGNORECASE)  # "I do not know"; "I" alone is iodine
_PREDICATE = re.compile(
    r"(?P<subject>[^.!?\n]{1,120}?)\s(?:is|are|was|were)\s+(?:(?:called|named|simply)\s+)?(?P<said>[^\n]+)"
)


def find_short_text(text: str) -> Reading | None:
    """The first line if it is a few words, or what the only sentence says that something is.

    A first line that ends with a colon or an exclamation mark ("Sure!") introduces the next one. Which line counts,
    how many words, and that "X is Y" answers Y are our choices.

    >>> [find_short_text(said).text for said in ("Paris.", "The capital of Albania is **Tirana**.", "Sure!\\nOslo")]
    ['Paris', 'Tirana', 'Oslo']
    >>> find_short_text("Let me think about where this city may be."), find_short_text("")
    (None, None)
    """
    lines = list(re.finditer(r"[^\n]*\S[^\n]*", text))
    while len(lines) > 1 and lines[0][0].rstrip(_EDGES).endswith((":", "!")):
        del lines[0]
    if not lines:
        return None
    line = lines[0]
    predicate = _PREDICATE.fullmatch(line[0].strip()) if len(lines) == 1 else None
    said = predicate["said"] if predicate else line[0]
    words = _bare(said)
    if not words or len(words.split()) > MAX_WORDS or _is_unfinished(words):
        return None
    begin = line.start() + line[0].rindex(words)
    return Reading(line.start(), words, (begin, begin + len(words)), "phrase" if predicate else "whole")


def _bare(said: str) -> str:
    """Words without marks, quotes and the full stop at their end: "Washington, D.C." keeps its own."""
    words = said.strip(_EDGES)
    if words.endswith((".", "!", ",", ";")) and not re.search(r"\b\w\.\w\.$", words):
        words = words[:-1].rstrip(_EDGES)
    return words


def _is_unfinished(words: str) -> bool:
    """Whether it asks, speaks of itself, or introduces what does not follow."""
    return bool(_SPEAKER.match(words)) or words.endswith(("?", ":", "=")) or not re.search(r"\w", words)
