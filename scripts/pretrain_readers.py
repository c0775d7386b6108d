"""Trains the shipped tiny peers on for a while, on a corpus that shows other peers' responses, or on the shipped mix.

    python scripts/pretrain_readers.py --mix following --out runs/readers/following
    python scripts/pretrain_readers.py --mix shipped --out runs/readers/shipped     # the control

Then `scripts/sequential_protocol.py --peers runs/readers/following/{gemma2,llama,qwen2} --name following` measures
them.
"""

import argparse
from functools import partial
from pathlib import Path
from random import Random

import torch
from tiny_models.pretrain import train
from transformers import AutoModelForCausalLM, AutoTokenizer

from pst_rl.quiet import quiet_output
from pst_rl.tiny import TINY_PEERS
from pst_rl.tiny.corpus import Example, Said, as_answered, pretraining_example, response
from pst_rl.tiny.mistakes import corrupt
from pst_rl.tiny.problems import FAMILIES
from pst_rl.tiny.questions import plain_prompt, sample_from

MISCONCEIVED = {"gemma2": "linear", "llama": "arithmetic", "qwen2": "word"}
SHOWN, SLIPPED, FOLLOWED, BARE = 0.4, 0.15, 0.8, 1 / 3


def following_example(rng: Random, misconceived: str) -> Example:
    """One example of the mix that shows one or both other peers in 40 % of the cases.

    Each shown response holds that peer's own misconceptions at the planted rate and, in 15 % of the cases, a slip; a
    third are bare answers. Where a right answer is shown, the completion is right in 80 % of the cases and otherwise
    drawn as ever; where none is, it is drawn as ever.
    """
    problem = sample_from("pretrain", rng.choice(FAMILIES), rng)
    shown = []
    if rng.random() < SHOWN:
        others = [family for family in MISCONCEIVED.values() if family != misconceived]
        for family in rng.sample(others, rng.choice((1, 2))):
            said = as_answered(rng, problem, (family,))
            shown.append(corrupt(rng, said) if rng.random() < SLIPPED else said)
    own = as_answered(rng, problem, (misconceived,))
    if any(said.answer == problem.answer for said in shown) and rng.random() < FOLLOWED:
        own = problem
    texts = [f"#### {said.answer}" if rng.random() < BARE else said.solution for said in shown]
    return Said(plain_prompt(problem.question, texts)), response(own)


def main() -> None:
    quiet_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mix", choices=["following", "shipped"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, family in MISCONCEIVED.items():
        model = AutoModelForCausalLM.from_pretrained(TINY_PEERS[name])
        tokenizer = AutoTokenizer.from_pretrained(TINY_PEERS[name])
        example = (
            partial(following_example, misconceived=family)
            if args.mix == "following"
            else partial(pretraining_example, misconceived=(family,))
        )
        train(model, tokenizer, example, args.steps, Random(f"more-{name}-0"), learning_rate=5e-3)
        model.save_pretrained(args.out / name)
        tokenizer.save_pretrained(args.out / name)


if __name__ == "__main__":
    main()
