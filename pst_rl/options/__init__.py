"""What is said about options: what becomes of each of TRL's, values that are refused, names of earlier versions."""

from pst_rl.options.spelling import OLD_FIELDS, check_choices, new_spelling

__all__ = ["OLD_FIELDS", "check_choices", "new_spelling"]
