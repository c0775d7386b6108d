from itertools import product
from random import Random
from statistics import mean

import pytest
import torch
from helpers import group

from pst_rl.rewards.correlated_agreement import CorrelatedAgreement
from pst_rl.rewards.determinant_mi import DeterminantMI
from pst_rl.rewards.vote_share import VoteShare

T, F = "true", "false"


def verdicts(*peers):
    """A group of one chain per question from strings such as "TFTF", one per peer; "-" is unparsed, "?" another."""
    words = {"T": T, "F": F, "-": None, "?": "42"}
    return group([[[words[letter]] for letter in peer] for peer in peers])


# CorrelatedAgreement


def test_agreement_here_counts_less_agreement_elsewhere():
    made = CorrelatedAgreement()(group([[["1", "2"], ["2", "2"]], [["1", "1"], ["2", "1"]]]))
    # peer 0: "1" is all of the other's answers to question 0 and half to question 1; "2" is none and half of them
    assert made.values.tolist() == [[[0.5, -0.5], [0.5, 0.5]], [[0.5, 0.5], [0.5, -0.5]]]


def test_the_penalty_is_the_mean_over_all_other_questions():
    made = CorrelatedAgreement()(group([[["1"], ["9"], ["9"]], [["1"], ["1"], ["5"]]]))
    assert made.values[0, 0, 0] == 0.5


def test_agreement_is_the_mean_over_all_other_peers_samples():
    made = CorrelatedAgreement()(group([[["1"], ["9"]], [["1"], ["4"]], [["3"], ["5"]]]))
    assert made.values[0, 0, 0] == 0.5


def test_a_peers_agreement_with_itself_counts_nothing():
    made = CorrelatedAgreement()(group([[["1", "1"], ["2", "2"]], [["3", "3"], ["4", "4"]]]))
    assert made.values.eq(0).all()


def test_a_constant_answer_earns_nothing_over_all_questions():
    rng = Random(3)
    informed = [[rng.choice("123") for _ in range(4)] for _ in range(5)]
    made = CorrelatedAgreement()(group([[["1"] * 4] * 5, informed]))
    assert made.values[0].sum().item() == pytest.approx(0.0, abs=1e-6)


def test_peers_that_all_say_the_same_everywhere_earn_nothing():
    assert CorrelatedAgreement()(group([[["1"] * 2] * 3] * 3)).values.eq(0).all()


def test_informed_agreement_earns_more_than_any_constant():
    truth = [["1"], ["2"], ["3"], ["1"]]
    made = CorrelatedAgreement()(group([truth, truth, [["1"]] * 4]))
    informed, _, constant = made.values.sum((1, 2)).tolist()
    assert informed > 1.0 > 1e-6 > abs(constant)


def test_silence_earns_the_worst_that_a_popular_wrong_answer_could():
    made = CorrelatedAgreement()(group([[[None, "2", "7"], ["2"] * 3], [["1"] * 3, ["2", "2", "3"]]]))
    assert made.values[0, 0].tolist() == pytest.approx([-2 / 3, -2 / 3, 0.0])


def test_an_unparsed_peer_sample_disagrees():
    made = CorrelatedAgreement()(group([[["1", "1"], ["2", "2"]], [["1", None], [None, None]]]))
    assert made.values[0].tolist() == [[0.5, 0.5], [0.0, 0.0]]


def test_a_drawn_penalty_question_has_the_mean_as_its_expectation():
    answers = [[["1"], ["2"], ["3"]], [["1"], ["1"], ["3"]]]
    drawn = [CorrelatedAgreement("drawn")(group(answers, rng=Random(s))).values[0, 0, 0].item() for s in range(400)]
    assert set(drawn) == {0.0, 1.0}
    assert mean(drawn) == pytest.approx(CorrelatedAgreement()(group(answers)).values[0, 0, 0].item(), abs=0.1)


def test_one_question_has_nothing_to_be_compared_with():
    assert CorrelatedAgreement()(group([[["1"]], [["1"]]])).abstain.all()


def test_an_unknown_penalty_is_refused():
    with pytest.raises(ValueError, match="'all' or 'drawn', got 'none'"):
        CorrelatedAgreement("none")


# DeterminantMI


def test_perfect_agreement_on_balanced_choices_pays_one():
    assert DeterminantMI()(verdicts("TTFF", "TTFF")).values.flatten().tolist() == pytest.approx([1.0] * 8)


def test_the_payment_is_the_product_of_both_halves_determinants():
    # halves: questions 0, 2, 4 and 1, 3, 5.  counts of (first, second): [[1, 1], [0, 1]] and [[1, 0], [1, 1]]
    made = DeterminantMI()(verdicts("TTTFFF", "TTFTFF"))
    assert made.values.flatten().tolist() == pytest.approx([(2 / 3) ** 4] * 12)


def test_disagreement_in_one_half_alone_pays_less_than_nothing():
    assert DeterminantMI()(verdicts("TTFF", "TFFT")).values.flatten().tolist() == pytest.approx([-1.0] * 8)


def test_always_saying_the_opposite_pays_the_same():
    assert DeterminantMI()(verdicts("TTFF", "FFTT")).values.flatten().tolist() == pytest.approx([1.0] * 8)


