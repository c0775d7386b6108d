r"""Find the final answer in a response: one grammar of answer statements, in a fixed order of priority.

1. Thoughts state nothing (`thoughts`): only what follows `</think>` is read. A response still thinking has no answer.
2. An answer tag (`statements`): `<answer>18</answer>`, `[ANSWER]18[/ANSWER]`; its content is read like a response.
3. A box (`boxes`): the last statement made of \boxed{...}; what "wait", "actually" or "no" takes back does not count.
4. A heading that announces an answer, and the line after it (`statements`): "## Answer: 18", "**Final Answer**"; and
   "#### 18". "#### Step 2: ..." announces none.
5. A phrase (`statements`): "the answer is 18", "Answer: 18", "The correct option is (B)".
6. A text that is nothing but an answer, or a last sentence that is a verdict: "There is no solution" (`fallback`).
7. The last stand-alone quantity (`fallback`), whole: "3\sqrt{2}", "10^6", "2 hours 30 minutes", never a part of it.
8. A letter that a sentence chooses (`choices`).

No rule knows a benchmark: which quantity of an answer counts, or in what order, is decided where it is scored.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pst_rl.answers.boxes import RETRACTION, find_box
from pst_rl.answers.canonical import canonical_key
from pst_rl.answers.choices import find_bracketed, find_choice
from pst_rl.answers.fallback import find_last_quantity, find_number, find_verdict, find_whole
from pst_rl.answers.parts import answer_parts
from pst_rl.answers.reading import Reading, Reason, Style
from pst_rl.answers.short_text import find_short_text
from pst_rl.answers.statements import find_correction, find_hash, find_heading, find_phrase, find_tag
from pst_rl.answers.thoughts import spoken

__all__ = ["Answer", "Style", "answer_parts", "extract_answer", "extract_answers", "find_answer", "readings"]

_WINDOW = 20_000  # only the end of a response is inspected, in characters


@dataclass(frozen=True)
class Answer:
    """A final answer: its surface `text`, its exact equivalence class `key` and where its statement starts.

    `response[:start]` is the reasoning with the final answer cut off (`start` in characters). `span` is where the
    answer itself begins and ends in the response, `reason` why it was taken (None for an answer that was not read).
    """

    text: str
    key: str
    start: int
    span: tuple[int, int] = field(default=(0, 0), repr=False, compare=False)
    reason: Reason | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, text: str) -> "Answer":
        """An answer from its bare text, `start` 0."""
        return cls(text=text, key=canonical_key(text), start=0, span=(0, len(text)))


def find_answer(text: str, style: Style = "auto") -> Answer | None:
    r"""Find the final answer of a response, or None if it states none.

    "auto" takes the first form that is present, in the order of this module's docstring. The other styles accept one
    form only: "boxed", "hash" ("#### x"), "phrase", "choice" (a letter), "number" (the last number alone);
    "text" takes a tag, box, heading or phrase, else a short answer in words, such as a name (`short_text`).

    >>> find_answer("So x = 3.\nThe answer is \\boxed{3}.")
    Answer(text='3', key='3', start=10)
    >>> find_answer("Thus \\boxed{4} cows and \\boxed{5} hens.").text, find_answer("We do not know.")
    ('4, 5', None)
    >>> answer = find_answer("<think>17?</think> The answer is 18 dollars for 2 days.")
    >>> answer.text, answer.reason, answer.span
    ('18', 'phrase', (33, 35))

    Raises:
        ValueError: unknown style.
    """
    reading = next(readings(text, style), None)
    if reading is None:
        return None
    return Answer(reading.text, canonical_key(reading.text), reading.start, reading.span, reading.reason)


def readings(text: str, style: Style = "auto") -> Iterator[Reading]:
    """What each form of the grammar finds in a response, in the order of priority; the first is the answer.

    Raises:
        ValueError: unknown style.
    """
    if style not in FINDERS:
        raise ValueError(f"unknown answer style {style!r}: choose one of {', '.join(FINDERS)}")
    offset, window = inspected(text)
    for finder in FINDERS[style]:
        found = finder(window)
        if found is not None and canonical_key(found.text):
            yield found.moved(offset)


def inspected(text: str) -> tuple[int, str]:
    """The part of a response that is read, and where it begins: the end of what follows the thoughts."""
    begin, end = spoken(text) or (len(text), len(text))
    offset = max(begin, end - _WINDOW)
    return offset, text[offset:end]


def extract_answer(text: str, style: Style = "auto") -> str | None:
    """Surface text of the final answer, or None: see `find_answer`."""
    answer = find_answer(text, style)
    return None if answer is None else answer.text


def extract_answers(text: str, style: Style = "auto") -> tuple[str, ...]:
    r"""The parts of the final answer, in the order stated.

    >>> extract_answers(r"Thus \boxed{4} cows and \boxed{5} hens."), extract_answers("x = 3 and y = 4")
    (('4', '5'), ('3', '4'))
    >>> extract_answers(r"\boxed{(W, L) = (116, 46)}"), extract_answers("It is 1,234.")
    (('116', '46'), ('1234',))
    """
    answer = find_answer(text, style)
    return () if answer is None else answer_parts(answer.text)


def _find_box(text: str) -> Reading | None:
    """The last box, unless it is taken back and a phrase corrects it: "Wait, ... the answer is 4"."""
    box = find_box(text)
    retraction = RETRACTION.search(text, box.span[1]) if box else None
    if retraction is None:
        return box
    corrected = find_phrase(text[retraction.start() :])
    return corrected.moved(retraction.start()) if corrected else find_correction(text, retraction.start()) or box


def _find_whole_choice(text: str) -> Reading | None:
    """A letter that is all a text says, or begins it: "(b) Poisson"."""
    found = find_whole(text)
    return found if found and re.fullmatch("[A-Z]", canonical_key(found.text)) else None


def _find_stated_choice(text: str) -> Reading | None:
    """A letter in a tag or under a heading."""
    found = find_tag(text) or find_heading(text)
    return found if found and len(canonical_key(found.text)) == 1 and found.text.strip(" ().*").isalpha() else None


FINDERS: dict[str, tuple[Callable[[str], Reading | None], ...]] = {
    "auto": (
        find_tag,
        _find_box,
        find_heading,
        find_phrase,
        find_whole,
        find_verdict,
        find_last_quantity,
        find_bracketed,
    ),
    "boxed": (find_box,),
    "hash": (find_hash,),
    "phrase": (find_phrase,),
    "number": (find_number,),
    "choice": (_find_stated_choice, find_choice, _find_whole_choice),
    "text": (find_tag, _find_box, find_heading, find_phrase, find_short_text),
}
