"""What a generation batch looked like, as scalars for the logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from pst_rl.answers.reading import REASONS
from pst_rl.records import Group, Response, Rewards, Weights

if TYPE_CHECKING:
    from pst_rl.peers.peer_trainer import PeerTrainer


def joint_metrics(
    group: Group, rewards: Mapping[str, Rewards], reward_weights: Mapping[str, float], weights: Weights, gold
) -> dict[str, float]:
    """Label-free signs of health, and, if there are labels, accuracies of samples and targets.

    - `peers/agreement`: share of the most common answer among all samples of a question, mean over questions.
    - `peers/distinct_answers`: distinct parsed answers per question, mean.
    - `peers/distinct_targets`: distinct targets, divided by the number of (question, target) pairs; falls when peers
      give one constant answer.
    - `peers/unanimous`, `peers/abstained`: share of questions in which all samples agree; without a target.
    - `<peer>/parsed`, `<peer>/finished`: shares of the peer's samples; `<peer>/completions/mean_length` in tokens.
    - `<peer>/answers/<reason>`: of the peer's parsed answers, those read for this reason (`pst_rl.answers.reading`).
    - `<peer>/reward`: weighted sum of the providers' rewards, mean over samples that some provider scored.
    - `<peer>/reward/<provider>`: mean over samples that were not abstained on, for monitors (weight 0) too.
    - `aggregate/accuracy`, `<peer>/sample_accuracy`: only with labels; nothing trained depends on them.
    """
    peers, questions, chains = group.shape
    tops, distinct = [], []
    for q in range(questions):
        votes = Counter(r.key for _, _, r in group.pooled(q) if r.key is not None)
        tops.append(max(votes.values(), default=0) / (peers * chains))
        distinct.append(len(votes))
    with_target = [q for q in range(questions) if any(t for p in range(peers) for t in group.the_targets[p][q])]
    targets = {(q, t.answer.key) for p in range(peers) for q in with_target for t in group.the_targets[p][q] if t}
    metrics = {
        "peers/agreement": sum(tops) / questions,
        "peers/distinct_answers": sum(distinct) / questions,
        "peers/distinct_targets": len({key for _, key in targets}) / max(1, len(targets)),
        "peers/unanimous": sum(top == 1.0 for top in tops) / questions,
        "peers/abstained": 1 - len(with_target) / questions,
    }
    for p, name in enumerate(group.peers):
        samples = [r for chain in group.responses[p] for r in chain]
        metrics[f"{name}/parsed"] = sum(r.answer is not None for r in samples) / len(samples)
        metrics[f"{name}/finished"] = sum(r.finished for r in samples) / len(samples)
        metrics |= {f"{name}/answers/{reason}": share for reason, share in answer_shares(samples).items()}
        for provider, reward in rewards.items():
            scored = reward.values[p][~reward.abstain[p]]
            if scored.numel():
                metrics[f"{name}/reward/{provider}"] = scored.mean().item()
        total = sum(
            (w * rewards[n].values[p].masked_fill(rewards[n].abstain[p], 0.0) for n, w in reward_weights.items()),
            torch.zeros(()),
        )
        scored = ~torch.stack([rewards[n].abstain[p] for n in reward_weights]).all(0)
        if scored.any():
            metrics[f"{name}/reward"] = total[scored].mean().item()
        metrics[f"{name}/completions/mean_length"] = sum(r.length for r in samples) / len(samples)
    for provider, reward in rewards.items():
        metrics.update({f"{provider}/{key}": value for key, value in reward.metrics.items()})
    metrics.update(weights.metrics)
    return metrics | label_metrics(group, gold)


def answer_shares(samples: Iterable[Response]) -> dict[str, float]:
    """Of the answers that were read, the share of each reason to take them; empty where none says why it was."""
    counts = reason_counts(samples)
    return {reason: counts[reason] / counts.total() for reason in REASONS} if counts else {}


def reason_counts(samples: Iterable[Response]) -> Counter[str]:
    """How many answers were read for which reason."""
    return Counter(r.answer.reason for r in samples if r.answer is not None and r.answer.reason is not None)


def token_metrics(peers: Mapping[str, PeerTrainer]) -> dict[str, float]:
    """Tokens a generation batch has cost on this process: `<peer>/tokens/generated` and `<peer>/tokens/scored`.

    Scored tokens are those of forward passes without a gradient (contexts included): PMI and schemes that ask for
    log-probabilities.
    """
    return {
        f"{name}/tokens/{kind}": float(peer.tokens[kind])
        for name, peer in peers.items()
        for kind in ("generated", "scored")
    }


def label_metrics(group: Group, gold) -> dict[str, float]:
    """Accuracy of the targets and of each peer's samples, where gold answers are known."""
    if not gold:
        return {}
    peers, questions, _ = group.shape
    answers = [gold[columns["question_id"]] for columns in group.columns]
    metrics = {}
    hits = [
        group.is_right(t.answer, answers[q])
        for p in range(peers)
        for q in range(questions)
        for t in group.the_targets[p][q]
        if t and answers[q] is not None
    ]
    if hits:
        metrics["aggregate/accuracy"] = sum(hits) / len(hits)
    for p, name in enumerate(group.peers):
        right = [
            group.is_right(r.answer, answers[q])
            for q in range(questions)
            for r in group.responses[p][q]
            if answers[q] is not None
        ]
        if right:
            metrics[f"{name}/sample_accuracy"] = sum(right) / len(right)
    return metrics
