"""The parts of one answer: lists, tuples, sets and "and"."""

from pst_rl.answers.canonical import strip_label
from pst_rl.answers.latex import clean, enclosed, split_list
from pst_rl.answers.quantity import quantity
from pst_rl.answers.units import measure

_MAX_ANSWER = 2_000  # characters


def are_quantities(text: str) -> bool:
    """Whether each part of an answer is a quantity with its unit, or a measure such as "5 feet 7 inches"."""
    parts = answer_parts(text)
    return bool(parts) and all(quantity(part) is not None or measure(part) is not None for part in parts)


def answer_parts(answer: str) -> tuple[str, ...]:
    """Split one answer into its cleaned parts, without labels: lists, tuples, sets and "and"."""
    text = strip_label(clean(answer[:_MAX_ANSWER]))
    if measure(text) is not None:
        return (text,)  # 5 dollars and 30 cents
    group = enclosed(text)
    parts = split_list(group[1]) if group else split_list(text)
    if len(parts) < 2:
        return (text,) if text else ()
    return tuple(strip_label(part) for part in parts)
