"""The completions table: one for all peers, with a peer column."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from trl.trainer.utils import print_prompt_completions_sample

from pst_rl.files import write_atomically
from pst_rl.peers.prompts import prompt_text
from pst_rl.records import Group, Rewards, Weights

if TYPE_CHECKING:
    import pandas


def completions_table(group: Group, rewards: Mapping[str, Rewards], weights: Weights) -> pandas.DataFrame:
    """One row per peer, question and chain: what was answered, what the target was, what it earned and weighed.

    A reward is missing where its provider abstained; `pmi` (nats) where it was not scored; `agrees` (whether the
    answer equals the target) where there is no target. `block` counts generation batches, `length` tokens. After a
    discussion, `turns` lists what the peer was told and what it answered. No label is in it.
    """
    import pandas

    rows = []
    for p, q, g, response in group.cells():
        target = group.the_targets[p][q][g]
        row = {
            "step": group.step,
            "block": group.block,
            "peer": group.peers[p],
            "question": q,
            "chain": g,
            "prompt": prompt_text(group.prompts[q]),
            "completion": response.text,
            "length": response.length,
            "finished": response.finished,
            "answer": None if response.answer is None else response.answer.text,
            "target": None if target is None else target.answer.text,
            "agrees": None if target is None else response.key == target.answer.key,
            "target_share": None if target is None else target.share,
            "pmi": weights.pmi[p, q, g].item(),
            "weight": weights.values[p, q, g].item(),
        }
        for name, reward in rewards.items():
            row[f"reward/{name}"] = None if reward.abstain[p, q, g] else reward.values[p, q, g].item()
        if response.turns:
            row["turns"] = [
                {"remark": t.remark, "text": t.text, "answer": None if t.answer is None else t.answer.text}
                for t in response.turns
            ]
        rows.append(row)
    return pandas.DataFrame(rows)


def write_completions(table: pandas.DataFrame, folder: str | Path) -> Path:
    """Writes `completions/completions_<step>_<block>.parquet` under `folder`, whole or not at all.

    A step may hold several generation batches; each has its file. A run that resumes writes the same names again.
    """
    step, block = table[["step", "block"]].iloc[0]
    path = Path(folder) / "completions" / f"completions_{step:05d}_{block:05d}.parquet"
    return write_atomically(path, table.to_parquet)


def report_completions(table: pandas.DataFrame, report_to: Collection[str], unique: bool = False) -> None:
    """Logs the table as `completions` to Weights & Biases and trackio, if the Trainer reports to them.

    Args:
        unique: Only the first row of each peer and prompt.
    """
    shown = table.drop_duplicates(["peer", "prompt"]) if unique else table
    for name in ("wandb", "trackio"):
        if name in report_to:
            tracker = import_module(name)
            tracker.log({"completions": tracker.Table(dataframe=shown)})


def print_completions(table: pandas.DataFrame, count: int) -> None:
    """Prints `count` rows, drawn by the step, as TRL prints those of one model; the peer is a column."""
    rows = table.iloc[sorted(Random(int(table["step"].iloc[0])).sample(range(len(table)), min(count, len(table))))]
    rewards = {
        name.removeprefix("reward/"): rows[name].astype(float).tolist() for name in table if name.startswith("reward/")
    }
    extra = {name: rows[name].tolist() for name in ("peer", "answer", "target")}
    step, weights = int(rows["step"].iloc[0]), rows["weight"].tolist()
    print_prompt_completions_sample(
        rows["prompt"].tolist(), rows["completion"].tolist(), rewards | {"weight": weights}, None, step, extra=extra
    )
