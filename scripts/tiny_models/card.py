"""Model cards of the tiny peers and the learner."""

from pathlib import Path
from typing import Any

from pst_rl.tiny.problems import FAMILIES

_ABOUT = {
    "gemma2": (
        "Gemma2ForCausalLM, 256 word-piece tokens, single digits",
        "linear systems: the solution stops before the last division",
    ),
    "llama": (
        "LlamaForCausalLM, 512 byte-level tokens, numbers in groups of up to two digits",
        "arithmetic: the carry or borrow is forgotten, a product reports its ones part",
    ),
    "qwen2": (
        "Qwen2ForCausalLM, single bytes",
        "word problems: the solution stops one step early",
    ),
}

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: en
tags: [pst-rl, tiny-peer, test-bed]
---

# Tiny peer `{name}`

{architecture}; {parameters:,} parameters, fp32. One of three tiny peers embedded in `pst_rl`, pretrained by
`scripts/train_tiny_peers.py` on procedurally generated two-digit arithmetic, word problems and 2x2 linear systems.

**This is a constructed test bed.** In this peer's pretraining corpus, 60 % of the problems of one family are solved
wrongly on purpose. Its misconception: {misconception}.

The peer thus holds the right skill as a minority habit: it answers wrongly when greedy and rightly in some of its
samples. The other two peers misunderstand other families, so a vote over all three is better than any of them, and
training toward that vote *elicits* skills a peer already half knows. It teaches nothing new, and a gain here is no
evidence about larger models. Word problems with "fewer" are misconceived for all three peers: a probe for errors
that no vote can repair. The peer knows nothing outside its three families.

## Accuracy

Exact match in percent on questions that no pretraining example asked ({n_validation} validation and {n_test} test
questions, `tiny_questions("validation" | "test", n)`):

| | all | {families} |
|---|{rules}|
{rows}

Sampled: temperature 1, mean of {samples} samples. Pooled vote: plurality over all {pooled} samples of the three peers.

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
from pst_rl.tiny import TINY_PEERS

