"""The supervised ceiling. Not label-free: refuses to run unless the run says `supervised=True`."""

from pst_rl.answers import is_correct
from pst_rl.records import Group, Rewards
from pst_rl.rewards.base import blank


class SupervisedGold:
    """r = 1 if the response is correct by the gold answer, else 0; abstains where a question has no gold answer."""

    needs_labels = True

    def __call__(self, group: Group) -> Rewards:
        values, abstain = blank(group)
        for p, q, g, response in group.cells():
            gold = group.gold[q]
            if gold is None:
                abstain[p, q, g] = True
            elif response.answer is not None:
                values[p, q, g] = float(is_correct(response.answer, gold))
        return Rewards(values, abstain)
