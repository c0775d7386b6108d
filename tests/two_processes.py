"""Run by `test_two_processes_...` under `accelerate launch`: trains two steps and writes what each process saw."""

import json
import os
import signal
import sys
from pathlib import Path

from datasets import Dataset
from transformers import TrainerCallback

from pst_rl import PSTConfig, PSTTrainer
from pst_rl.tiny import TINY_PEERS, tiny_questions

folder = Path(sys.argv[1])
args = PSTConfig(
    str(folder / "run"),
    max_steps=2,
    per_device_train_batch_size=6,
    num_generations=4,
    max_completion_length=40,
    learning_rate=1e-3,
    context="sequential",
    save_strategy="steps",
    save_steps=1,
    report_to="none",
    disable_tqdm=True,
    gradient_checkpointing=False,
)
rows = [{"prompt": [{"role": "user", "content": row["question"]}]} for row in tiny_questions("train", 12)]
build = lambda: PSTTrainer({n: str(TINY_PEERS[n]) for n in ("llama", "qwen2")}, args, Dataset.from_list(rows))  # noqa: E731
trainer = build()
checksum = lambda: [float(sum(p.double().sum() for p in peer.model.parameters())) for peer in trainer.engines]  # noqa: E731
start = checksum()
trainer.train()
group = trainer.last_group
seen = {
    "world": trainer.accelerator.num_processes,
    "group": [[[r.text for r in chain] for chain in peer] for peer in group.responses],
    "sizes": list(group.shape[1:]),
    "start": start,
    "sums": checksum(),
}
trainer = build()
trainer.train(resume_from_checkpoint=str(folder / "run" / "checkpoint-1"))
seen["resumed"] = checksum()


# ---- the second process alone has a fault and is told to stop ----


class Trouble(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)


args.enable_jit_checkpoint = True
trainer = build()
if trainer.accelerator.process_index == 1:
    engine = trainer.peers["llama"]
    loss = engine.compute_loss
    engine.compute_loss = lambda *args, **kwargs: loss(*args, **kwargs) * float("nan")
    trainer.add_callback(Trouble())
trainer.train()
seen["stopped"] = [trainer.preemption.stopped, trainer.state.global_step]
seen["skipped"] = trainer.faults.skipped
seen["first peer after a fault"] = checksum()[0]
(folder / f"rank{trainer.accelerator.process_index}.json").write_text(json.dumps(seen))
trainer.accelerator.end_training()  # ends the process group; left to the exit, it once aborted the process
