"""pst_rl: several different language models make each other better without labels.

    questions -> rollout -> answers -> aggregate -> rewards -> weights -> peer updates

Where things are, and what to touch for what:

    trainer  config  scheme      PSTTrainer strings the stages together; options; from names to parts of a run
    records  data                what travels between the stages; questions from files and the Hub, labels split off
    stages/       rollout gather pmi update turn_credit compaction     a stage of the training step: its file
                  reward_mix metrics vitals evaluation ...           what is mixed, logged and measured beside it
    answers/      extract canonical score ...            how an answer is read, what counts as equal, what as right
    aggregation/  base votes views reliability ...       who makes the target: the tie rule, a vote of your own
    rewards/      base basic vote_share icm ...          what a response earns: one file a reward, REWARDS lists them
    discussion/   base debate saie cross_view ...        further answers and later turns: who reads whom, and when
    peers/        spec peer_trainer generation           what a peer is made of; how it samples and computes its loss
                  reader prompts foreign_text            what a peer is shown, and the guard before others' words
    scoring/      scorer logprobs juror ...              log-probabilities of texts under the peers or an outside judge
    loop/         joint_trainer checkpoints identity ... the training loop, checkpoints, resume, faults, signals
    monitors/     collapse probe                         signs of a collapse: a sign of your own goes here
    coherence/    label a data set by its own coherence (ICM and other searches)
    benchmarks/   measure models: questions, prompts, scores, verifiers; a benchmark is a row in benchmark.py
    measure/      statistics, and metrics in the form of `evaluate`     report/  tables, plots, the HTML page
    memory/       the estimate of memory                                hub/     cards, pushing, facts of a peer
    cli/          `pst-rl`: one file a command, options and presets     tiny/    the embedded models and questions

Glossary:

    peer        one of the language models; its engine is a `PeerTrainer`, a GRPOTrainer whose own loop never runs
    question    a row of the data set; a generation batch has Q of them
    chain       one of the G samples of a question; in a sequential rollout chain g runs through all peers
    response    what a peer wrote in one chain; its answer is what was read from it, the key its equivalence class
    group       all P x Q x G responses of a generation batch, complete and equal on every process
    target      the aggregate's answer for a response; none: the aggregator abstains
    reward      what a provider gives a response; abstaining rewards move nothing
    weight      the factor of a response's advantage, such as that of the pointwise mutual information (PMI)
    view, turn  another rollout of the same questions; a later answer in the same conversation
    gold        a known right answer: it only scores, unless a run is declared supervised

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
    "Query": "pst_rl.records",
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
