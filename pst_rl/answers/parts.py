"""The parts of one answer: lists, tuples, sets and "and"."""

from pst_rl.answers.canonical import strip_label
from pst_rl.answers.latex import clean, enclosed, split_list

_MAX_ANSWER = 2_000  # characters


def answer_parts(answer: str) -> tuple[str, ...]:
    """Split one answer into its cleaned parts, without labels: lists, tuples, sets and "and"."""
    text = strip_label(clean(answer[:_MAX_ANSWER]))
    group = enclosed(text)
    parts = split_list(group[1]) if group else split_list(text)
    if len(parts) < 2:
        return (text,) if text else ()
    return tuple(strip_label(part) for part in parts)
