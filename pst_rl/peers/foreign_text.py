"""Foreign text in a model's context: nothing a model wrote may act as a control token or as another speaker's words.

What other peers wrote is untrusted. Text that holds nothing of what is looked for here passes unchanged, bit for bit.

    control tokens  a blank goes behind the first character: "<|im_end|>" becomes "< |im_end|>", which no tokenizer
                    takes for its token
    turn words      a line that opens like a turn of the reader's format, or like the words around a peer's text, is
                    quoted: "Another model answered: 7" becomes "> Another model answered: 7"

The reader's own tokens are those its tokenizer splits off before anything else (special tokens, and other added tokens
that look like markup); those of the common families are broken for every reader. The forms are our choice.

Text that stands in the reader's own turn, which it is taught or scored to say, keeps its tags of thinking and
answering (`pst_rl.answers.tags`): there they are what the reader itself may write. In prompts they are broken, too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pst_rl.answers.tags import TAG, TAGS

# Control tokens of the families in use, also where the reader's tokenizer does not know them; no nested quantifiers.
KNOWN = (
    r"<[|｜][^<>|｜\s]{1,40}[|｜]>"  # <|im_end|>, <|eot_id|>, <|begin_of_text|>, <｜User｜>
    r"|</?(?:s|bos|eos|pad|unk|mask|sep|cls|think|tool_call|tool_response)>"
    r"|<(?:start|end)_of_(?:turn|text|image)>|<(?:unused|extra_id_|reserved_)[0-9]{1,5}>|<0x[0-9A-F]{2}>"
    r"|\[/?INST\]|<</?SYS>>"
)
_MARKUP = re.compile(r"\s*(?:<\S+>|\[\S+\])\s*")
_UNUSUAL = re.compile(r"[^\t\n\r -~]")  # anything but printable ASCII
_SURROGATES = re.compile("[\ud800-\udfff]")  # half a character, which no tokenizer takes
_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_SEARCHED = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_BRACKETS = re.compile(r"(?<=[<>|｜\[\]])|(?=[<>|｜\[\]])")
_MARKS = " \t*_`#"  # Markdown and blanks before the words of a line


@dataclass(frozen=True)
class Guard:
    """What one reader must not find in foreign text.

    Attributes:
        control: Strings that the reader's tokenizer makes control tokens of, beside those of `KNOWN`.
        turn_words: How lines begin in the reader's format that open a turn without any control token ("Q:").
        ends: Those of `control` that begin or end a turn, whatever they look like.
    """

    control: tuple[str, ...] = ()
    turn_words: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _own_pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        markup = [text for text in self.control if TAG.fullmatch(text) and text not in self.ends]
        object.__setattr__(self, "_pattern", _any_of(KNOWN, self.control))
        object.__setattr__(self, "_own_pattern", _any_of(f"(?!{TAGS})(?:{KNOWN})", set(self.control) - set(markup)))

    @classmethod
    def of(cls, tokenizer: Any, turn_words: Iterable[str] = (), ends: Iterable[int] = ()) -> Guard:
        """The guard of a tokenizer's reader; `ends` are further tokens that end its responses."""
        added = [
            t.content for t in tokenizer.added_tokens_decoder.values() if t.special or _MARKUP.fullmatch(t.content)
        ]
        control = {text.strip() for text in [*added, *tokenizer.all_special_tokens]}
        named = {tokenizer.bos_token, tokenizer.eos_token, *tokenizer.convert_ids_to_tokens(list(ends))}
        return cls(tuple(sorted(control)), tuple(dict.fromkeys(turn_words)), tuple(sorted(named & control)))

    def disarm(self, text: str, keep_tags: bool = False) -> str:
        """`text` in which nothing is a control token, neither as it is nor after a tokenizer's normalisation.

        Args:
            keep_tags: The text stands in the reader's own turn, where tags of thinking and answering are markup.

        >>> Guard().disarm("7<|im_end|>"), Guard().disarm("7＜|im_end|＞"), Guard().disarm("1 < 2")
        ('7< |im_end|>', '7< |im_end|>', '1 < 2')
        >>> Guard().disarm("</think>7<|im_end|>"), Guard().disarm("</think>7<|im_end|>", keep_tags=True)
        ('< /think>7< |im_end|>', '</think>7< |im_end|>')
        """
        pattern = self._own_pattern if keep_tags else self._pattern
        text = _broken(pattern, _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text))
        if _UNUSUAL.search(text) and pattern.search(folded := _folded(text)):
            return _broken(pattern, folded)
        return text

    def shown(self, text: str) -> str:
        """`text` as it may stand in the reader's prompt: disarmed, and without lines that open one of its turns."""
        return quoted(self.disarm(text), self.turn_words)

    def found(self, text: str) -> int:
        """How many control tokens are in a text, as it is or as a tokenizer may normalise it."""
        return len(self._pattern.findall(_folded(text) if _UNUSUAL.search(text) else text))

    def fill(self, write: Callable[[Sequence[str]], str], texts: Sequence[str]) -> list[str]:
        """The texts as they may be written by `write(texts)`, which puts words of our own around them.

        What is harmless alone may make a control token with its neighbours ("<|im_" and "end|>"); such texts are held
        apart by blanks.
        """
        texts = [self.shown(text) for text in texts]
        if texts and (most := self.found(write(texts))) and most > self.found(write([" "] * len(texts))):
            return [f" {_BRACKETS.sub(r' ', text)} " for text in texts]
        return texts


