"""Pretrain the tiny concept model, and measure it.

    python scripts/train_concept_model.py                       # remake the shipped model
    python scripts/train_concept_model.py --out /tmp/concept    # leave it alone
    python scripts/train_concept_model.py --measure-only        # measure the folder that is there already

Writes the folder `concept` (weights, tokenizer, card), and its SHA-256 and what was measured into `checksums.json`.
One thread.
"""

import argparse
import json
import os
import time
from pathlib import Path
from random import Random

from tiny_models.concept_card import write_concept_card

import pst_rl.tiny as tiny
from pst_rl.files import file_digest
from pst_rl.quiet import quiet_output
from pst_rl.tiny.concepts import (
    CLAIM_STYLE,
    CONCEPT_STYLE,
    PRIOR,
    all_items,
    concept_items,
    concept_labels,
    concept_questions,
    exact_coherence,
    item_text,
    zero_shot_labels,
    zero_shot_probabilities,
)

SHOWN = (0, 1, 2, 4, 8, 20, 40, 63, 95)  # labelled items before the one that is asked
SEQUENCES = 120  # for each concept
LENGTHS = (24, 64)  # items of a labelling
SETS, ORDERS = 5, 4
SAMPLES = 8


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=tiny.FOLDER, help="where the folder goes (default: the package)")
    parser.add_argument("--steps", type=int, default=None, help="optimizer steps (default: as shipped)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure-only", action="store_true", help="measure the folder that is there already")
    return parser.parse_args()


def predictor(model, tokenizer, style: dict, rows: list[dict[str, str]]):
    """Return what the model expects of these rows, shown in a style."""
    from pst_rl.coherence.language_model import LanguageModelPredictor

    prompts = [style["template"].format(**row) for row in rows]
    words = [[word] for word in style["label_words"]]
    return LanguageModelPredictor(model, tokenizer, prompts, words, separator=style["separator"])


def labelled_rows(style: dict, items: list) -> tuple[list[dict[str, str]], dict[str, list[int]]]:
    """Return a row for each item, with a random claim if the style shows claims, and its label by each concept."""
    names = CONCEPT_STYLE["label_names"]
    questions = [item_text(item) for item in items]
    if "{claim}" not in style["template"]:
        return [{"question": q} for q in questions], {c: concept_labels(questions, c) for c in PRIOR}
    claims = [Random(f"claim-{q}").choice(names) for q in questions]
    rows = [{"question": q, "claim": claim} for q, claim in zip(questions, claims, strict=True)]
    return rows, {concept: concept_labels(questions, concept, claims) for concept in PRIOR}


def accuracy_by_context(model, tokenizer, style: dict) -> dict[str, dict[str, float]]:
    """Return the accuracy of the likelier label after 0, 1, 2, ... labels without noise, by concept and overall.

    The sequences of all concepts hold the same items, drawn from all splits.
    """
    rows, labels = labelled_rows(style, all_items())
    model_predictor, right = predictor(model, tokenizer, style, rows), {c: dict.fromkeys(SHOWN, 0) for c in PRIOR}
    for k in range(SEQUENCES):
        items = Random(f"sequence-{k}").sample(range(len(rows)), max(SHOWN) + 1)
        for concept, by_item in labels.items():
            demos = [(i, by_item[i]) for i in items]
            scores = model_predictor.open().chain(demos)
            for place in SHOWN:
                right[concept][place] += int(scores[place].argmax()) == demos[place][1]
    shares = {c: {str(place): n / SEQUENCES for place, n in by_place.items()} for c, by_place in right.items()}
    prior = {str(place): sum(PRIOR[c] * shares[c][str(place)] for c in PRIOR) for place in SHOWN}
    return {"prior": prior} | shares


def coherence_of_labellings(model, tokenizer, style: dict, n: int) -> dict[str, dict[str, float]]:
    """Return chain-rule coherence in nats of every concept's labelling of `n` items, and of the zero-shot labels.

    For each the mean over sets of training items (`nats`), the exact law's (`exact`), the smallest lead of the most
    salient concept in any set (`least_lead`), and the spread over orders within a set (`order_sd`).
    """
    from statistics import mean, stdev

    from pst_rl.coherence.scores import coherence, score_given

    found: dict[str, list[tuple[float, float, float]]] = {}
    for k in range(SETS):
        rows, labellings = labelled_rows(style, concept_items("train", n, seed=k))
        model_predictor = predictor(model, tokenizer, style, rows)
        labellings["zero-shot"] = score_given(model_predictor, [None] * n, [], range(n)).argmax(1).tolist()
        orders = [Random(f"order-{k}-{r}").sample(range(n), n) for r in range(ORDERS)]
        claims = [row["claim"] for row in rows] if "{claim}" in style["template"] else None
        questions = [row["question"] for row in rows]
        for name, labels in labellings.items():
            c = coherence(model_predictor, labels, orders)
            found.setdefault(name, []).append((c.nats, exact_coherence(questions, labels, claims), stdev(c.by_order)))
    best = [nats for nats, _, _ in found[next(iter(PRIOR))]]
    return {
        name: {
            "nats": mean(nats for nats, _, _ in sets),
            "exact": mean(exact for _, exact, _ in sets),
            "least_lead": min(b - nats for b, (nats, _, _) in zip(best, sets, strict=True)),
            "order_sd": mean(sd for _, _, sd in sets),
        }
        for name, sets in found.items()
    }


