"""Co-rewarding: labels from a paraphrase or from a slow copy of the peer, whose live weights stay what they are."""

import math
from types import SimpleNamespace

import pytest
import torch
from conftest import same, weights
from helpers import answers_of, chat, group, response
from speakers import Speaker, request, speakers
from torch import nn

from pst_rl.aggregation.views import CrossView
from pst_rl.discussion import RolloutContext
from pst_rl.discussion.cross_view import EMAView, ParaphraseView, loaded
from pst_rl.records import LocalRows


def context(peers, asked, rows=None):
    names = tuple(f"peer{p}" for p in range(len(peers)))
    rows = [{"prompt": prompt} for prompt in asked.prompts] if rows is None else rows
    batch = group([[["1"]]] * len(peers), peers=names)
    return RolloutContext(peers, asked, rows, [], batch, LocalRows(0, len(rows), 1))


def independent(texts, peers=1, **fields):
    return request(texts, orders=[tuple(range(peers))] * len(texts), sequential=False, **fields)


def labels(first, view, name="ema", **options):
    """The targets made from these first answers and these answers of the view."""
    return CrossView(view=name, **options)(group(first, views={name: group(view).responses}))


class Thinker(Speaker):
    """A speaker whose answer is its one trainable weight; the other parameter is frozen."""

    use_vllm = False

    def __init__(self, weight, fails=False, trainable=True, dtype=torch.float32):
        super().__init__("thinker")
        self.model = nn.ParameterDict({"w": torch.tensor([float(weight)], dtype=dtype), "base": torch.ones(2)})
        self.model["base"].requires_grad_(False)
        self.model["w"].requires_grad_(trainable)
        self.fails = fails

    def answer(self, prompts, greedy):
        if self.fails:
            raise RuntimeError("out of memory")
        rollout = super().answer(prompts, greedy)
        rollout.texts[:] = [f"#### {self.model['w'].item():g}"] * len(prompts)
        return rollout


def said(view, *peers):
    """The answer of each peer's copy to one question."""
    return [r.answers[0].text for r in view.respond(context(list(peers), independent(["?"], len(peers))))]


def move(peer, weight):
    with torch.no_grad():
        peer.model["w"].fill_(weight)


# ---- the label -----------------------------------------------------------------------------------------------------


def test_each_peers_label_is_the_vote_of_its_own_view():
    made = labels([[["1", "1", "1"]], [["1", "1", "1"]]], [[["2", "2", "1"]], [["3", "4", "3"]]])
    assert answers_of(made) == [[["2"] * 3], [["3"] * 3]]
    assert made[0][0][0].share == pytest.approx(2 / 3)


def test_pooled_votes_over_all_peers_views():
    made = labels([[["1", "1"]], [["1", "1"]]], [[["2", "2"]], [["2", "3"]]], pooled=True)
    assert answers_of(made) == [[["2", "2"]]] * 2
    assert made[0][0][0].share == 0.75


@pytest.mark.parametrize(("quorum", "answers"), [(0.5, ["2", None]), (0.51, [None, None])])
def test_a_peer_without_quorum_abstains_alone(quorum, answers):
    made = labels([[["1", "1"]], [["1", "1"]]], [[["2", None]], [[None, None]]], quorum=quorum)
    assert [rows[0][0] and rows[0][0].answer.text for rows in made] == answers


def test_the_text_is_the_peers_own_first_answer_that_agrees():
    own, others, reworded = response("2", "own #### 2"), response("2", "a #### 2"), response("2", "about y #### 2")
    made = labels([[[own, "1"]], [[others, others]]], [[[reworded] * 2], [["5", "5"]]])
    assert made[0][0][0].text == own.text


def test_the_text_is_the_views_where_no_first_answer_agrees():
    reworded = response("2", "about y #### 2")
    assert labels([[["1", "1"]]], [[[reworded] * 2]])[0][0][0].text == reworded.text


def test_permuting_peers_permutes_the_labels_and_permuting_chains_changes_nothing():
    first, view = [[["1", "2"]], [["3", "4"]]], [[["5", "6"]], [["7", None]]]
    made = labels(first, view)
    assert labels(first[::-1], view[::-1]) == made[::-1]
    assert labels([[c[::-1] for c in r] for r in first], [[c[::-1] for c in r] for r in view]) == made