def test_a_constant_answer_pays_nothing():
    assert DeterminantMI()(verdicts("TTTT", "TTFF")).values.flatten().tolist() == pytest.approx([0.0] * 8)


def test_a_sample_earns_the_payment_with_it_in_place_of_its_peers_mean():
    # question 0: peer 0 says T, T, T, F; all else agrees.  With T M_1 = [[1, 0], [0, 1]] and pays 1, with F
    # M_1 = [[0, 0], [1, 1]] and pays 0.
    first = [[T, T, T, F], [T] * 4, [F] * 4, [F] * 4]
    second = [[T] * 4, [T] * 4, [F] * 4, [F] * 4]
    made = DeterminantMI()(group([first, second])).values
    assert made[0, 0].tolist() == pytest.approx([1, 1, 1, 0])
    assert made[0, 1:].flatten().tolist() == pytest.approx([0.75] * 12)  # the expected payment
    assert made[1].flatten().tolist() == pytest.approx([0.75] * 16)


def by_enumeration(first, second, choices, question, given):
    """Mean payment over all ways to draw one chain per question, the first peer's answer to one question given."""
    one = [[given] if q == question else chains for q, chains in enumerate(first)]
    tables = []
    for mine, theirs in product(product(*one), product(*second)):
        for half in (slice(0, None, 2), slice(1, None, 2)):
            pairs = list(zip(mine[half], theirs[half], strict=True))
            tables.append([[pairs.count((a, b)) * len(choices) / len(pairs) for b in choices] for a in choices])
    return torch.tensor(tables, dtype=torch.float64).det().view(-1, 2).prod(1).mean().item()


@pytest.mark.parametrize(("choices", "questions", "seed"), [((T, F), 5, 0), (("A", "B", "C"), 6, 2)])
def test_a_reward_is_the_exact_expectation_over_which_chain_answers(choices, questions, seed):
    rng = Random(seed)
    first, second = ([[rng.choice(choices) for _ in range(2)] for _ in range(questions)] for _ in range(2))
    made = DeterminantMI(choices)(group([first, second])).values
    for q in (0, questions - 1):
        expected = [by_enumeration(first, second, choices, q, answer) for answer in first[q]]
        assert made[0, q].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_mean_over_a_questions_chains_is_the_same_for_every_question():
    rng = Random(5)
    answers = [[[rng.choice([T, F]) for _ in range(4)] for _ in range(8)] for _ in range(3)]
    means = DeterminantMI()(group(answers)).values.mean(-1)
    assert torch.allclose(means, means[:, :1], atol=1e-6)


def test_three_peers_are_paid_the_mean_over_the_other_two():
    made = DeterminantMI()(verdicts("TTFF", "TTFF", "TTTT")).values
    assert made.mean((1, 2)).tolist() == pytest.approx([0.5, 0.5, 0.0])


def test_a_stray_or_unparsed_sample_earns_the_least_a_choice_would():
    first = [[T, F, "42", None], [T] * 4, [F] * 4, [F] * 4]
    second = [[T] * 4, [T] * 4, [F] * 4, [F] * 4]
    assert DeterminantMI()(group([first, second])).values[0, 0].tolist() == pytest.approx([1, 0, 0, 0])


def test_a_question_where_a_peer_gives_no_choice_abstains():
    made = DeterminantMI()(verdicts("TT?FF", "TTTFF"))
    assert made.abstain.flatten().tolist() == [False, False, True, False, False] * 2
    assert made.values[:, [0, 1, 3, 4]].flatten().tolist() == pytest.approx([1.0] * 8)
    assert made.metrics == {"questions": 4.0}


def test_too_few_verdicts_among_enough_questions_abstain():
    assert DeterminantMI()(verdicts("TT--", "TTFF")).abstain.all()


def test_too_few_questions_are_refused():
    with pytest.raises(ValueError, match="2 choices needs at least 4 questions in a generation batch, got 3"):
        DeterminantMI()(verdicts("TTF", "TTF"))


def test_choices_are_compared_by_canonical_key():
    assert DeterminantMI(["True", "FALSE."])(verdicts("TTFF", "TTFF")).values.min() == pytest.approx(1.0)


@pytest.mark.parametrize("choices", [(), ("true",), ("true", "True"), "ab"])
def test_choices_that_are_not_two_different_ones_are_refused(choices):
    with pytest.raises(ValueError, match="two or more different answers"):
        DeterminantMI(choices)


@pytest.mark.parametrize("provider", [CorrelatedAgreement(), DeterminantMI()])
def test_a_shared_bias_towards_true_earns_less_than_the_rare_false(provider):
    # both peers say true to whatever is true, and to what is false three times out of five: a vote would teach that
    peer = [[T] * 5, [T] * 5, [T, T, T, F, F], [T, T, T, F, F]]
    made = provider(group([peer, peer])).values
    voted = VoteShare()(group([peer, peer])).values[0, 2]
    assert voted[0] > voted[4]
    assert (made[:, 2:, 3:] > made[:, 2:, :2] + 0.05).all()


@pytest.mark.parametrize("provider", [CorrelatedAgreement(), DeterminantMI()])
def test_a_peer_alone_is_refused(provider):
    with pytest.raises(ValueError, match="there is only 'a'"):
        provider(verdicts("TTFF"))