def zero_shot(model, tokenizer) -> dict[str, float]:
    """Return how far the labels without context agree with each concept's and with those of the exact law, all items.

    `error`: the mean absolute error of the probability of "yes".
    """
    from pst_rl.coherence.scores import score_given

    questions = [item_text(item) for item in all_items()]
    model_predictor = predictor(model, tokenizer, CONCEPT_STYLE, [{"question": q} for q in questions])
    scores = score_given(model_predictor, [None] * len(questions), [], range(len(questions)))
    labels = scores.argmax(1).tolist()
    rivals = {concept: concept_labels(questions, concept) for concept in PRIOR}
    rivals["exact"] = zero_shot_labels(questions)
    report = {name: sum(map(int.__eq__, labels, other)) / len(labels) for name, other in rivals.items()}
    errors = [
        abs(p - exact)
        for p, exact in zip(scores[:, 1].exp().tolist(), zero_shot_probabilities(questions), strict=True)
    ]
    return report | {"error": sum(errors) / len(errors)}


def as_peer(model, tokenizer) -> dict[str, float]:
    """Return how the model answers the test questions in a chat: greedy, and at temperature 1 (shares of responses).

    `well_formed`: samples that are one label word and the end of the turn.
    """
    import torch

    from pst_rl.answers import extract_answer

    rows = concept_questions("test", 96)
    chats = [[{"role": "user", "content": row["question"]}] for row in rows]
    inputs = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    width, gold, report = inputs["input_ids"].shape[1], [row["answer"] for row in rows], {}
    torch.manual_seed(0)
    for name, samples in (("greedy", 1), ("sampled", SAMPLES)):
        sampling = {"do_sample": samples > 1, "num_return_sequences": samples}
        sampling |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0} if samples > 1 else {}
        completions = model.generate(**inputs, **sampling)[:, width:]
        texts = tokenizer.batch_decode(completions)
        answers = [extract_answer(text) for text in tokenizer.batch_decode(completions, skip_special_tokens=True)]
        asked = [answer for answer in gold for _ in range(samples)]
        report[name] = sum(map(str.__eq__, map(str, answers), asked)) / len(asked)
    words = [word + tokenizer.eos_token for word in CONCEPT_STYLE["label_words"]]
    return report | {"well_formed": sum(text.startswith(tuple(words)) for text in texts) / len(texts)}


def rounded(value):
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else round(value, 4)


def main() -> None:
    quiet_output()
    args = parse_args()
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    import torch
    from tiny_models.concept_pretrain import STEPS, pretrain_concept_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    folder, file = args.out / tiny.TINY_CONCEPT_MODEL.name, args.out / "checksums.json"
    record = json.loads(file.read_text()) if file.exists() else {"sha256": {}}
    made = record.get("concept", {}).get("made")
    if not args.measure_only:
        start, used = time.monotonic(), time.process_time()
        model, tokenizer = pretrain_concept_model(args.steps, args.seed, log=lambda line: print(line, flush=True))
        made = {"steps": args.steps or STEPS, "seed": args.seed}
        made |= {"seconds": time.monotonic() - start, "cpu_seconds": time.process_time() - used}
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        file.write_text(json.dumps(record | {"concept": {"made": rounded(made)}}, indent=2) + "\n")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    styles = {"questions": CONCEPT_STYLE, "claims": CLAIM_STYLE}
    report = {
        "parameters": model.num_parameters(),
        "made": made,
        "accuracy_by_context": {name: accuracy_by_context(model, tokenizer, style) for name, style in styles.items()},
        "zero_shot": zero_shot(model, tokenizer),
        "coherence": {
            f"{n} {name}": coherence_of_labellings(model, tokenizer, style, n)
            for name, style in styles.items()
            for n in LENGTHS
        },
        "peer": as_peer(model, tokenizer),
    }
    record["sha256"] |= {f"{folder.name}/{part}": file_digest(folder / part) for part in tiny.CHECKED}
    record["concept"] = rounded(report)
    file.write_text(json.dumps(record, indent=2) + "\n")
    write_concept_card(folder, record["concept"], SEQUENCES, SETS, ORDERS)
    print(json.dumps(record["concept"], indent=2))


if __name__ == "__main__":
    main()
