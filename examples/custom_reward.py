"""A new scheme in 32 lines: agree with the aggregate, but say it briefly; every later peer sees only the first answer.

accelerate launch examples/custom_reward.py
"""

from pst_rl import PSTConfig, PSTTrainer, load_questions, per_sample
from pst_rl.cli.presets import DEMO, TINY_STYLE
from pst_rl.tiny import TINY_PEERS


@per_sample
def brief(response, target, samples):
    """r = 1[agrees with the aggregate] * length of the question's shortest response / own length."""
    shortest = min(sample.length for sample in samples)
    return (response.key == target.answer.key) * shortest / response.length


class FirstOpinion(PSTTrainer):
    """Sequential peers that see the first peer's answer only."""

    def build_prompt(self, prompt, previous):
        return super().build_prompt(prompt, previous[:1])


if __name__ == "__main__":
    fields = PSTConfig.__dataclass_fields__
    settings = {k: v for k, v in {**TINY_STYLE, **DEMO}.items() if k in fields}
    args = PSTConfig(**settings | {"output_dir": "runs/custom", "context": "sequential", "max_steps": 8})
    peers = {name: str(folder) for name, folder in TINY_PEERS.items()}
    trainer = FirstOpinion(peers, args, load_questions("tiny"), load_questions("tiny", split="test"), [brief])
    trainer.train()
    print(trainer.evaluate())
