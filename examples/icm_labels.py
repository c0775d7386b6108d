"""Claims without labels make a model better: claims -> labels -> fine-tuning, or a reward model and GRPO -> accuracy.

    python examples/icm_labels.py                     # the embedded concept model labels, CPU, a minute or two
    python examples/icm_labels.py --use reward        # labels -> reward model -> GRPO, instead of fine-tuning
    python examples/icm_labels.py --model org/model --claims my.jsonl --test-claims test.jsonl --template correctness

A claims file has the columns `question`, `claim` and, to measure only, `label`. Rivals share a question: at most one
of them is true. The search is resumed if the output folder has its state.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from pst_rl.coherence.accuracy import Accuracy


@dataclass
class Arguments:
    """Label claims without labels, train on the labels, and measure."""

    model: str = "tiny"
    """Hub id or folder of a causal language model, which labels and is trained; `tiny`: the embedded concept model."""
    claims: str = "tiny"
    """Claims to label: a .jsonl, .json, .csv or .parquet file, or a Hub id."""
    test_claims: str = "tiny"
    """Claims with labels, to measure on."""
    template: str = "tiny"
    """correctness, truthfulness, or a format string with {question} and {claim} that ends before True or False."""
    use: Literal["sft", "reward"] = "sft"
    """Fine-tune on the labels; or train a reward model on pairs of claims, and a policy on the reward model."""
    restarts: int = 24
    """Labellings that are sampled; the most coherent one is kept."""
    learning_rate: float = 5e-4
    """Of every training; 1e-5 suits large models."""
    epochs: int = 4
    """Of fine-tuning, and of the reward model."""
    grpo_steps: int = 40
    """Updates of the policy."""
    seed: int = 0
    """Of the search and the trainings."""
    output_dir: str = "runs/icm_labels"
    """Folder of the search's state, the labels and the trained model."""


def main() -> int:
    args = tyro.cli(Arguments)

    # The heavy imports come after parsing, so that --help and typos answer at once.
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    from pst_rl.coherence.accuracy import accuracy
    from pst_rl.coherence.baselines import zero_shot
    from pst_rl.coherence.claims import load_claims
    from pst_rl.coherence.export import write_labels
    from pst_rl.coherence.language_model import LanguageModelPredictor
    from pst_rl.coherence.search import Gibbs
    from pst_rl.tiny import CLAIM_STYLE, TINY_CONCEPT_MODEL, concept_claims

    # ---- claims --------------------------------------------------------------------------------------------------
    tiny = {"template": CLAIM_STYLE["template"], "label_words": CLAIM_STYLE["label_words"], "gold_column": "gold"}
    style = tiny if args.template == "tiny" else {"template": args.template}
    source = concept_claims("train", 40) if args.claims == "tiny" else args.claims
    test_source = concept_claims("test", 96) if args.test_claims == "tiny" else args.test_claims
    name = str(TINY_CONCEPT_MODEL) if args.model == "tiny" else args.model
    separator = CLAIM_STYLE["separator"] if args.template == "tiny" else "\n\n"
    reader = lambda model, claims: LanguageModelPredictor(  # noqa: E731
        model, tokenizer, claims.prompts, claims.label_words, separator=separator
    )
    try:
        claims = load_claims(source, group_rule="at_most_one", **style)
        test = load_claims(test_source, group_rule="at_most_one", **style)
        model = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(name)

        # ---- labels: the most coherent of several sampled labellings ----------------------------------------------
        search = Gibbs(sweeps=2, temperature=1.0, anneal_to=0.0, start="empty", restarts=args.restarts)
        state = Path(args.output_dir) / "search"
        labelling = search.search(reader(model, claims), claims.problem, seed=args.seed, folder=state, progress=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = write_labels(claims, [labelling], args.output_dir, ["sft", "preference"])
    print(f"{len(claims)} claims labelled at {labelling.coherence:.1f} nats, {labelling.tokens:,} tokens read")
    show("labels that are right", accuracy(labelling, claims.gold))

    # ---- train on them, and measure -------------------------------------------------------------------------------
    shared = {"report_to": "none", "save_strategy": "no", "seed": args.seed, "learning_rate": args.learning_rate}
    shared |= {"per_device_train_batch_size": 16, "logging_steps": 20, "bf16": False}
    shared |= {"gradient_checkpointing": False}  # drop this line where memory is short
    folder = f"{args.output_dir}/model"
    if args.use == "sft":
        data = load_dataset("json", data_files=str(files["sft"]), split="train")
        config = SFTConfig(folder, num_train_epochs=args.epochs, **shared)
        trainer = SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer)
        measure = lambda: accuracy(zero_shot(reader(trainer.model, test), test.problem), test.gold)  # noqa: E731
        what = "test claims judged right, each alone"
    else:
        pairs = load_dataset("json", data_files=str(files["preference"]), split="train").map(as_chat)
        judge = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, use_safetensors=True)
        judge.config.pad_token_id = tokenizer.pad_token_id
        config = RewardConfig(f"{args.output_dir}/judge", num_train_epochs=args.epochs, **shared)
        RewardTrainer(judge, config, train_dataset=pairs, processing_class=tokenizer).train()
        config = GRPOConfig(folder, max_steps=args.grpo_steps, num_generations=8, max_completion_length=8, **shared)
        prompts = pairs.select_columns(["prompt"])
        trainer = GRPOTrainer(model, judge, config, prompts, processing_class=tokenizer)
        measure = lambda: right_answers(trainer.model, tokenizer, test)  # noqa: E731
        what = "test questions answered with a true claim"
    show(f"{what}, before", measure())
    trainer.train()
    show(f"{what}, after", measure())
    trainer.save_model()
    print(f"The labels and the trained model are in {args.output_dir}")
    return 0


def as_chat(row: dict) -> dict:
    """A preference pair as TRL's conversations."""
    chosen, rejected = ([{"role": "assistant", "content": row[key]}] for key in ("chosen", "rejected"))
    return {"prompt": [{"role": "user", "content": row["prompt"]}], "chosen": chosen, "rejected": rejected}


def right_answers(model, tokenizer, claims) -> "Accuracy":
    """Whether greedy answers are true claims. Gold labels are read here, and nowhere else."""
    from pst_rl.coherence.accuracy import Accuracy

    true: dict[str, set[str]] = {}
    for row, gold in zip(claims.rows, claims.gold, strict=True):
        true.setdefault(row["question"], set()).update([row["claim"]] if gold == claims.true_label else [])
    tokenizer.padding_side = "left"
    chats = [[{"role": "user", "content": question}] for question in true]
    batch = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
    ).to(model.device)
    said = model.generate(**batch, max_new_tokens=8, do_sample=False)[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(said, skip_special_tokens=True)
    right = tuple(text.strip() in claims for text, claims in zip(texts, true.values(), strict=True))
    return Accuracy(right, recalls=())


def show(what: str, found: "Accuracy | None") -> None:
    if found is not None:
        low, high = found.interval.low, found.interval.high
        print(f"{what}: {100 * found.share:.1f} % ({100 * low:.1f} to {100 * high:.1f})")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on with the search, and begins a training anew.", file=sys.stderr)
        sys.exit(130)
