"""Three small models make each other better at mathematics, without labels: load, configure, train, evaluate.

python examples/first_steps.py
"""

from pst_rl import PSTConfig, PSTTrainer, load_questions
from pst_rl.cli.presets import TINY_ANSWERS, TINY_TRAINING
from pst_rl.tiny import TINY_PEERS

questions = load_questions("tiny")  # or "gsm8k", a Hub id, a file; answers are put aside, to measure with
held_out = load_questions("tiny", split="test", limit=200)
settings = TINY_TRAINING | TINY_ANSWERS | {"max_steps": 8, "logging_strategy": "no", "save_strategy": "no"}
args = PSTConfig("runs/first_steps", **settings)  # a GRPOConfig with a few more options

trainer = PSTTrainer(TINY_PEERS, args, questions, held_out)  # or ["org/model-a", "./model-b"]
before = trainer.evaluate()
trainer.train()
after = trainer.evaluate()
for name in trainer.peers:
    print(f"{name}: {before[f'eval_{name}/accuracy']:.1%} -> {after[f'eval_{name}/accuracy']:.1%} right")
trainer.save_model()  # a folder for each peer
