"""The table of options as a page: `python -m pst_rl.options.page > docs/options.md`."""

from __future__ import annotations

from collections.abc import Mapping

from pst_rl.options.table import MODEL, OWN_MAY_CHANGE, TRAINER, Option

_HEAD = """\
# Options

What becomes of every option of TRL 1.16's `GRPOConfig` (transformers' `TrainingArguments` among them), which
`PSTConfig` extends, and of TRL's `ModelConfig`, which `pst-rl train` reads besides. This page is
`pst_rl.options.table`; a test fails when TRL or transformers bring a field that the table does not know, or drop one
that it has.

| | passed | ours | refused | together |
| --- | ---: | ---: | ---: | ---: |
{counts}

- **passed**: it takes effect as TRL and transformers say, for every peer. A test shows the effect of each
  (`tests/options/test_options_passed.py`).
- **ours**: it has a meaning of its own here, given below. The options that only `PSTConfig` has are in its docstring
  ([reference](api/trainer.md)).
- **refused**: any value but the default is refused at construction, with the remedy below, since nothing here could
  act on it.

On resume a run is compared with its checkpoint in every option, but for those with a reason in the last column: a
resumed run may differ in them. Options that are refused always have their default. A run whose learning rate follows
its evaluations (`reduce_lr_on_plateau`, `greedy`) is compared in what it evaluates, too. Of `PSTConfig`'s own these
may change: {own}.

Some values of options that are passed are refused, too: optimizers that need more than groups of parameters (GaLore,
APOLLO, LOMO, schedule-free ones), `split_batches` and `dispatch_batches` in `accelerator_config`,
`tpu_metrics_debug`, and a `cache_implementation` beside `shared_prefill`.
"""

_TABLE = """
## {title}

| option | what becomes of it | | may change on resume, since |
| --- | --- | --- | --- |
{rows}
"""


def options_page() -> str:
    """The page, as Markdown."""
    counts = "\n".join(_counts(name, table) for name, table in (("`GRPOConfig`", TRAINER), ("`ModelConfig`", MODEL)))
    own = "; ".join(f"`{name}` ({why})" for name, why in OWN_MAY_CHANGE.items())
    return (
        _HEAD.format(counts=counts, own=own)
        + _TABLE.format(title="`GRPOConfig`", rows=_rows(TRAINER))
        + _TABLE.format(title="`ModelConfig`", rows=_rows(MODEL))
    )


def _counts(name: str, table: Mapping[str, Option]) -> str:
    counts = [sum(option.fate == fate for option in table.values()) for fate in ("passed", "ours", "refused")]
    return f"| {' | '.join([name, *map(str, counts), str(len(table))])} |"


def _rows(table: Mapping[str, Option]) -> str:
    return "\n".join(
        f"| `{name}` | {option.fate} | {option.note} | {option.may_change} |" for name, option in sorted(table.items())
    )


if __name__ == "__main__":
    print(options_page(), end="")
