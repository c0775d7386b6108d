"""Model cards of the tiny peers."""

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
