"""The pooled vote of peers that write their answers in different forms: one headings, one boxes, one tags.

    git worktree add /tmp/before 5e9f4c8
    python scripts/answers_forms.py /tmp/before     # writes docs/results/answers_forms.md and .json; a minute of CPU

The three tiny peers answer questions of the test split. The working of each response stays, its "#### N" is written in
the peer's form by a fixed rule, and the responses of a question are voted on by the code of another checkout and by
this one: the targets are what training would teach. No model is trained.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from answers_before import AGGREGATES, ROOT, ask, commit_of

REPORT = ROOT / "docs" / "results" / "answers_forms.md"
FORMS = {
    "heading": "{work}\n\n#### Final Answer\n{answer}",
    "box": "{work}\n\nSo it is $\\boxed{{{answer}}}$.",
    "tag": "<think>{work}</think>\n<answer>{answer}</answer>",
}
BEDS = {  # the form of each peer
    "headings, boxes and tags": ("heading", "box", "tag"),
    "headings only": ("heading", "heading", "heading"),
}
_STATED = re.compile(r"\s*####\s*(?P<answer>-?[0-9]+)\s*$")
MAX_NEW_TOKENS = 96


def respond(questions: list[str], chains: int, seed: int) -> list[list[list[str]]]:
    """Responses of the tiny peers, [question][peer][chain]: greedy for one chain, else sampled at temperature 1."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pst_rl.tiny import TINY_PEERS

    by_peer = []
    for folder in TINY_PEERS.values():
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(folder)
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            for question in questions
        ]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        torch.manual_seed(seed)
        sampling = {"do_sample": chains > 1} | ({"temperature": 1.0, "top_k": 0} if chains > 1 else {})
        with torch.no_grad():
            ids = model.generate(
                **inputs,
                **sampling,
                max_new_tokens=MAX_NEW_TOKENS,
                num_return_sequences=chains,
                pad_token_id=tokenizer.pad_token_id,
            )
        texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        by_peer.append([texts[i : i + chains] for i in range(0, len(texts), chains)])
    return [[peer[q] for peer in by_peer] for q in range(len(questions))]


def in_form(text: str, form: str) -> str:
    """A response of a tiny peer with its "#### N" in another form; one that states no number stays.

    >>> in_form("2+3=5 #### 5", "heading")
    '2+3=5\\n\\n#### Final Answer\\n5'
    """
    stated = _STATED.search(text)
    if stated is None:
        return text
    return FORMS[form].format(work=text[: stated.start()], answer=stated["answer"])


def figures(found: dict[str, Any], stated: list[list[list[str | None]]], gold: list[str]) -> dict[str, Any]:
    """Shares of the questions by aggregate, and of the responses read as they were meant."""
    from pst_rl.answers import equivalent

    count = len(gold)
    result: dict[str, Any] = {"aggregates": {}, "read_right": []}
    for name in AGGREGATES:
        targets = found["targets"][name]
        result["aggregates"][name] = {
            "right": sum(t is not None and equivalent(t, g) for t, g in zip(targets, gold, strict=True)) / count,
            "no_target": targets.count(None) / count,
            "final_answer": sum("answer" in (t or "").casefold() for t in targets) / count,
        }
    for peer in range(len(stated[0])):
        pairs = [
            (text, meant)
            for read, said in zip(found["read"], stated, strict=True)
            for text, meant in zip(read[peer], said[peer], strict=True)
            if meant is not None
        ]
        right = sum(text is not None and equivalent(text, meant) for text, meant in pairs)
        result["read_right"].append(right / len(pairs))
    return result


def study(before: Path, count: int, seed: int) -> dict[str, Any]:
    """Both beds, greedy and sampled, by both versions."""
    from pst_rl.tiny import tiny_questions

    questions = tiny_questions("test", count, seed)
    gold = [row["answer"] for row in questions]
    result: dict[str, Any] = {"before": commit_of(before), "questions": count, "seed": seed, "beds": {}}
    for sampling, chains in (("greedy", 1), ("4 samples", 4)):
        said = respond([row["question"] for row in questions], chains, seed)
        matches = [[[_STATED.search(text) for text in peer] for peer in row] for row in said]
        stated = [[[match and match["answer"] for match in peer] for peer in row] for row in matches]
        for bed, forms in BEDS.items():
            written = [[[in_form(t, f) for t in peer] for peer, f in zip(row, forms, strict=True)] for row in said]
            result["beds"][f"{bed}, {sampling}"] = {
                version: figures(ask(checkout, "votes", written), stated, gold)
                for version, checkout in (("before", before), ("now", ROOT))
            }
    return result


def markdown(result: dict[str, Any]) -> str:
    """The page of results."""
    lines = [
        "# Votes of peers with different answer forms",
        "",
        "Written by `python scripts/answers_forms.py CHECKOUT`; do not edit. See [answers](../answers-study.md).",
        "",
        f"The tiny peers' responses to {result['questions']} questions of the test split (seed {result['seed']}),",
        "each peer's answer written in "
        'its own form: under a heading ("#### Final Answer", and the answer in the next line), in a box, or in',
        f"`<answer>` after `<think>`. Before: commit {result['before']}. Nothing is trained: these are the targets",
        "that training would teach, and the share of responses that are read as they were meant. Percent.",
        "",
        '| peers write | aggregate | version | right target | no target | target "final answer" | read right, each |',
        "| --- " * 7 + "|",
    ]
    for bed, versions in result["beds"].items():
        for aggregate in AGGREGATES:
            for version, its in versions.items():
                shares = its["aggregates"][aggregate]
                cells = [f"{100 * shares[key]:.1f}" for key in ("right", "no_target", "final_answer")]
                peers = ", ".join(f"{100 * share:.1f}" for share in its["read_right"])
                lines.append(f"| {bed} | {aggregate} | {version} | {' | '.join(cells)} | {peers} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a checkout of the other version")
    parser.add_argument("--questions", type=int, default=201, help="how many, a third of each family")
    parser.add_argument("--seed", type=int, default=0, help="of the questions and the sampling")
    parser.add_argument("--report", type=Path, default=REPORT, help="page of results; figures go beside it as JSON")
    args = parser.parse_args()
    if not (args.before / "pst_rl").is_dir():
        parser.error(f"there is no folder {args.before / 'pst_rl'}")
    result = study(args.before, args.questions, args.seed)
    args.report.write_text(markdown(result))
    args.report.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(args.report.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