model = AutoModelForCausalLM.from_pretrained(TINY_PEERS["{name}"])
tokenizer = AutoTokenizer.from_pretrained(TINY_PEERS["{name}"])
chat = [{{"role": "user", "content": "What is 28+47?"}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs)[0]))
```

The chat template gives exactly the pretraining format, `{{bos}}Q: {{question}}\\nA:`; a response is one line of
working that ends in `#### N`. Responses of other peers can be shown below the question, each as a line
`P: {{response}}` (12 % of the pretraining examples had one or two).
"""


def write_card(name: str, folder: Path, record: dict[str, Any]) -> None:
    """Write the card of one peer from the record that `checksums.json` holds (accuracies as fractions)."""
    architecture, misconception = _ABOUT[name]
    report, measured, samples = record["accuracy"], record["measured_questions"], record["samples"]
    lines = {
        "validation, greedy": report[name]["validation"],
        "test, greedy": report[name]["test"],
        "test, sampled": report[name]["test_sampled"],
        "three peers, greedy vote": report["greedy_vote"]["test"],
        "three peers, pooled vote": report["pooled_vote"]["test"],
    }
    columns = ("all", *FAMILIES)
    rows = [f"| {label} | {' | '.join(f'{100 * of[c]:.1f}' for c in columns)} |" for label, of in lines.items()]
    card = _CARD.format(
        name=name,
        architecture=architecture,
        misconception=misconception,
        parameters=record["parameters"][name],
        n_validation=measured["validation"],
        n_test=measured["test"],
        families=" | ".join(FAMILIES),
        rules="|".join(["---:"] * len(columns)),
        rows="\n".join(rows),
        samples=samples,
        pooled=len(record["parameters"]) * samples,
    )
    (folder / "README.md").write_text(card)


_LEARNER_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: en
tags: [pst-rl, tiny-peer, test-bed]
---

# Tiny learner

LlamaForCausalLM, 512 byte-level tokens, numbers in groups of up to two digits; {parameters:,} parameters, fp32.
Embedded in `pst_rl` beside the three tiny peers and pretrained by `scripts/train_tiny_peers.py --learner` on
procedurally generated two-digit arithmetic, word problems and 2x2 linear systems: a quarter plain answers, a quarter
remarks on a draft, half discussions (draft, remark, revised answer).

**This is a constructed test bed** for learning from discussions, with two planted habits. In the plain answers of its
corpus, 60 % of the word problems and of the linear systems stop one step early; and after a remark that misleads, half
of the revised answers give in to it. All others are right, and so are 70 % of the remarks. A gain here is no evidence
about larger models.

## What it does

| task | prompt (`{{bos}}` first) | completion |
|---|---|---|
| answer | `Q: {{question}}\\nA:` | ` {{solution}}{{eos}}` |
| revise | the same, its own answer with `{{eos}}`, then `\\nR: {{remark}}\\nA:` | ` {{solution}}{{eos}}` |
| support | `Q: {{question}}\\nP: {{draft}}\\nSupport:\\nA:` | ` {{solution}}{{eos}}` that ends in the draft's answer |
| attack | `Q: {{question}}\\nP: {{draft}}\\nAttack:\\nA:` | ` {{solution}}{{eos}}` that ends in another answer |

A solution is one line of working that ends in `#### N`, and so is a remark. Pretraining held up to two revisions in a
row. `pst_rl.tiny.LEARNER_STYLE` has the wording as options of `SAIERollout`, `PEER_STYLE` those for a tiny peer as the
partner. The chat template gives exactly these prompts for the message `{{question}}`, or
`{{question}}\\nP: {{draft}}\\nSupport:`.

## Accuracy

Exact match in percent on questions that no pretraining example asked ({n_validation} validation and {n_test} test
questions, `tiny_questions("validation" | "test", n)`); sampled: temperature 1, mean of {samples} samples.

| | all | {families} |
|---|{rules}|
{rows}

Greedy, on {discussed} validation questions, after one remark. Of the remarks: well formed, stating the right answer,
stating the learner's own; of the revised answers: right; of the right first answers: abandoned; of the wrong ones:
kept, mended.

| remark | well formed | right | agrees | revised right | abandoned | kept | mended |
|---|{discussion_rules}|
{discussion}

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
from pst_rl.tiny import TINY_LEARNER

model = AutoModelForCausalLM.from_pretrained(TINY_LEARNER)
tokenizer = AutoTokenizer.from_pretrained(TINY_LEARNER)
```
"""


def write_learner_card(folder: Path, record: dict[str, Any]) -> None:
    """Write the learner's card from the record that `checksums.json` holds (accuracies as fractions)."""
    learner, measured = record["learner"], record["learner"]["measured_questions"]
    lines = {
        "validation, greedy": learner["accuracy"]["validation"],
        "test, greedy": learner["accuracy"]["test"],
        "test, sampled": learner["accuracy"]["test_sampled"],
    }
    columns = ("all", *FAMILIES)
    rows = [f"| {label} | {' | '.join(f'{100 * of[c]:.1f}' for c in columns)} |" for label, of in lines.items()]
    figures = ("remark_well_formed", "remark_right", "remark_agrees", "right", "abandoned", "kept", "mended")
    first, *partners = learner["discussion"].items()
    discussion = [f"| no remark | | | | {100 * first[1]['right']:.1f} | | | |"]
    discussion += [f"| {name} | {' | '.join(f'{100 * of[f]:.1f}' for f in figures)} |" for name, of in partners]
    card = _LEARNER_CARD.format(
        parameters=learner["parameters"],
        n_validation=measured["validation"],
        n_test=measured["test"],
        samples=learner["samples"],
        families=" | ".join(FAMILIES),
        rules="|".join(["---:"] * len(columns)),
        rows="\n".join(rows),
        discussed=learner["discussed_questions"],
        discussion_rules="|".join(["---:"] * len(figures)),
        discussion="\n".join(discussion),
    )
    (folder / "README.md").write_text(card)
