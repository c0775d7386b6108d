"""Later turns in the loss, token by token."""

from types import SimpleNamespace

import pytest
import torch
from helpers import chat, group, logprobs_by_hand, response, scripted, targets

from pst_rl.discussion.conversation import Conversation
from pst_rl.records import LocalRows, PeerUpdate, Rewards, Rollout, Turn, TurnCredit, Weights
from pst_rl.stages.compaction import compact
from pst_rl.stages.turn_credit import credit_turns, later_advantages
from pst_rl.stages.update import UpdateRequest, make_update

NAN = float("nan")
UNIT = 0.5 / (0.5**0.5 + 1e-4)  # two chains, rewards 1 and 0: over their standard deviation


def rewards(later):
    later = None if later is None else torch.tensor(later)
    shape = (1, 1, 2) if later is None else later.shape[:3]
    return Rewards(torch.zeros(shape), torch.zeros(shape, dtype=torch.bool), {}, later)


# Advantages of later turns


def test_a_turns_advantage_is_relative_to_the_same_turn_of_the_groups_other_chains():
    made = later_advantages([rewards([[[[1.0, 0.0], [0.0, 0.0]], [[4.0, 2.0], [2.0, 6.0]]]])], [1.0], "none")
    assert made.tolist() == [[[[0.5, 0.0], [-0.5, 0.0]], [[1.0, -2.0], [-1.0, 2.0]]]]


def test_the_scale_is_that_of_the_group():
    made = later_advantages([rewards([[[[1.0], [0.0]], [[3.0], [3.0]]]])], [1.0], "group")
    assert made.flatten().tolist() == pytest.approx([UNIT, -UNIT, 0.0, 0.0])


def test_the_scale_may_be_that_of_the_batch_of_one_turn():
    made = later_advantages([rewards([[[[1.0], [0.0]], [[3.0], [4.0]]]])], [1.0], "batch")
    scale = torch.tensor([1.0, 0.0, 3.0, 4.0]).std().item() + 1e-4
    assert made.flatten().tolist() == pytest.approx([0.5 / scale, -0.5 / scale, -0.5 / scale, 0.5 / scale])


def test_chains_without_the_turn_are_left_out():
    made = later_advantages([rewards([[[[1.0], [NAN], [0.0]]]])], [1.0], "group")
    assert made.flatten().tolist() == pytest.approx([UNIT, 0.0, -UNIT])


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_turn_that_one_chain_reached_has_no_advantage(scale):
    made = later_advantages([rewards([[[[1.0], [NAN]], [[NAN], [NAN]]]])], [1.0], scale)
    assert not made.any() and made.isfinite().all()


def test_providers_are_summed_by_weight_where_they_say_something():
    given = [rewards([[[[1.0, NAN], [0.0, NAN]]]]), rewards([[[[3.0], [1.0]]]]), rewards(None)]
    made = later_advantages(given, [2.0, 0.5, 1.0], "none")
    assert made.tolist() == [[[[1.5, 0.0], [-1.5, 0.0]]]]


def test_a_turn_that_no_provider_knows_is_no_reward_of_zero():
    one, two = rewards([[[[1.0], [1.0], [1.0]]]]), rewards([[[[1.0, NAN], [1.0, 4.0], [1.0, 2.0]]]])
    assert later_advantages([one, two], [1.0, 1.0], "none")[..., 1].flatten().tolist() == [0.0, 1.0, -1.0]


def test_without_rewards_of_later_turns_there_are_no_advantages():
    assert later_advantages([rewards(None)], [1.0], "group") is None


# Rows


def turn(start, stop):
    return Turn("", "", "", None, True, start, stop)


def test_turns_that_nothing_rewards_have_no_advantage():
    rollout = SimpleNamespace(completion_ids=[[1] * 6], turns=[(turn(2, 3), turn(5, 6))])
    made = credit_turns(rollout, [1], torch.tensor([[0.5]]))
    assert made.later == [[0.0, 0.0, 0.5, 0.0, 0.0, 0.0]] and made.own == [[1, 0, 1, 0, 0, 1]]


def test_no_rows_are_no_active_rows():
    assert TurnCredit([], [], []).active.dtype == torch.bool


def a_rollout(**fields):
    """Three rows: two later turns, one, none."""
    return SimpleNamespace(
        **{
            "prompts": ["?"] * 4,
            "prompt_ids": [[1]] * 4,
            "completion_ids": [[2] * 9, [3] * 5, [4] * 3, [5] * 2],
            "logprobs": None,
            "texts": [""] * 4,
            "answers": [None] * 4,
            "turns": [(turn(3, 5), turn(7, 9)), (turn(4, 5),), (), ()],
        }
        | fields
    )


