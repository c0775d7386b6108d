"""docs/metrics.md explains every metric that a run logs, and none that no run logs; tiny runs of several schemes."""

import re
from inspect import getsource

import pytest
from pages import ROOT
from trl import GRPOTrainer

from pst_rl import PSTTrainer
from pst_rl.answers.reading import REASONS
from pst_rl.progress.log_lines import EACH, RIGHT, WHOLE
from pst_rl.rewards import per_sample
from pst_rl.tiny import CLAIM_STYLE, TINY_CONCEPT_MODEL

PAGE = (ROOT / "docs" / "metrics.md").read_text()
EXPLAINED, ELSEWHERE = (
    re.findall(r"^\| `([\w<>/]+)` \| .+ \| .+ \| .+ \|$", part, re.MULTILINE)
    for part in PAGE.split("## Of other set-ups")
)
CLAIMS = {key: CLAIM_STYLE[key] for key in ("template", "label_names", "label_words", "separator")}
SCHEMES = {
    "pmi": {"weighting": "pmi", "beta": 0.1, "collapse_probe": 2, "eval_samples": 2},
    "saie": {"rewards": ["saie"], "aggregator": "reliability", "weighting": "none"},
    "several": {
        "rewards": ["mutual_prediction", "determinant_mi", "semantic_entropy"],
        "aggregator": "cross_view",
        "loss_type": "cispo",
        "weighting": "none",
    },
    "icm": {
        "rewards": ["icm"],
        "reward_options": {"icm": {"judge": str(TINY_CONCEPT_MODEL), **CLAIMS, "search": {"sweeps": 1}}},
        "loss_type": "vespo",
        "entropy_coef": 0.01,
        "weighting": "none",
    },
}


@per_sample
def broken(response, peer):
    """A reward that is not a number for one of the peers."""
    return float("nan") if peer == "llama" else float(response.length)


def generic(name, providers):
    """A name as the page writes it."""
    name = re.sub(r"(?<![a-z])(llama|qwen2)/", "<peer>/", name)
    name = re.sub(rf"/(rewards?)/({'|'.join(providers)})(?=/|$)", r"/\1/<provider>", name)
    return re.sub(rf"/answers/({'|'.join(REASONS)})$", "/answers/<reason>", name)


@pytest.fixture
def run(config, questions, tiny):
    """`run(**settings)`: the names that a run of one step and an evaluation log."""

    def names(providers=None, **settings):
        small = {"max_steps": 1, "per_device_train_batch_size": 16, "max_completion_length": 32}
        peers, data = {name: tiny[name] for name in ("llama", "qwen2")}, (questions(8), questions(2, "test"))
        built = PSTTrainer(peers, config(**small | settings), *data, reward_providers=providers)
        built.train()
        built.evaluate()
        return {generic(name, built.providers) for log in built.state.log_history for name in log}

    return names


def test_every_metric_is_explained_and_every_explained_metric_is_logged(run):
    logged = {scheme: run(**settings) for scheme, settings in SCHEMES.items()}
    logged["broken"] = run(providers=[broken], weighting="none")
    found = set().union(*logged.values())
    assert (sorted(found - set(EXPLAINED)), sorted(set(EXPLAINED) - found)) == ([], [])
    assert len(EXPLAINED) == len(set(EXPLAINED)) > 70


def test_what_only_other_set_ups_log_is_trls():
    source = getsource(GRPOTrainer)
    assert ELSEWHERE and [name for name in ELSEWHERE if f'"{name.removeprefix("<peer>/")}"' not in source] == []


def test_the_words_of_a_log_line_are_on_the_page():
    words = WHOLE | {word: f"<peer>/{name}" for word, (name, _) in EACH.items()} | {"accuracy": RIGHT}
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w<>/]+)`.* \|$", PAGE, re.MULTILINE))
    assert rows == words and set(words.values()) <= set(EXPLAINED)
