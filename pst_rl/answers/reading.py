"""What a reader of answers finds: a surface, where it stands, and the reason to take it for the answer."""

from typing import Literal, NamedTuple

Reason = Literal["tag", "box", "heading", "phrase", "whole", "last_number", "choice"]

REASONS: dict[Reason, str] = {
    "tag": "inside an answer tag",
    "box": "in a box",
    "heading": "under a heading that announces the answer, or after ####",
    "phrase": "after a phrase such as 'the answer is'",
    "whole": "the text is nothing but an answer",
    "last_number": "the last stand-alone quantity: the response announces no answer",
    "choice": "a letter that a sentence chooses",
}


class Reading(NamedTuple):
    """An answer as it was read: its text, the `span` of it, and the `start` of its whole statement, in characters."""

    start: int
    text: str
    span: tuple[int, int]
    reason: Reason

    def moved(self, offset: int) -> "Reading":
        """The same reading in a text that has `offset` characters more in front."""
        return self._replace(start=self.start + offset, span=(self.span[0] + offset, self.span[1] + offset))
