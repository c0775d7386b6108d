"""Model card of the tiny concept model."""

from pathlib import Path
from typing import Any

from pst_rl.tiny.concepts import FEATURES, PRIOR, RELIABILITY

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: en
tags: [pst-rl, tiny-peer, test-bed]
---

# Tiny concept model

LlamaForCausalLM, width 64, 3 layers, {parameters:,} parameters, fp32; byte-level tokens, every word of its world one
token. Embedded in `pst_rl` and pretrained by `scripts/train_concept_model.py` ({steps} steps).

**This is a constructed test bed** for labelling without labels (`pst_rl.coherence`). It knows nothing but eight binary
features of an item ({features}) and that sequences of items are labelled by one hidden concept, which it must infer
from the labels before. What it shows is no evidence about larger models.

| concept: "yes" for | prior | labels that are right |
|---|---:|---:|
{concepts}

{distractors} are no concept. Each pretraining sequence draws a concept by this prior, and from a Beta
distribution with the mean in the last column the probability with which each of its labels is the concept's. The law
of all labels is thus known exactly (`pst_rl.tiny.concepts.exact_coherence`), and the most coherent labelling is the
one by {best}.

## Format

    {{bos}}large red round smooth heavy hollow old cold: yes
    small red square rough heavy solid old warm: no
    large blue square smooth light solid new cold:

continues with ` yes` or ` no` and the end of the turn. Claims about answers are shown as
`large ... cold: yes?`, and continue with ` True` or ` False`. Labels are separated by one newline. The chat template
renders a question (an item's words) as an item without labels before it.

## What it does

Label accuracy in percent after so many labels without noise, all of one concept; mean over the concepts by the prior,
{sequences} sequences each:

| labels shown | {shown} |
|---|{shown_rules}|
{accuracy}

Chain-rule coherence of noise-free labellings in nats; mean of {sets} sets of training items, {orders} orders each.
*Exact*: of the law of pretraining. *Least lead*: of {best} in any set. *Order sd*: between orders of one set.

| items | labelling | coherence | exact | least lead | order sd |
|---|---|---:|---:|---:|---:|
{coherence}

Without context, the likelier label is that of {best} for {agreement:.1f} % of all 256 items (exact law: 68.75 %), and
the probability of "yes" is off by {error:.3f} on average. As a peer, asked the 96 test questions in a chat, it gives
{greedy:.1f} % of the answers by {best} when greedy and {sampled:.1f} % at temperature 1; {well_formed:.1f} % of the
samples are one word and the end of the turn.

Trained on contexts of up to 96 items (1249 tokens), and measured up to there; what it does on longer ones is unknown.
"""


def write_concept_card(folder: Path, record: dict[str, Any], sequences: int, sets: int, orders: int) -> None:
    """Write the card from the `concept` entry of `checksums.json` (accuracies as fractions)."""
    best, *_ = PRIOR
    (folder / "README.md").write_text(
        _CARD.format(
            parameters=record["parameters"],
            steps=record["made"]["steps"],
            features=", ".join(FEATURES),
            concepts="\n".join(
                f"| {FEATURES[name][0]} ({name}) | {prior} | {a / (a + b):.3f} |"
                for (name, prior), (a, b) in zip(PRIOR.items(), RELIABILITY.values(), strict=True)
            ),
            distractors=", ".join(feature for feature in FEATURES if feature not in PRIOR).capitalize(),
            best=best,
            sequences=sequences,
            sets=sets,
            orders=orders,
            agreement=100 * record["zero_shot"][best],
            error=record["zero_shot"]["error"],
            **{name: 100 * share for name, share in record["peer"].items()},
            **tables(record),
        )
    )


def tables(record: dict[str, Any]) -> dict[str, str]:
    """Return the rows of the tables of accuracies and coherences, which the documentation shows too."""
    by_context = {name: of["prior"] for name, of in record["accuracy_by_context"].items()}
    shown = next(iter(by_context.values()))
    figures = ("nats", "exact", "least_lead", "order_sd")
    return {
        "shown": " | ".join(shown),
        "shown_rules": "|".join(["---:"] * len(shown)),
        "accuracy": "\n".join(
            f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in of.values())} |"
            for name, of in by_context.items()
        ),
        "coherence": "\n".join(
            f"| {items} | {name} | {' | '.join(f'{of[figure]:.2f}' for figure in figures)} |"
            for items, labellings in record["coherence"].items()
            for name, of in labellings.items()
        ),
    }
