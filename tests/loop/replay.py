"""One run's tokens, replayed by several processes. Run as a script it leaves what each process ended with in a folder.

    python tests/loop/replay.py FOLDER 1 2 4     # one process records, two and four replay, forked
    accelerate launch ... tests/loop/replay.py FOLDER            # the processes of a launcher replay what was recorded

`FOLDER/<kind>-<world>-<rank>.pt` (`launched-...` under a launcher) holds the trained tensors and the logs.
"""

import os
import socket
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch

from pst_rl.records import Rewards
from pst_rl.rewards import MatchesAggregate

ROWS = 12  # of one micro-batch, over all processes
KINDS = {
    "full": {"loss_type": "grpo", "context": "sequential", "learning_rate": 0.1},
    "lora": {"loss_type": "dapo", "context": "independent", "learning_rate": 1.0},
}


class Graded(MatchesAggregate):
    """Agreement with the aggregate, and a grade for the chain: rewards vary in every group, whatever was sampled."""

    name = "graded"

    def __call__(self, group):
        agreement = super().__call__(group)
        return Rewards(agreement.values + torch.arange(group.shape[2]) / 8, agreement.abstain)


def share(rollout, process: int, world: int):
    """The rows of a rollout that one of several processes holds."""
    values = {f.name: getattr(rollout, f.name) for f in fields(rollout)}
    rows = {name: value for name, value in values.items() if isinstance(value, list)}
    count = len(rollout.texts) // world
    return replace(rollout, **{name: value[process * count : (process + 1) * count] for name, value in rows.items()})


def build(folder: Path, kind: str, world: int):
    """A trainer whose global batch is the same for every number of processes."""
    from datasets import Dataset
    from peft import LoraConfig

    from pst_rl import PSTConfig, PSTTrainer
    from pst_rl.tiny import TINY_PEERS, tiny_questions

    args = PSTConfig(
        str(folder / f"{kind}-{world}"),
        max_steps=2,
        per_device_train_batch_size=ROWS // world,
        gradient_accumulation_steps=2,  # 24 rows a generation batch: three groups of eight, split over the processes
        num_generations=8,
        max_completion_length=40,
        optim="sgd",  # an update in proportion to the gradient; Adam divides rounding errors by their own size
        weighting="pmi",
        answer_template="#### {answer}",
        answer_style="hash",
        peer_template="\nP: {text}",
        logging_steps=1,
        save_strategy="steps" if kind == "lora" else "no",
        save_steps=2,
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=kind == "full",
        shared_prompts=kind == "lora" and world > 1,  # several processes with these levers, one without
        sort_micro_batches=kind == "lora" and world > 1,
        **KINDS[kind],
    )
    rows = [{"prompt": [{"role": "user", "content": row["question"]}]} for row in tiny_questions("train", 12)]
    peers = {name: str(path) for name, path in TINY_PEERS.items()}
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if kind == "lora" else None
    return PSTTrainer(peers, args, Dataset.from_list(rows), reward_providers=[Graded()], peft_config=lora)


def train(folder: Path, kind: str, label: str | None = None) -> None:
    """Two optimizer steps on recorded tokens; one process alone samples and records them."""
    import pst_rl.trainer as trainer_module
    from pst_rl.stages.rollout import roll_out

    world, process = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    recorded = [] if world == 1 else torch.load(folder / f"{kind}-rollouts.pt", weights_only=False)

    def rolled_out(engines, request):
        if world == 1:
            recorded.append(roll_out(engines, request))
            return recorded[-1]
        whole = recorded.pop(0)
        mine = replace(whole, rollouts=[share(r, process, world) for r in whole.rollouts])
        assert len(mine.rollouts[0].texts) == len(request.prompts)
        return mine

    trainer_module.roll_out = rolled_out
    trainer = build(folder, kind, world)
    tensors = lambda: {  # noqa: E731
        f"{name}/{key}": parameter.detach().clone()
        for name, peer in trainer.peers.items()
        for key, parameter in peer.model.named_parameters()
        if parameter.requires_grad
    }
    start = tensors()
    trainer.train()
    seen = {
        "world": trainer.accelerator.num_processes,
        "prompts": trainer.last_group.prompts,
        "start": start,
        "end": tensors(),
        "logs": trainer.state.log_history,
    }
    torch.save(seen, folder / f"{label or kind}-{world}-{process}.pt")
    if world == 1:
        torch.save(recorded, folder / f"{kind}-rollouts.pt")
    trainer_module.roll_out = roll_out


def resume(folder: Path, written_by: int) -> None:
    """Goes on from the checkpoint of another number of processes; keeps what was said about it."""
    world, process = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    trainer = build(folder, "lora", world)
    trainer.args.resume_anyway = True  # the batch of each process differs, too
    try:
        trainer.train(resume_from_checkpoint=str(folder / f"lora-{written_by}" / "checkpoint-2"))
        said = "nothing"
    except (FileNotFoundError, ValueError) as error:
        said = str(error)
    (folder / f"resume-{written_by}-{world}-{process}.txt").write_text(said)


def work(process: int, world: int, port: int, jobs: list) -> None:
    """The body of one forked process."""
    if world > 1:
        ranks = {"RANK": process, "LOCAL_RANK": process, "WORLD_SIZE": world}
        os.environ |= {name: str(value) for name, value in ranks.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for job in jobs:
        job()


def fork(world: int, jobs: list) -> None:
    """Runs the jobs in `world` processes, which share what this one has imported."""
    from torch.multiprocessing import start_processes

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(work, args=(world, port, jobs), nprocs=world, start_method="fork")


def main() -> None:
    folder, *worlds = sys.argv[1:]
    folder = Path(folder)
    both = [partial(train, folder, kind) for kind in KINDS]
    if not worlds:
        train(folder, "full", "launched")
        return
    import trl.trainer.grpo_trainer  # noqa: F401  (before the fork, so that nobody imports it again)

    import pst_rl.trainer  # noqa: F401

    for world in map(int, worlds):
        fork(world, both)
    fork(1, [partial(resume, folder, 2)])
    fork(2, [partial(resume, folder, 1)])


if __name__ == "__main__":
    main()