def test_gold_changes_nothing():
    told = group([[["1", "2"]]], views={"ema": group([[["2", "2"]]]).responses})
    gold = group([[["1", "2"]]], views=told.views, gold=("1",))
    assert CrossView("ema")(told) == CrossView("ema")(gold)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "mirror"}, "'paraphrase' or 'ema'"),
        ({"view": "paraphrase", "decay": 0.9}, "decay has no effect with view='paraphrase'"),
        ({"decay": 1.1}, "between 0 and 1"),
        ({"final_decay": -0.1, "anneal": 5}, "between 0 and 1"),
        ({"final_decay": 0.999}, "give both"),
        ({"final_decay": 0.999, "anneal": 0}, "anneal >= 1"),
        ({"quorum": 2.0}, "between 0 and 1"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CrossView(**options)


# ---- the paraphrase ------------------------------------------------------------------------------------------------


SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("prompt", "paraphrase", "asked"),
    [
        ([SYSTEM, *chat("2+2?")], "two and two?", [SYSTEM, *chat("two and two?")]),
        (chat("2+2?"), chat("two and two?"), chat("two and two?")),
    ],
)
def test_the_paraphrase_takes_the_questions_place(prompt, paraphrase, asked):
    told = independent(["?"])
    told.prompts[:] = [prompt]
    rollouts = ParaphraseView().respond(context(speakers("a"), told, [{"prompt": prompt, "paraphrase": paraphrase}]))
    assert rollouts[0].prompts == [asked]


def test_a_text_prompt_is_replaced_as_a_whole():
    told = independent(["?"], build_prompt=lambda prompt, previous: chat(prompt))
    told.prompts[:] = ["2+2="]
    peers = speakers("a")
    ParaphraseView().respond(context(peers, told, [{"prompt": "2+2=", "paraphrase": "4-0="}]))
    assert peers[0].seen == ["4-0="]


@pytest.mark.parametrize("row", [{}, {"paraphrase": None}, {"paraphrase": ""}])
def test_a_row_without_a_paraphrase_is_refused_and_the_column_named(row):
    with pytest.raises(ValueError, match="nothing in the column 'paraphrase'"):
        ParaphraseView().respond(context(speakers("a"), independent(["2+2?"]), [row]))


# ---- the slow copy -------------------------------------------------------------------------------------------------


def test_the_first_batch_is_answered_by_the_peer_itself():
    assert said(EMAView(), Thinker(5)) == ["5"]


def test_the_average_follows_the_weights_once_a_batch():
    view, peer = EMAView(decay=0.75), Thinker(4)
    answers = said(view, peer)
    for weight in (8, 16):
        move(peer, weight)
        answers += said(view, peer)
    assert answers == ["4", "5", "7.75"]  # .75 * 4 + .25 * 8; .75 * 5 + .25 * 16


def test_every_peer_has_its_own_average():
    view, a, b = EMAView(decay=0.5), Thinker(0), Thinker(8)
    said(view, a, b)
    move(a, 4)
    assert said(view, a, b) == ["2", "8"]


def test_the_decay_runs_along_a_cosine_and_stays_at_its_end():
    view, peer = EMAView(0.99, final_decay=0.99999, anneal=4), Thinker(1)
    decays = []
    for _ in range(7):
        decays.append(view.current_decay)
        said(view, peer)
    steps = [0, 0, 1, 2, 3, 4, 4]  # the first batch copies the weights, which is no update
    assert decays == pytest.approx([0.99999 - 0.00999 * (1 + math.cos(math.pi * k / 4)) / 2 for k in steps])


def test_the_live_weights_come_back_bit_for_bit():
    view, peer = EMAView(decay=0.3), Thinker(0.1)
    said(view, peer)
    move(peer, 1 / 3)
    parameter, storage, before = peer.model["w"], peer.model["w"].data_ptr(), weights(peer.model)
    assert said(view, peer) != [f"{1 / 3:g}"]
    assert same(weights(peer.model), before)
    assert peer.model["w"] is parameter and parameter.data_ptr() == storage and parameter.requires_grad


def test_the_live_weights_come_back_after_an_error():
    view, first, second = EMAView(decay=0.5), Thinker(1), Thinker(3)
    said(view, first, second)
    move(first, 2)
    move(second, 7)
    second.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        said(view, first, second)
    assert (first.model["w"].item(), second.model["w"].item()) == (2.0, 7.0)


