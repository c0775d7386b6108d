"""What every registered scheme must keep to: labels change nothing; peers and chains permute what they get."""

import hashlib
import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from random import Random
from types import SimpleNamespace

import pytest
import torch
from helpers import group, reader

from pst_rl.aggregation import AGGREGATORS
from pst_rl.aggregation.votes import OtherPeer, OwnVote
from pst_rl.answers import Answer, find_answer
from pst_rl.records import Response, Target, Turn
from pst_rl.rewards import REWARDS
from pst_rl.rewards.correlated_agreement import CorrelatedAgreement
from pst_rl.rewards.determinant_mi import DeterminantMI
from pst_rl.rewards.icm import ICMReward
from pst_rl.rewards.semantic_entropy import SemanticEntropy
from pst_rl.rewards.vote_share import VoteShare


def buildable(registry):
    """The schemes of a registry that need no argument."""
    empty = inspect.Parameter.empty
    return {n: m for n, m in registry.items() if all(p.default is not empty for p in _parameters(m))}


def _parameters(make):
    return inspect.signature(make).parameters.values()


AGGREGATE = buildable(AGGREGATORS) | {
    "own_vote, quorum": partial(OwnVote, 0.5),
    "other_peer, random": partial(OtherPeer, pick="random"),
}
REWARD = buildable(REWARDS) | {
    "vote_share, own": partial(VoteShare, 0.5, scope="own"),
    "vote_share, leave_self_out": partial(VoteShare, leave_self_out=True),
    "semantic_entropy, own": partial(SemanticEntropy, high=0.9, scope="own"),
    "correlated_agreement, drawn": partial(CorrelatedAgreement, "drawn"),
    "determinant_mi, reversed": partial(DeterminantMI, ("false", "true")),
    "icm": partial(ICMReward, search={"start": "empty", "sweeps": 1}),
}
SCHEMES = [("aggregator", name) for name in AGGREGATE] + [("reward", name) for name in REWARD]

# Exempt from a rule, with the reason.
LISTED = {
    "random": "draws by position",
    "other_peer": "learns from the peer listed next",
    "other_peer, random": "draws who labels for whom by position",
}
CHAINED = {"random": "draws by position"}
SEVERAL_QUESTIONS = {
    "determinant_mi": "refuses fewer than 2C questions",
    "determinant_mi, reversed": "refuses fewer than 2C questions",
}

# One scene: three peers, four verdict questions and two with numbers, four chains. All that a scheme may look at
# follows from peers' names, prompts and texts alone, so it moves along when those are permuted.

NAMES, QUESTIONS, CHAINS = "abc", 6, 4
GOLD = ("true", "false", "true", "false", "1", "2")


