"""The levers of a step: what each is set to when it is off and when it is on.

A key that is a field of `bench_common.Setting` (such as `unanimous`) changes the step; all others are fields of
`PSTConfig`. PMI is on.
"""

from typing import Any

from bench_common import Setting

LEVERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: (off, on)
    "rows_per_generate": ({}, {"rows_per_generate": 8}),
    "skip_zero_advantage, half the groups unanimous": (
        {"unanimous": 0.5},
        {"unanimous": 0.5, "skip_zero_advantage": True},
    ),
    "half the groups unanimous, skip_zero_advantage": ({}, {"unanimous": 0.5, "skip_zero_advantage": True}),
    "pmi": ({"pmi": "off"}, {"pmi": "on"}),
    "pmi_marginal own_samples": ({"pmi_marginal": "unconditional"}, {"pmi_marginal": "own_samples"}),
    "peer_context answers": (
        {"context": "sequential", "peer_context": "responses"},
        {"context": "sequential", "peer_context": "answers"},
    ),
}


def lever_settings(name: str, ours: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The changes of a `Setting` for one lever, off and on, over the fields of `PSTConfig` that hold for all."""
    fields = Setting.__dataclass_fields__
    split = lambda values: (  # noqa: E731
        {k: v for k, v in values.items() if k in fields}
        | {"ours": ours | {k: v for k, v in values.items() if k not in fields}}
    )
    off, on = LEVERS[name]
    return split(off), split(on)
