"""The completions table: one for all peers, with a peer column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pst_rl.prompts import prompt_text
from pst_rl.records import Group, Rewards, Weights

if TYPE_CHECKING:
    import pandas


def completions_table(group: Group, rewards: Mapping[str, Rewards], weights: Weights) -> pandas.DataFrame:
    """One row per peer, question and chain: what was answered, what the target was, what it earned and weighed.

    A reward is missing where its provider abstained; `pmi` (nats) where it was not scored.
    """
    import pandas

    rows = []
    for p, q, g, response in group.cells():
        target = group.targets[p][q][g]
        row = {
            "step": group.step,
            "peer": group.peers[p],
            "question": q,
            "chain": g,
            "prompt": prompt_text(group.prompts[q]),
            "completion": response.text,
            "answer": None if response.answer is None else response.answer.text,
            "target": None if target is None else target.answer.text,
            "target_share": None if target is None else target.share,
            "pmi": weights.pmi[p, q, g].item(),
            "weight": weights.values[p, q, g].item(),
        }
        for name, reward in rewards.items():
            row[f"reward/{name}"] = None if reward.abstain[p, q, g] else reward.values[p, q, g].item()
        rows.append(row)
    return pandas.DataFrame(rows)


def write_completions(table: pandas.DataFrame, folder: str | Path) -> Path:
    """Writes `completions/completions_<step>.parquet` under `folder`."""
    path = Path(folder) / "completions" / f"completions_{table['step'].iloc[0]:05d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return path