def draw(*content):
    """A number in [0, 1) that follows from the content."""
    digest = hashlib.sha256(repr(content).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def said(name, question, chain, answer):
    text = f"{name} is not sure" if answer is None else f"{name} thinks #### {answer}"
    text = text if chain % 2 else f"in try {chain} at {question}, {text}"
    return Response(text, find_answer(text, style="hash"), finished=draw(text) < 0.8, length=len(text))


def spoken():
    rng = Random(4)
    choices = [["true", "true", "false", "false", None]] * 4 + [["1", "1", "2", "3", None]] * 2
    return [[[said(n, q, g, rng.choice(choices[q])) for g in range(CHAINS)] for q in range(QUESTIONS)] for n in NAMES]


SPOKEN = spoken()
SILENT = [[[said(n, q, g, None) for g in range(CHAINS)] for q in range(QUESTIONS)] for n in NAMES]


def revised(name, response, salt):
    """Another answer of the same kind, or none, that follows from who said what."""
    if response.answer is None:
        return None
    kind = ["true", "false", None] if response.key in ("true", "false") else ["1", "2", None]
    return kind[int(3 * draw(name, response.text, salt))]


def discussed(name, response):
    """The response with one or two later turns."""
    turns = []
    for t in range(1 + int(2 * draw(name, response.text))):
        stance = "attack" if draw(response.text, t) < 0.5 else "support"
        later = said(name, "turn", t, revised(name, response, t))
        turns.append(Turn("hm", stance, later.text, later.answer, later.finished, 3 + t, 4 + t))
    return Response(response.text, response.answer, response.finished, response.length, turns=tuple(turns))


@cache
def engine():
    """A model for schemes that read with the peers' own; all peers are equal here."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pst_rl.tiny import TINY_PEERS

    model = AutoModelForCausalLM.from_pretrained(TINY_PEERS["llama"])
    tokenizer = AutoTokenizer.from_pretrained(TINY_PEERS["llama"])
    return reader(model, tokenizer, accelerator=SimpleNamespace(is_main_process=True, autocast=nullcontext))


class Scorer:
    """Log-probabilities and statistics that follow from names and texts."""

    def __init__(self, made):
        self.group = made
        self.engines = [engine() for _ in made.peers]

    def logprobs(self, judge, queries):
        name = self.group.peers[judge]
        return [self._score(name, self.group.prompts[q.question], q) for q in queries]

    def _score(self, name, prompt, query):
        logprob = -30.0 * draw(name, prompt, query.target, query.shown, query.given, query.whole)
        return SimpleNamespace(logprob=logprob, tokens=len(query.target), mean=logprob / len(query.target))

    def statistics(self):
        def table(what):
            rows = [draw(what, self.group.peers[p], r.text) for p, _, _, r in self.group.cells()]
            return torch.tensor(rows).view(self.group.shape)

        return SimpleNamespace(logprob=-table("p"), entropy=table("entropy"), self_certainty=table("certainty"))


def scene(responses, names=NAMES, gold=GOLD, views=()):
    """The group of `responses`, with everything that a scheme may ask for."""
    questions = len(responses[0])

    def every(change):
        return tuple(
            tuple(tuple(change(name, r) for r in chains) for chains in rows)
            for name, rows in zip(names, responses, strict=True)
        )

    def target(name, response):
        answer = revised(name, response, "target")
        return answer and Target(Answer.of(answer), f"so #### {answer}", 0.5)

    order = tuple(tuple(names.index(NAMES[(q + k) % 3]) for k in range(3)) for q in range(questions))
    made = group(
        every(discussed),
        peers=tuple(names),
        order=order,
        gold=gold[:questions],
        targets=every(target),
        views={view.name: every(lambda n, r, v=view.name: said(n, v, 1, revised(n, r, v))) for view in views},
    )
    return replace(made, scorer=Scorer(made))


def permuted_peers(order):
    return [SPOKEN[p] for p in order], "".join(NAMES[p] for p in order)


def permuted_chains(question, order):
    return [
        [[chains[g] for g in order] if q == question else chains for q, chains in enumerate(rows)] for rows in SPOKEN
    ]


# What a scheme makes of a scene, as tables indexed [peer][question][chain].


def make(kind, name):
    return (AGGREGATE if kind == "aggregator" else REWARD)[name]()


def tables(kind, name, responses=SPOKEN, names=NAMES, gold=GOLD):
    scheme = make(kind, name)
    made = scheme(scene(responses, names, gold, getattr(scheme, "views", ())))
    if kind == "aggregator":
        return {"targets": nested(made)}
    return {
        "values": made.values.masked_fill(made.abstain, 0.0).tolist(),
        "abstain": made.abstain.tolist(),
        "later": (torch.zeros(made.values.shape) if made.later is None else made.later).tolist(),
        "metrics": made.metrics,
    }


def nested(targets):
    plain = lambda t: t and (t.answer.key, t.text, round(t.share, 6))
    return [[[plain(t) for t in chains] for chains in rows] for rows in targets]


base = cache(tables)


def moved(made, change):
    """The tables with every entry but the metrics changed."""
    return {what: table if what == "metrics" else change(table) for what, table in made.items()}


def same(one, other):
    """Equal up to rounding; NaN (no later turn, a metric without a value) equals NaN."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == (pytest.approx(other, abs=1e-5, nan_ok=True) if isinstance(other, float) else other)


def needs_labels(kind, name):
    return getattr(make(kind, name), "needs_labels", False)


LABEL_FREE = [scheme for scheme in SCHEMES if not needs_labels(*scheme)]
SUPERVISED = [scheme for scheme in SCHEMES if needs_labels(*scheme)]
OTHER_GOLD = GOLD[1:] + GOLD[:1]


@pytest.mark.parametrize(("kind", "name"), LABEL_FREE)
def test_permuting_gold_changes_nothing(kind, name):
    assert same(base(kind, name), tables(kind, name, gold=OTHER_GOLD))


@pytest.mark.parametrize(("kind", "name"), SUPERVISED)
def test_permuting_gold_changes_what_is_supervised(kind, name):
    assert not same(base(kind, name), tables(kind, name, gold=OTHER_GOLD))


def peers_permuted_alike(kind, name, order):
    responses, names = permuted_peers(order)
    expected = moved(base(kind, name), lambda table: [table[p] for p in order])
    return same(expected, tables(kind, name, responses, names))


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize(("kind", "name"), [s for s in SCHEMES if s[1] not in LISTED])
def test_permuting_the_peers_permutes_what_they_get_and_nothing_else(kind, name, order):
    assert peers_permuted_alike(kind, name, order)


@pytest.mark.parametrize(("kind", "name"), [s for s in SCHEMES if s[1] in LISTED])
def test_exempt_schemes_do_depend_on_how_the_peers_are_listed(kind, name):
    assert not all(peers_permuted_alike(kind, name, order) for order in [(1, 0, 2), (2, 1, 0), (0, 2, 1)])


@pytest.mark.parametrize("question", [0, 5])
@pytest.mark.parametrize(("kind", "name"), [s for s in SCHEMES if s[1] not in CHAINED])
def test_permuting_a_questions_chains_permutes_what_they_get_and_nothing_else(kind, name, question):
    order = [2, 0, 3, 1]

    def change(table):
        return [[[c[g] for g in order] if q == question else c for q, c in enumerate(rows)] for rows in table]

    assert same(moved(base(kind, name), change), tables(kind, name, permuted_chains(question, order)))


ONE_QUESTION = [rows[:1] for rows in SPOKEN]
MUTE_QUESTION = [rows[:1] for rows in SILENT]


def check(kind, name, responses):
    """Everything has its shape, and what a sample earns is finite."""
    scheme = make(kind, name)
    seen = scene(responses, views=getattr(scheme, "views", ()))
    made = scheme(seen)
    if kind == "aggregator":
        assert torch.tensor([[[t is None for t in chains] for chains in rows] for rows in made]).shape == seen.shape
        assert all(t is None or 0 < t.share <= 1 for rows in made for chains in rows for t in chains)
    else:
        assert made.values.shape == made.abstain.shape == seen.shape
        assert made.values[~made.abstain].isfinite().all()
        assert made.values.is_floating_point() and made.abstain.dtype == torch.bool
        assert made.later is None or made.later.shape[:3] == seen.shape


@pytest.mark.parametrize("responses", [SPOKEN, SILENT], ids=["spoken", "silent"])
@pytest.mark.parametrize(("kind", "name"), SCHEMES)
def test_every_value_is_finite_and_has_its_place(kind, name, responses):
    check(kind, name, responses)


@pytest.mark.parametrize("responses", [ONE_QUESTION, MUTE_QUESTION], ids=["spoken", "silent"])
@pytest.mark.parametrize(("kind", "name"), [s for s in SCHEMES if s[1] not in SEVERAL_QUESTIONS])
def test_a_batch_of_one_question_is_enough(kind, name, responses):
    check(kind, name, responses)


@pytest.mark.parametrize(("kind", "name"), SCHEMES)
def test_the_scene_has_something_to_say_to_everyone(kind, name):
    made = base(kind, name)["targets" if kind == "aggregator" else "values"]
    assert len({str(cell) for rows in made for chains in rows for cell in chains}) > 1
