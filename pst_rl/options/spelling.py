"""Values that a part of a scheme does not take, and names of earlier versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

# What `weighting` and `weighting_options` of `PSTConfig` were before the weights had a registry.
OLD_FIELDS = """
    pmi pmi_scorer pmi_target pmi_conditioning pmi_marginal pmi_reduction pmi_direction pmi_tau pmi_from_cache
""".split()


def new_spelling(old: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `PSTConfig` that say what these of an earlier version said.

    >>> new_spelling({"pmi": "on", "pmi_tau": 2})
    {'weighting': 'pmi', 'weighting_options': {'tau': 2}}
    >>> new_spelling({"pmi": "off"})
    {'weighting': 'none'}
    """
    if old.get("pmi", "on") in ("off", False):  # YAML reads `off` as false
        return {"weighting": "none"}
    options = {name.removeprefix("pmi_"): value for name, value in old.items() if name != "pmi"}
    return {"weighting": "pmi"} | ({"weighting_options": options} if options else {})


def check_choices(**options: tuple[Any, Any]) -> None:
    """Refuses a value that is not among those of its `Literal`; options are given as `name=(value, literal)`.

    Raises:
        ValueError: names the option and what it may be.
    """
    for name, (value, literal) in options.items():
        if value not in get_args(literal):
            raise ValueError(f"{name} must be one of {', '.join(get_args(literal))}, got {value!r}.")
