"""Evaluation: what it leaves behind."""

import pytest


@pytest.mark.parametrize("modes", [(True, False, True), (False, True, False)])
def test_peers_are_in_the_mode_they_were_in_also_after_an_error(trainer, questions, monkeypatch, modes):
    run = trainer()
    for peer, mode in zip(run.engines, modes, strict=False):
        peer.model.train(mode)
    before = [peer.model.training for peer in run.engines]
    seen = []

    def stumble(text):
        seen.extend(peer.model.training for peer in run.engines)
        raise ArithmeticError("an answer that cannot be read")

    monkeypatch.setattr(run, "extract_answer", stumble)
    monkeypatch.setattr(run.args, "parse_truncated", True)
    with pytest.raises(ArithmeticError):
        run.measure(questions(2))
    assert not any(seen) and [peer.model.training for peer in run.engines] == before
