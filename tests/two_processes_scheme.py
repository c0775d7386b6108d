"""Scripted answers, a view and a discussion that say where they come from, and a run of all that under two processes.

Run as a script under `torchrun`, each process writes what it saw: scores and statistics of the scripted answers, the
view and the later turns of one training step, and the rows that an emulated vLLM answers.
"""

import json
import subprocess
import sys
import tempfile
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

from helpers import chat, scripted
from vllm_server import rows_of_two_processes

from pst_rl import Rewards
from pst_rl.aggregation import Majority
from pst_rl.answers import Answer
from pst_rl.peers.prompts import show_peers
from pst_rl.records import Query, Rollout, Turn
from pst_rl.rewards.base import blank
from pst_rl.scoring.scorer import Scorer

QUESTIONS = ["What is 28+47?", "What is 2+3?", "What is 6*7?"]
TEXTS = [  # [peer][row]; two chains of each question, so that two processes share the second question
    [" 8+7=15. 2+4+1=7. #### 75", " 8+7=15. #### 65", " 2+3=5. #### 5", " #### 1", " 6*7=42. #### 42", " #### 13"],
    [" #### 75", " 28+47=75. #### 75", " #### 5", " 2+2=4. 4+1", " 6+7=13. #### 13", " 7*6=42. #### 42"],
]
QUERIES = [
    Query(0, " #### 75"),
    Query(1, " #### 5", given=" 2+3=5."),
    Query(0, "#### 75", shown=("75", "65")),
    Query(2, " 6*7=42. #### 42", whole=True),
    Query(1, "#### 5", shown=("5",), given=" 3+2=5. ", whole=True),
]


def shown(prompt, previous):
    return show_peers(prompt, previous, "\nP: {text}")


def scorer(engines, process=0, world=1, **settings):
    """A scorer of the scripted answers, of which each process holds its share."""
    rows = [chat(question) for question in QUESTIONS for _ in range(2)]
    share = slice(process * len(rows) // world, (process + 1) * len(rows) // world)
    rollouts = [scripted(e, rows[share], texts[share]) for e, texts in zip(engines, TEXTS, strict=False)]
    settings = {
        "prompts": [chat(q) for q in QUESTIONS],
        "chains": 2,
        "build_prompt": shown,
        "batch_size": 4,
    } | settings
    return Scorer(engines, rollouts=rollouts, **settings)


def answers_of(made, judge=0):
    """Everything a scorer has to say about the scripted answers, as lists."""
    statistics = made.statistics()
    return {
        "logprobs": [score.logprob for score in made.logprobs(judge, QUERIES)],
        "tokens": [score.tokens for score in made.logprobs(judge, QUERIES)],
        "statistics": [getattr(statistics, name).tolist() for name in ("logprob", "entropy", "self_certainty")],
    }


class RowView:
    """Peer p answers row i of the complete batch with 100 p + i."""

    name = "rows"

    def respond(self, context):
        rows = context.local.places
        assert context.group.targets is None
        return [self.rollout(first, [str(100 * p + i) for i in rows]) for p, first in enumerate(context.rollouts)]

    def rollout(self, first: Rollout, answers: list[str]) -> Rollout:
        return replace(first, texts=[f"#### {a}" for a in answers], answers=[Answer.of(a) for a in answers])


class LooksAtRows(Majority):
    """Majority vote that keeps what the view answered."""

    views = (RowView(),)

    def __call__(self, group):
        self.seen = [[[r.key for r in chains] for chains in peer] for peer in group.views["rows"]]
        return super().__call__(group)


class OneMoreTurn:
    """Every peer is told the number of its row and answers with it."""

    def respond(self, context):
        assert context.group.targets is not None
        return [
            self.extend(*pair, context.local.offset) for pair in zip(context.engines, context.rollouts, strict=True)
        ]

    def extend(self, engine, first: Rollout, offset: int) -> Rollout:
        ids, turns = [], []
        for row, own in enumerate(first.completion_ids):
            said = str(offset + row)
            start = len(own) + len(engine.text_ids(f" {said}"))
            ids.append([*own, *engine.text_ids(f" {said}"), *engine.text_ids(f" #### {said}"), engine.end_of_turn])
            turns.append((Turn(said, "", f" #### {said}", Answer.of(said), True, start, len(ids[-1])),))
        return replace(first, completion_ids=ids, turns=turns)


class Discusses:
    """r = 1 in every second chain; keeps what was said in the later turns."""

    name = "discusses"
    discussion = OneMoreTurn()

    def __call__(self, group):
        self.seen = [[[[t.remark for t in r.turns] for r in chains] for chains in peer] for peer in group.responses]
        self.group = group
        values, abstain = blank(group)
        values[..., ::2] = 1.0
        return Rewards(values, abstain)


@cache
def seen_by_two() -> list[dict]:
    """What each of two processes saw."""
    with tempfile.TemporaryDirectory() as folder:
        options = "--standalone --nproc_per_node 2"
        # `accelerate launch` starts several processes on GPUs only; on CPUs it is torchrun's job.
        command = [sys.executable, "-m", "torch.distributed.run", *options.split(), __file__, folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads((Path(folder) / f"rank{rank}.json").read_text()) for rank in range(2)]


def main(folder: Path) -> None:
    from datasets import Dataset

    from pst_rl import PSTConfig, PSTTrainer
    from pst_rl.tiny import TINY_PEERS, tiny_questions

    args = PSTConfig(
        str(folder / "run"),
        max_steps=1,
        per_device_train_batch_size=3,
        steps_per_generation=1,
        num_generations=2,
        max_completion_length=16,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=False,
        weighting="none",
    )
    rows = [{"prompt": chat(row["question"])} for row in tiny_questions("train", 12)]
    peers = {name: str(TINY_PEERS[name]) for name in ("llama", "qwen2")}
    trainer = PSTTrainer(
        peers, args, Dataset.from_list(rows), reward_providers=[Discusses()], aggregator=LooksAtRows()
    )
    process = trainer.accelerator.process_index
    seen = answers_of(scorer(trainer.engines, process, trainer.accelerator.num_processes))
    trainer.train()
    seen |= {"view": trainer.aggregator.seen, "remarks": trainer.providers["discusses"].seen}

    def build(specs, **settings):
        asked = copy(args)  # another configuration would wipe accelerate's state
        vars(asked).update(settings)
        return PSTTrainer(specs, asked, Dataset.from_list(rows))

    seen["vllm"] = rows_of_two_processes(build, peers)
    (folder / f"rank{process}.json").write_text(json.dumps(seen))
    trainer.accelerator.end_training()  # ends the process group; left to the exit, it once aborted a process


if __name__ == "__main__":
    main(Path(sys.argv[1]))
