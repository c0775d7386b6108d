"""Where logs are reported to: refused before a model is loaded, if it is not known or not installed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

NEVER_LISTED = {"flyte"}  # transformers does not look whether it is there
PACKAGES = {"azure_ml": "azureml-sdk", "comet_ml": "comet_ml"}  # where the package is called otherwise


def check_reporters(report_to: Iterable[str] | str | None) -> None:
    """Refuses reporters that transformers does not know, and those whose package is not installed.

    Raises:
        ValueError: In one line, with what to install or to choose instead.
    """
    wanted = [report_to] if isinstance(report_to, str) else list(report_to or [])
    there = get_available_reporting_integrations()
    for name in wanted:
        if name in ("none", "all"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            near = difflib.get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from none, {', '.join(INTEGRATION_TO_CALLBACK)}."
            raise ValueError(f"report_to={name!r} is no reporter: {hint}")
        if name not in there and name not in NEVER_LISTED:
            raise ValueError(
                f"report_to={name!r}, but its package is not installed here. Install it (pip install "
                f"{PACKAGES.get(name, name)}), or choose {' or '.join(['none', *there])} (--report-to)."
            )
