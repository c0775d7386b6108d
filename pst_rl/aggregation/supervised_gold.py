"""The supervised ceiling of the objectives that learn towards a target. Not label-free."""

from pst_rl.aggregation.base import Aggregator, break_tie, make_target
from pst_rl.answers import is_correct
from pst_rl.records import Group, Targets


class SupervisedGoldTarget(Aggregator):
    """The target is the gold answer, its text the most common correct response; abstains where no sample is correct.

    Refused unless the run says `supervised=True`.
    """

    needs_labels = True

    def __call__(self, group: Group) -> Targets:
        peers, questions, chains = group.shape
        row = []
        for q in range(questions):
            pooled = [r for _, _, r in group.pooled(q)]
            gold = group.gold[q]
            correct = [r for r in pooled if None not in (r.answer, gold) and is_correct(r.text, gold)]
            target = (
                make_target(break_tie(r.key for r in correct), len(correct) / len(pooled), correct)
                if correct
                else None
            )
            row.append((target,) * chains)
        return (tuple(row),) * peers
