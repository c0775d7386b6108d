"""pst_rl: several different language models make each other better without labels.

    questions -> rollout -> answers -> aggregate -> rewards -> weights -> peer updates

Where things are, and what to touch for what (a name is a file; `...`: more of the same kind):

    at the top    trainer (strings the stages together), config (its options), scheme (names to parts), records
                  (what travels between the stages), data (a data set of questions, labels split off), methods
                  (published ones by name), quiet (lines of libraries that are dropped)
    questions/    how questions and golds are read: csv_rows, json_rows, sources (the Hub), columns, choices, golds;
                  prompts (the forms of data that a trainer takes)
    stages/       one file a stage: rollout (who speaks when, what is shown of earlier ones, prompts too long),
                  gather, weighting and pmi (the factor of an update), update (what reaches the loss), turn_credit,
                  compaction; and reward_mix, metrics (logs), vitals, evaluation, completions_table
    answers/      extract (the grammar and its order), statements (tags, headings, phrases), thoughts, boxes, choices,
                  fallback; canonical (when two are one vote), units, tuples ...; score (right or wrong against gold)
    aggregation/  base (the tie rule, the interface), votes, views, reliability, joint_likelihood: who makes the target
    rewards/      base (the interface, per_sample), basic, vote_share, icm ...: a file a reward; __init__: the registry
    discussion/   base, debate, cross_view, saie ...: further rollouts of a question, and later turns of an answer
    options/      table (what becomes of each option of TRL's), refusals, best_metric, spelling (earlier names), page
    peers/        spec (what a peer is made from), sources, adapters and loading (models, LoRA folders, GGUF files),
                  prompts and reader (how it is asked), asked (the record of it), foreign_text (the guard before what
                  other models wrote), generation and vllm (how it samples), self_test (does it train
                  as it samples? measured on probe_rows), positions, plain_head, peer_trainer (the update, by TRL)
    scoring/      logprobs, cached_logprobs, scorer, juror: how likely texts are under the peers or an outside judge
    loop/         whole_run (measure, train, measure, save), joint_trainer (optimizer, logs), checkpoints, export (what
                  leaves a run), identity (what must match on resume), faults, lock ...
    progress/     phases (what is being done, said from anywhere), show (who shows it: lines or bars), log_lines
    monitors/     start (can it learn at all?), collapse (a sign of your own goes here), probe, reading
    coherence/    labels for a data set by their coherence: claims, templates, search/ (ICM and others), scores ...
    benchmarks/   what `pst-rl eval` and `gv-gap` do: benchmark (one entry each), model, scores, verifiers ...
    measure/      statistics, and metrics in the form of `evaluate`
    report/       header (what a run says first), tables (what it prints last), results, plot, sweep, page (the HTML
                  page), compare
    memory/       estimate (how much a run needs), formulas (weights, optimizer states, caches ...)
    hub/          cards (the model card), push, peer_facts, places (a folder here, or the Hub's?)
    cli/          one file a command: train, eval, push, label ...; parse, mistakes, presets, progress
    tiny/         the embedded models and their questions

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

from pst_rl.quiet import quiet_logs

# TRL pings its telemetry once per trainer, and a run has one trainer per peer: off unless the user says otherwise.
if "HF_HUB_DISABLE_TELEMETRY" not in os.environ:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if "huggingface_hub.constants" in sys.modules:  # imported before us, when the variable was not set yet
        vars(sys.modules["huggingface_hub.constants"])["HF_HUB_DISABLE_TELEMETRY"] = True
# TRL warns that `rollout_func` is experimental; we pin the TRL version and test against it.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
quiet_logs()  # before the libraries are imported that write them

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
