"""pst_rl: several different language models make each other better without labels.

The package is lazy: `import pst_rl` loads neither torch nor transformers; a public name is imported when first used.
"""

import os
import sys
from importlib import import_module

# TRL pings its telemetry once per trainer, and a run has one trainer per peer: off unless the user says otherwise.
if "HF_HUB_DISABLE_TELEMETRY" not in os.environ:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if "huggingface_hub.constants" in sys.modules:  # imported before us, when the variable was not set yet
        sys.modules["huggingface_hub.constants"].HF_HUB_DISABLE_TELEMETRY = True
# TRL warns that `rollout_func` is experimental; we pin the TRL version and test against it.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

__version__ = "0.1.0"

_EXPORTS = {
    "PSTConfig": "pst_rl.config",
    "PSTTrainer": "pst_rl.trainer",
    "PeerSpec": "pst_rl.peers.spec",
    "Group": "pst_rl.records",
    "Response": "pst_rl.records",
    "Rewards": "pst_rl.records",
    "Target": "pst_rl.records",
    "Weights": "pst_rl.records",
    "AGGREGATORS": "pst_rl.aggregation",
    "REWARDS": "pst_rl.rewards",
    "per_sample": "pst_rl.rewards",
    "WEIGHTINGS": "pst_rl.scheme",
    "Query": "pst_rl.queries",
    "Juror": "pst_rl.scoring.juror",
    "SAIERollout": "pst_rl.discussion.saie",
    "discuss": "pst_rl.discussion.discuss",
    "measure_discussion": "pst_rl.discussion.discuss",
    "load_questions": "pst_rl.data",
    "extract_answer": "pst_rl.answers",
    "equivalent": "pst_rl.answers",
    "is_correct": "pst_rl.answers",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'pst_rl' has no attribute {name!r}; it exports {', '.join(__all__)}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