def test_own_tokens_are_told_from_foreign_ones():
    credit = credit_turns(a_rollout(), [2, 1, 3, 2], None)
    assert credit.own == [[1, 1, 0, 1, 1, 0, 0, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1], [1, 1]]
    assert credit.tokens == 13
    assert not credit.active.any()


def test_every_token_of_a_turn_carries_that_turns_advantage():
    credit = credit_turns(a_rollout(), [2, 1, 3, 2], torch.tensor([[0.5, -1.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    first = torch.tensor([10.0, 20.0, 30.0, 40.0])
    assert credit.per_token(first, 10).tolist() == [
        [10, 10, 0, 0.5, 0.5, 0, 0, -1, -1, 0],
        [20, 0, 0, 0, 2, 0, 0, 0, 0, 0],
        [30, 30, 30, 0, 0, 0, 0, 0, 0, 0],
        [40, 40, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert credit.active.tolist() == [True, True, False, False]


@pytest.mark.parametrize("turns", [None, [(), (), (), ()]])
def test_rows_without_later_turns_need_no_credit(turns):
    assert credit_turns(a_rollout(turns=turns), [2, 1, 3, 2], None) is None


def request(rollout, later=None, engine=None, order=((0,), (0,)), made=None, lengths=(2, 1, 3, 2), mix=1.0):
    engine = engine or SimpleNamespace(text_ids=lambda text: [9, 9], end_of_turn=0, max_completion_length=40)
    samples = [response("5", length=n) for n in lengths]
    batch = group([[samples[:2], samples[2:]]] * len(order[0]), order=order, targets=made)
    given = {"saie": rewards(later or [[[[1.0, NAN], [0.0, NAN]], [[NAN, NAN], [NAN, NAN]]]])}
    weights = Weights(torch.tensor([[[0.5, 1.5], [2.0, 0.25]]]), torch.zeros(1, 2, 2))
    return UpdateRequest(engine, 0, batch, given, {"saie": mix}, weights, rollout, LocalRows(0, 4, 2))


def settings(**fields):
    return SimpleNamespace(
        **{
            "objective": "grpo",
            "update_last_peer": True,
            "scale_rewards": "none",
            "num_generations": 2,
            "steps_per_generation": 1,
            "loss_type": "grpo",
        }
        | fields
    )


def test_an_update_carries_the_advantages_of_its_later_turns_without_the_pmi_weight():
    update = make_update(request(a_rollout()), settings())
    assert update.credit.later[0] == [0, 0, 0, 0.5, 0.5, 0, 0, 0, 0]  # of two turns, one was rewarded
    assert update.credit.later[1] == [0, 0, 0, 0, -0.5]
    assert update.credit.first == [2, 1, 3, 2]
    assert update.weights.tolist() == [0.5, 1.5, 2.0, 0.25]


def test_later_turns_are_mixed_by_the_weights_that_are_handed_over():
    engine = SimpleNamespace(reward_weights=torch.tensor([9.0]))  # TRL's, for the first answers
    update = make_update(request(a_rollout(), engine=engine, mix=0.5), settings())
    assert update.credit.later[0] == [0, 0, 0, 0.25, 0.25, 0, 0, 0, 0]


def test_an_update_without_later_turns_is_what_it_was():
    update = make_update(request(a_rollout(turns=None)), settings())
    assert update.credit is None


def test_later_turns_are_not_trained_where_the_peer_spoke_last():
    update = make_update(request(a_rollout(), order=((1, 0), (0, 1))), settings(update_last_peer=False))
    assert not update.credit.active.any()


# Leaving rows out


def an_update_of_later_turns(config):
    """The second of two groups has later turns with an advantage."""
    rollout = a_rollout(
        completion_ids=[[4] * 3, [5] * 2, [2] * 9, [3] * 5], turns=[(), (), (turn(3, 5), turn(7, 9)), (turn(4, 5),)]
    )
    later = [[[[NAN, NAN], [NAN, NAN]], [[1.0, NAN], [0.0, NAN]]]]
    return make_update(request(rollout, later, lengths=(3, 2, 2, 1)), config)


def test_compaction_keeps_groups_whose_later_turns_have_an_advantage():
    update = an_update_of_later_turns(settings())
    kept = compact(update, torch.zeros(4, dtype=torch.bool), settings())
    assert kept.completion_ids == [[2] * 9, [3] * 5]
    assert kept.credit.own == update.credit.own[2:] and kept.credit.first == [2, 1]
    assert kept.credit.later[1] == [0, 0, 0, 0, -0.25]  # a mean over two rows instead of four
    assert kept.token_count == 13  # own tokens of all rows


def test_losses_that_divide_by_a_count_keep_the_advantages():
    config = settings(loss_type="dapo")
    kept = compact(an_update_of_later_turns(config), torch.zeros(4, dtype=torch.bool), config)
    assert kept.credit.later[1] == [0, 0, 0, 0, -0.5]


# The supervised form


def test_discussion_sft_teaches_the_target_after_the_discussion_so_far():
    row = list(range(10, 19))
    rollout = a_rollout(completion_ids=[row, row, [4] * 3, [5] * 2], turns=[(turn(3, 5), turn(7, 9))] * 2 + [(), ()])
    made = targets([[["5", "5"], ["5", None]]])
    update = make_update(request(rollout, made=made), settings(objective="discussion_sft"))
    assert update.prompt_ids == [[1, *row[:3]], [1, *row[:7]], [1], [1]]  # one turn, two turns, none
    assert update.completion_ids == [[9, 9, 0], [9, 9, 0], [9, 9, 0], [5, 5]]
    assert update.advantages.tolist() == [0.5, 1.5, 2.0, 0.0]
    assert update.credit is None and update.on_policy


def test_a_discussed_row_without_a_target_stays_whole_and_has_no_advantage():
    rollout = a_rollout()
    made = targets([[[None, "5"], ["5", "5"]]])
    update = make_update(request(rollout, made=made), settings(objective="discussion_sft"))
    assert [*update.prompt_ids[0], *update.completion_ids[0]] == [1, *rollout.completion_ids[0]]
    assert update.advantages[0] == 0


# What TRL's loss makes of it


TEXTS = [" 8+7=15. #### 75", " #### 65", " 2+3=5. #### 5", " #### 4"]
HEARD = ["\nR: are you sure?\nA:", "\nR: no.\nA:"]
ADVANTAGES = [0.75, -0.5]


SETTINGS = {"per_device_train_batch_size": 4, "num_generations": 2, "recentre_weighted": False}


@pytest.fixture
def discussed(trainer, tiny):
    """`discussed(**config)`: a peer and its update: rows 0 and 1 hear a remark and answer again."""

    def build(**config):
        joint = trainer({"one": tiny["llama"]}, **SETTINGS | config)
        engine = joint.engines[0]
        first = scripted(engine, [chat("What is 28+47?")] * 2 + [chat("What is 2+3?")] * 2, TEXTS)
        rows = [Conversation.start(first, i) for i in range(4)]
        for i, heard in enumerate(HEARD):
            said = scripted(engine, [chat("?")], [" 2+4+1=7. #### 75"])
            rows[i].add("", "", engine.text_ids(heard), said, 0)
        rollout = Rollout(
            **first.__dict__ | {"completion_ids": [r.ids for r in rows], "turns": [tuple(r.turns) for r in rows]}
        )
        credit = credit_turns(
            rollout, list(map(len, first.completion_ids)), torch.tensor([[a] for a in (*ADVANTAGES, 0, 0)])
        )
        update = PeerUpdate(
            inputs=[{"prompt": prompt} for prompt in rollout.prompts],
            prompt_ids=rollout.prompt_ids,
            completion_ids=rollout.completion_ids,
            logprobs=None,
            rewards={"matches_aggregate": [1.0, 0.0, 1.0, 1.0]},
            weights=torch.tensor([0.5, 1.5, 1.0, 1.0]),
            credit=credit,
        )
        engine.update = update
        engine.current_gradient_accumulation_steps = 1
        return engine, update

    return build


def spans(update, row):
    """(first answer, later turn) of a discussed row, as slices."""
    later = [i for i, value in enumerate(update.credit.later[row]) if value]
    return slice(0, update.credit.first[row]), slice(later[0], later[-1] + 1)


def spied(engine, update, monkeypatch):
    """Runs TRL's loss and returns its inputs and the log-probabilities it trained, with their gradients."""
    seen = {}
    logps_of, loss_of = engine._get_per_token_logps_and_entropies, engine._compute_loss

    def logps(*args, **kwargs):
        found = logps_of(*args, **kwargs)
        if found[0].requires_grad:
            found[0].retain_grad()
            seen["logps"] = found[0]
        return found

    def loss(model, inputs):
        seen["inputs"] = inputs
        return loss_of(model, inputs)

    monkeypatch.setattr(engine, "_get_per_token_logps_and_entropies", logps)
    monkeypatch.setattr(engine, "_compute_loss", loss)
    engine.training_step(engine.model, update.inputs, None)
    inputs, order = seen["inputs"], []
    for ids, mask in zip(inputs["completion_ids"].tolist(), inputs["completion_mask"].tolist(), strict=True):
        order.append(update.completion_ids.index(ids[: sum(mask)]))  # TRL shuffles the rows
    back = torch.tensor(order).argsort()
    return {
        "advantages": inputs["advantages"][back],
        "tool_mask": inputs["tool_mask"][back],
        "items": inputs["num_items_in_batch"].item(),
        "logps": seen["logps"].detach()[back],
        "grad": seen["logps"].grad[back],
    }


def test_the_loss_gets_each_tokens_own_advantage_and_mask(discussed, monkeypatch):
    engine, update = discussed()
    seen = spied(engine, update, monkeypatch)
    firsts = [0.5 * UNIT, -1.5 * UNIT, 0.0, 0.0]  # TRL's advantages, times the PMI weights
    for row, ids in enumerate(update.completion_ids):
        expected = torch.zeros(seen["advantages"].shape[1])
        if row < 2:
            first, later = spans(update, row)
            expected[later] = ADVANTAGES[row]
            assert seen["tool_mask"][row, first.stop : later.start].tolist() == [0] * (later.start - first.stop)
            expected[first] = firsts[row]
        assert torch.allclose(seen["advantages"][row], expected, atol=1e-6)
        assert seen["tool_mask"][row, : len(ids)].tolist() == update.credit.own[row]


def test_revised_tokens_are_scored_in_their_own_context(discussed, monkeypatch):
    engine, update = discussed()
    seen = spied(engine, update, monkeypatch)
    for row in range(4):
        expected = logprobs_by_hand(engine.model, update.prompt_ids[row], update.completion_ids[row])
        assert seen["logps"][row, : len(expected)].tolist() == pytest.approx(expected, abs=1e-3)


def test_each_own_token_gets_its_share_of_the_gradient_and_foreign_ones_none(discussed, monkeypatch):
    engine, update = discussed()
    seen = spied(engine, update, monkeypatch)
    for row in range(4):
        own = torch.tensor(update.credit.own[row])
        # ratio 1: d loss / d log p = -A / (own tokens of the row) / rows
        expected = -seen["advantages"][row, : len(own)] * own / own.sum() / 4
        assert torch.allclose(seen["grad"][row, : len(own)], expected, atol=1e-6)
        assert not seen["grad"][row, len(own) :].any()
    first, later = spans(update, 0)
    assert not seen["grad"][0, first.stop : later.start].any()
    assert seen["grad"][0, first].all() and seen["grad"][0, later].all()


def test_only_own_tokens_are_counted(discussed, monkeypatch):
    engine, update = discussed(loss_type="dapo")
    seen = spied(engine, update, monkeypatch)
    assert seen["items"] == update.credit.tokens < sum(map(len, update.completion_ids))
    first, later = spans(update, 1)
    assert seen["grad"][1, later].tolist() == pytest.approx([0.5 / seen["items"]] * (later.stop - later.start))


def test_shuffled_and_split_rows_keep_their_credit(discussed):
    engine, update = discussed(per_device_train_batch_size=2, steps_per_generation=2)
    engine.model.train()
    engine._step = 0
    rows = []
    for _ in range(2):
        inputs = engine._prepare_inputs(update.inputs)
        engine._step += 1
        rows += zip(*(inputs[k].tolist() for k in ("completion_ids", "advantages", "tool_mask")), strict=True)
    assert len(rows) == 4
    for ids, advantages, mask in rows:
        row = next(i for i, own in enumerate(update.completion_ids) if ids[: len(own)] == own)
        own = update.credit.own[row]
        assert mask[: len(own)] == own
        if row < 2:
            _, later = spans(update, row)
            assert advantages[later] == pytest.approx([ADVANTAGES[row]] * (later.stop - later.start))


@pytest.mark.parametrize("loss", ["cispo", "sapo", "dr_grpo"])
def test_other_losses_train_no_foreign_token_either(discussed, monkeypatch, loss):
    engine, update = discussed(loss_type=loss)
    grad = spied(engine, update, monkeypatch)["grad"]
    first, later = spans(update, 0)
    assert not grad[0, first.stop : later.start].any() and grad[0, later].all()


def test_credit_of_some_rows():
    credit = TurnCredit([[1], [1, 0]], [1, 1], [[0.0], [0.0, 2.0]])
    assert credit.pick([1]) == TurnCredit([[1, 0]], [1], [[0.0, 2.0]])
    assert credit.scaled(0.5).later == [[0.0], [0.0, 1.0]]