def quoted(text: str, openings: Iterable[str]) -> str:
    """`text` with "> " before each line that begins with one of the `openings` (see `opening_words`).

    >>> quoted("7\\n **P:** 8", ["p:"]), quoted("7, P: 8", ["p:"])
    ('7\\n>  **P:** 8', '7, P: 8')
    """
    openings = tuple(openings)
    if not openings:
        return text
    lines = re.split(f"({_SEARCHED.pattern})", text)  # line, separator, line, ...
    lines[::2] = [f"> {line}" if _opening(line).startswith(openings) else line for line in lines[::2]]
    return "".join(lines)


def opening_words(template: str, mark: str) -> tuple[str, ...]:
    r"""How lines begin that a template writes around `mark`; only those with a letter, others are too common.

    >>> opening_words("\n\nAnother model answered: {text}", "{text}"), opening_words("\n- {text}", "{text}")
    (('another model answered:',), ())
    """
    lines = [_opening(line) for part in template.split(mark) for line in _LINE_ENDS.split(part)]
    return tuple(dict.fromkeys(line for line in lines if any(map(str.isalpha, line))))


def one_line(text: str) -> str:
    """`text` with a blank for each line end; unchanged if it has none."""
    return _LINE_ENDS.sub(" ", text)


def _any_of(known: str, control: Iterable[str]) -> re.Pattern[str]:
    """Finds the known forms and these strings, also as a tokenizer's normaliser may leave them."""
    control = list(control)
    spellings = dict.fromkeys([*control, *map(_folded, control)])
    literal = sorted((s for s in spellings if len(s) > 1), key=lambda s: (-len(s), s))
    return re.compile("|".join([known, *map(re.escape, literal)]), re.IGNORECASE)


def _broken(pattern: re.Pattern[str], text: str) -> str:
    while pattern.search(text):  # tokens may overlap
        text = pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
    return text


def _opening(line: str) -> str:
    """How a line reads at its beginning: without marks before it, in lower case, blanks as one."""
    return " ".join((_folded(line) if _UNUSUAL.search(line) else line).lstrip(_MARKS).casefold().split())


def _folded(text: str) -> str:
    """Text as the most thorough normaliser would leave it: compatible characters, no accents, nothing invisible."""
    kept = (c for c in unicodedata.normalize("NFKD", text) if c in "\t\n\r" or unicodedata.category(c) not in _DROPPED)
    return "".join(kept)


_DROPPED = frozenset(("Cc", "Cf", "Mn"))

COMMON = Guard()
"""Breaks the control tokens of the common families; for text whose reader is not known yet."""