def test_a_half_loaded_peer_is_restored_too():
    peer = Thinker(2)
    with pytest.raises(KeyError), loaded(peer, {}):
        pass
    assert peer.model["w"].item() == 2.0


def test_a_half_precision_peer_is_averaged_in_single_precision():
    view, peer = EMAView(decay=0.999), Thinker(1, dtype=torch.bfloat16)
    said(view, peer)
    move(peer, 2)
    said(view, peer)
    average = view.averages["peer0"]["w"]
    assert average.dtype == torch.float32 and average.item() == pytest.approx(1.001)  # bfloat16 would stay at 1
    assert peer.model["w"].dtype == torch.bfloat16 and peer.model["w"].item() == 2.0


def test_only_trainable_parameters_are_copied():
    view = EMAView()
    said(view, Thinker(1))
    assert view.averages["peer0"].keys() == {"w"}


def test_a_frozen_peer_answers_again_and_nothing_is_copied():
    view, peer = EMAView(), Thinker(3, trainable=False)
    assert said(view, peer) == ["3"]
    assert view.averages == {"peer0": {}}


def test_vllm_loads_the_copy_and_then_the_peer_again():
    peer = SimpleNamespace(model=Thinker(1).model, use_vllm=True, _last_loaded_step=7)
    with loaded(peer, {"w": torch.zeros(1)}):
        assert peer._last_loaded_step == -1
        peer._last_loaded_step = 7  # as TRL does when it has synchronised
    assert peer._last_loaded_step == -1


def test_a_saved_copy_goes_on_where_it_was(tmp_path):
    straight, peer = CrossView(decay=0.9, final_decay=0.5, anneal=3), Thinker(4)
    for weight in (4, 8, 16):
        move(peer, weight)
        said(straight.views[0], peer)
    torch.save(straight.state_dict(), tmp_path / "state.pt")
    resumed = CrossView(decay=0.9, final_decay=0.5, anneal=3)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    move(peer, 32)
    assert said(resumed.views[0], peer) == said(straight.views[0], peer)
    assert resumed.views[0].updates == 3


def test_a_state_is_not_shared_with_the_copy_it_came_from():
    first, second, peer = EMAView(decay=0.5), EMAView(decay=0.5), Thinker(4)
    said(first, peer)
    second.load_state_dict(first.state_dict())
    move(peer, 8)
    said(second, peer)
    assert first.averages["peer0"]["w"].item() == 4.0


def test_a_state_of_other_parameters_is_refused():
    view = EMAView()
    view.load_state_dict({"updates": 1, "averages": {"peer0": {"other": torch.zeros(1)}}})
    with pytest.raises(ValueError, match="does not fit the peer 'peer0'"):
        said(view, Thinker(1))


def test_a_paraphrase_has_no_state():
    aggregator = CrossView("paraphrase")
    assert aggregator.state_dict() == {}
    aggregator.load_state_dict({})


# ---- real peers ----------------------------------------------------------------------------------------------------


def test_real_peers_learn_from_paraphrases(trainer, questions):
    data = questions(8)
    data = data.add_column("paraphrase", ["Please say: " + p[0]["content"] for p in data["prompt"]])
    run = trainer(aggregator=CrossView("paraphrase"), data=data, max_steps=1, steps_per_generation=1)
    run.train()
    assert len(run.last_group.views["paraphrase"]) == 2


def test_a_slow_copy_survives_a_resume(config, questions, tiny, tmp_path):
    from pst_rl import PSTTrainer

    def build(name):
        settings = config(
            output_dir=str(tmp_path / name),
            steps_per_generation=1,
            save_strategy="steps",
            save_steps=1,
        )
        peers = dict(list(tiny.items())[:2])
        return PSTTrainer(peers, settings, train_dataset=questions(), aggregator=CrossView(decay=0.5))

    straight = build("straight")
    straight.train()
    resumed = build("resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-1"))
    one, other = straight.aggregator.views[0], resumed.aggregator.views[0]
    assert one.updates == other.updates == 1
    for name, peer in straight.peers.items():
        assert same(one.averages[name], other.averages[name])
        assert same(weights(peer.model), weights(resumed.peers[name].model))
        assert not same(one.averages[name], weights(peer.model))
