"""Several predictors as one."""

import pytest
import torch

from pst_rl.coherence.ensemble import Ensemble
from pst_rl.coherence.scores import coherence, leave_one_out, score_given
from pst_rl.coherence.toy import ConceptMixture

CONCEPTS = [[1, 0, 1, 1, 0, 0, 1], [0, 0, 1, 0, 1, 0, 1]]
LABELS = [1, 0, 1, None, 0, 0, 1]


@pytest.fixture
def members():
    return [ConceptMixture(CONCEPTS, [0.7, 0.3]), ConceptMixture(CONCEPTS, [0.2, 0.8], agree=3.0)]


def test_scores_are_the_renormalised_mean_of_the_members(members):
    blocks = [[i] for i in (3, 0, 6, 1, 5, 2, 4)]
    mean = sum(leave_one_out(member, LABELS, blocks) for member in members) / 2
    assert torch.allclose(leave_one_out(Ensemble(members), LABELS, blocks), mean.log_softmax(-1), atol=1e-6)


def test_a_chain_is_scored_as_step_by_step(members):
    order = [0, 1, 2, 4, 5, 6]
    steps = [score_given(Ensemble(members), LABELS, order[:k], [i])[0, LABELS[i]] for k, i in enumerate(order)]
    assert coherence(Ensemble(members), LABELS, [order]).nats == pytest.approx(float(sum(steps)), abs=1e-5)


def test_a_demonstration_is_one_unit_and_tokens_of_every_member(members):
    ensemble = Ensemble(members)
    score_given(ensemble, LABELS, [0, 1], [2, 4])
    assert (ensemble.units, ensemble.tokens) == (4, 8)


def test_members_must_know_the_same_items(members):
    with pytest.raises(ValueError, match="same items"):
        Ensemble([members[0], ConceptMixture([[0, 1]], [1.0])])
