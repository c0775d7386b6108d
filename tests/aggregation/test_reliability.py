import json
from itertools import permutations
from random import Random

import pytest
from helpers import answers_of, group

from pst_rl.aggregation import Majority
from pst_rl.aggregation.reliability import Reliability
from pst_rl.rewards import Stateful


def made(answers, aggregator=None, **fields):
    """The targets of the first peer's first chain, by question, from `answers[peer][question][chain]`."""
    return [chains[0] for chains in (aggregator or Reliability())(group(answers, **fields))[0]]


def one(answers, **options):
    """The target of one question from each peer's chains."""
    return made([[chains] for chains in answers], Reliability(**options))[0]


def quizzed(accuracies, questions=400, answers=10, seed=0):
    """Answers `[peer][question][chain]` of peers with these accuracies to questions whose right answer is "0"."""
    rng = Random(seed)
    wrong = [str(a) for a in range(1, answers)]
    return [[["0" if rng.random() < a else rng.choice(wrong)] for _ in range(questions)] for a in accuracies]


def noisy(seed):
    """Three peers' answers to six questions, four chains each, some of them unparsed."""
    rng = Random(seed)
    return [[[rng.choice(["1", "2", "3", None]) for _ in range(4)] for _ in range(6)] for _ in range(3)]


# By hand: theta = 2/3 at first and ten possible answers, so a vote multiplies the odds of its answer by 2 * 9 = 18


def test_the_share_is_the_posterior_probability():
    target = one([["1"], ["1"], ["2"]], iterations=0)
    assert target.answer.text == "1"
    assert target.share == pytest.approx(324 / (324 + 18 + 8))


def test_a_lonely_answer_is_worth_its_peers_reliability():
    assert one([["1"]], iterations=0).share == pytest.approx(2 / 3)


def test_with_two_classes_nothing_is_left_for_unseen_answers():
    assert one([["1"], ["1"], ["2"]], classes=2, iterations=0).share == pytest.approx(4 / (4 + 2))


def test_there_are_at_least_as_many_answers_as_were_seen():
    # L = 3 instead of 2: a vote multiplies the odds by 4
    assert one([["1", "1"], ["2", "3"]], classes=2, correlation=0.0, iterations=0).share == pytest.approx(
        16 / (16 + 4 + 4)
    )


def test_a_reliability_is_the_expected_share_of_right_answers():
    aggregator = Reliability(iterations=1)
    made([[["1"]], [["1"]], [["2"]]], aggregator)
    expected = {"a": (4 + 324 / 350) / 7, "b": (4 + 324 / 350) / 7, "c": (4 + 18 / 350) / 7}
    assert aggregator.reliabilities == pytest.approx(expected)


@pytest.mark.parametrize(
    ("correlation", "share"), [(0.0, 324 / 333), (1.0, 18 / 27), (0.5, 18 ** (4 / 3) / (18 ** (4 / 3) + 9))]
)
def test_correlated_chains_count_as_fewer_votes(correlation, share):
    assert one([["1", "1"]], correlation=correlation, iterations=0).share == pytest.approx(share)


@pytest.mark.parametrize(("quorum", "spoken"), [(0.92, True), (0.93, False)])
def test_it_abstains_below_the_quorum(quorum, spoken):
    assert (one([["1"], ["1"], ["2"]], quorum=quorum, iterations=0) is not None) is spoken


# The majority vote is a special case


@pytest.mark.parametrize("options", [{"iterations": 0}, {"prior": (4e15, 2e15)}])
def test_with_equal_reliabilities_the_plurality_wins_ties_included(options):
    for seed in range(20):
        answers = noisy(seed)
        same = Reliability(correlation=0.0, **options)(group(answers))
        assert answers_of(same) == answers_of(Majority()(group(answers)))


def test_without_iterations_nothing_is_learned():
    aggregator = Reliability(iterations=0)
    made(quizzed([0.9, 0.4]), aggregator)
    assert aggregator.reliabilities == {}


def test_an_extreme_prior_is_a_number_still():
    assert one([["1"], ["2"], ["2"]], prior=(1e20, 1.0)).answer.text == "2"


# What it estimates


@pytest.mark.parametrize("accuracies", [(0.9, 0.7, 0.5), (0.6, 0.6, 0.6, 0.95), (0.8, 0.8, 0.1)])
def test_known_reliabilities_are_recovered(accuracies):
    aggregator = Reliability()
    made(quizzed(accuracies, questions=800), aggregator, peers=tuple("abcd"[: len(accuracies)]))
    assert list(aggregator.reliabilities.values()) == pytest.approx(accuracies, abs=0.05)


def test_one_good_peer_outvotes_two_poor_ones():
    answers = quizzed([0.95, 0.5, 0.5], answers=4)
    right = lambda aggregator: sum(t.answer.text == "0" for t in made(answers, aggregator))
    assert right(Reliability()) >= right(Majority()) + 40


def test_chains_of_one_peer_share_a_coin():
    aggregator = Reliability(correlation=0.0)
    answers = quizzed([0.9, 0.7, 0.7], questions=900)
    paired = [[peer[q][:] + peer[q + 1] for q in range(0, 900, 2)] for peer in answers]
    made(paired, aggregator)
    assert list(aggregator.reliabilities.values()) == pytest.approx([0.9, 0.7, 0.7], abs=0.06)


