"""A new scheme in 40 lines: agree with the aggregate, but say it briefly; every later peer sees only the first answer.

accelerate launch examples/custom_reward.py
"""

from pst_rl import PSTConfig, PSTTrainer, Rewards, load_questions
from pst_rl.cli.presets import DEMO, TINY_STYLE
from pst_rl.rewards import MatchesAggregate
from pst_rl.tiny import TINY_PEERS


class Brief:
    """r = 1[agrees with the aggregate] * min(1, shortest response of the question / own length)."""

    def __init__(self):
        self.agrees = MatchesAggregate()

    def __call__(self, group) -> Rewards:
        rewards = self.agrees(group)
        for p, q, g, response in group.cells():
            shortest = min(r.length for _, _, r in group.pooled(q))
            rewards.values[p, q, g] *= shortest / response.length
        return rewards


class FirstOpinion(PSTTrainer):
    """Sequential peers that see the first peer's answer only."""

    def build_prompt(self, prompt, previous):
        return super().build_prompt(prompt, previous[:1])


if __name__ == "__main__":
    fields = PSTConfig.__dataclass_fields__
    settings = {k: v for k, v in {**TINY_STYLE, **DEMO}.items() if k in fields}
    args = PSTConfig(**settings | {"output_dir": "runs/custom", "context": "sequential", "max_steps": 8})
    peers = {name: str(folder) for name, folder in TINY_PEERS.items()}
    trainer = FirstOpinion(peers, args, load_questions("tiny"), load_questions("tiny", split="test"), [Brief()])
    trainer.train()
    print(trainer.evaluate())
