"""The levers of a step: what each is set to when it is off and when it is on.

A key that is a field of `bench_common.Setting` (such as `unanimous`) changes the step; all others are fields of
`PSTConfig`. Whatever is not named is as `pst_levers_off` has it.
"""

from typing import Any

from bench_common import Setting
from bench_sides import OURS

FROM_CACHE = {"weighting_options": {"from_cache": True}}
LEVERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: (off, on)
    "all that the benchmark turns on": ({}, OURS["pst"]),
    "shared_prefill": ({}, {"shared_prefill": True}),
    "shared_prompts": ({}, {"shared_prompts": True}),
    "sort_micro_batches (4 of them)": ({"micro_batch": 8}, {"micro_batch": 8, "sort_micro_batches": True}),
    "sort_micro_batches with shared_prompts": (
        {"micro_batch": 8, "shared_prompts": True},
        {"micro_batch": 8, "shared_prompts": True, "sort_micro_batches": True},
    ),
    "pmi_from_cache": ({"shared_prefill": True}, {"shared_prefill": True} | FROM_CACHE),
    "skip_zero_advantage, half the groups unanimous": (
        {"unanimous": 0.5},
        {"unanimous": 0.5, "skip_zero_advantage": True},
    ),
    "half the groups unanimous, skip_zero_advantage": ({}, {"unanimous": 0.5, "skip_zero_advantage": True}),
    "rows_per_generate": ({}, {"rows_per_generate": 8}),
    "pmi (what it costs)": ({"weighting": "none"}, {"weighting": "pmi"}),
    "pmi from the cache (what it costs)": (
        {"weighting": "none", "shared_prefill": True},
        {"weighting": "pmi", "shared_prefill": True} | FROM_CACHE,
    ),
    "pmi_marginal own_samples": (
        {"weighting_options": {"marginal": "unconditional"}},
        {"weighting_options": {"marginal": "own_samples"}},
    ),
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