def test_unanimous_peers_become_certain_and_stay_equal():
    aggregator = Reliability()
    shares = [t.share for t in made([[["7"]] * 50] * 3, aggregator)]
    assert min(shares) > 0.99
    assert len(set(aggregator.reliabilities.values())) == 1


def test_one_peer_alone_learns_nothing_about_itself():
    aggregator = Reliability()
    made(quizzed([0.9]), aggregator)
    assert aggregator.reliabilities["a"] == pytest.approx(2 / 3)


def test_one_peer_alone_votes():
    assert one([["3", "3", "4", None]]).answer.text == "3"


def test_votes_do_not_count_against_their_own_answer():
    aggregator = Reliability()
    aggregator.load_state_dict({"right": dict.fromkeys("abc", 0.0), "answered": dict.fromkeys("abc", 500.0)})
    assert made([[["1"]], [["1"]], [["2"]]], aggregator)[0].answer.text == "1"


def test_exchanged_labels_right_themselves():
    aggregator = Reliability()
    aggregator.load_state_dict({"right": dict.fromkeys("abc", 0.0), "answered": dict.fromkeys("abc", 500.0)})
    for seed in range(60):
        made(quizzed([0.9, 0.8, 0.8], questions=50, seed=seed), aggregator)
    assert list(aggregator.reliabilities.values()) == pytest.approx([0.9, 0.8, 0.8], abs=0.06)


# Unparsed answers


def test_unparsed_answers_are_never_voted_for():
    assert one([[None, None], [None, "4"]]).answer.text == "4"


def test_without_answers_it_abstains_and_learns_nothing():
    aggregator = Reliability()
    assert made([[[None]], [[None]]], aggregator) == [None]
    assert aggregator.reliabilities == pytest.approx({"a": 2 / 3, "b": 2 / 3})


def test_unparsed_answers_are_not_held_against_a_peer():
    answers = quizzed([0.9, 0.8, 0.8])
    gaps = [[[None] if q % 2 else chains for q, chains in enumerate(answers[0])], *answers[1:]]
    aggregator = Reliability()
    made(gaps, aggregator)
    assert aggregator.reliabilities["a"] == pytest.approx(0.9, abs=0.06)


# Order, names, gold


def test_the_order_of_peers_changes_nothing():
    answers = noisy(3)
    results = set()
    for order in permutations(range(3)):
        aggregator = Reliability()
        targets = made([answers[p] for p in order], aggregator, peers=tuple("abc"[p] for p in order))
        state = json.dumps(aggregator.state_dict(), sort_keys=True)
        results.add((tuple((t.answer.text, t.text, t.share) for t in targets), state))
    assert len(results) == 1


def test_the_order_of_chains_changes_nothing():
    answers = noisy(4)
    shuffled = [[chains[::-1] for chains in peer] for peer in answers]
    first, second = Reliability(), Reliability()
    assert answers_of(first(group(answers))) == answers_of(second(group(shuffled)))
    assert first.state_dict() == second.state_dict()


def test_gold_changes_nothing():
    answers = noisy(5)
    assert made(answers, gold=("1",) * 6) == made(answers, gold=("2",) * 6) == made(answers)


# Memory


def test_the_state_goes_through_json_and_training_goes_on_from_it():
    straight, resumed = Reliability(), Reliability()
    made(quizzed([0.9, 0.6, 0.6]), straight)
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict())))
    later = quizzed([0.9, 0.6, 0.6], questions=20, seed=1)
    assert made(later, resumed) == made(later, straight)
    assert resumed.state_dict() == straight.state_dict()


def test_it_is_saved_with_checkpoints():
    assert isinstance(Reliability(), Stateful)


@pytest.mark.parametrize(("decay", "answered"), [(0.0, 10.0), (0.5, 15.0), (1.0, 20.0)])
def test_old_questions_fade(decay, answered):
    aggregator = Reliability(decay=decay)
    for seed in range(2):
        made(quizzed([0.9, 0.6], questions=10, seed=seed), aggregator)
    assert aggregator.state_dict()["answered"] == {"a": answered, "b": answered}


def test_what_was_learned_settles_a_later_tie():
    aggregator = Reliability()
    made(quizzed([0.95, 0.3, 0.9]), aggregator)
    assert made([[["8"]], [["9"]]], aggregator)[0].answer.text == "8"


def test_a_peer_is_known_by_name():
    aggregator = Reliability()
    made(quizzed([0.95, 0.3, 0.9]), aggregator)
    assert made([[["8"]], [["9"]]], aggregator, peers=("b", "a"))[0].answer.text == "9"


def test_a_state_of_other_peers_is_refused():
    with pytest.raises(ValueError, match="same peers"):
        Reliability().load_state_dict({"right": {"a": 1.0}, "answered": {"b": 1.0}})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("quorum", 1.5),
        ("decay", -0.1),
        ("decay", float("nan")),
        ("correlation", 1.1),
        ("prior", (1.0, 0.0)),
        ("prior", (1.0,)),
        ("prior", (1.0, float("nan"))),
        ("classes", 1),
        ("iterations", -1),
        ("tolerance", float("nan")),
    ],
)
def test_bad_options_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        Reliability(**{option: value})


def test_the_estimates_are_logged_by_peer():
    reliability = Reliability()
    reliability(group([[["1"], ["2"]], [["1"], ["3"]]]))
    assert reliability.metrics() == {f"{peer}/reliability": t for peer, t in reliability.reliabilities.items()}
    assert len(reliability.metrics()) == 2
