"""A toy predictor that is watched while it is read, and the searchers that every test of them goes through."""

from contextlib import contextmanager

import torch

from pst_rl.coherence.constraints import AtMostOne, ExactlyOne
from pst_rl.coherence.predictor import Context, Predictor
from pst_rl.coherence.problem import Problem
from pst_rl.coherence.search import ICM, Bootstrap, Debate, Gibbs
from pst_rl.coherence.toy import ConceptMixture

SEARCHERS = {
    "icm": ICM(),
    "icm-conditional": ICM(delta="conditional"),
    "icm-code": ICM.released_code(),
    "gibbs": Gibbs(sweeps=6, anneal_to=0.0),
    "bootstrap": Bootstrap(rounds=4),
    "debate": Debate(rounds=3, context_size=8),
}
# A search of a problem with constraints, for tests that interrupt it, and the concepts of its predictor.
EASY = ([[1, 0, 1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1, 0, 1]], [0.55, 0.45])
PROBLEM = Problem(8, constraints=(ExactlyOne((0, 1)), AtMostOne((4, 5, 7))), clamped={3: 1})
SEARCH = Gibbs(sweeps=5, start="random", restarts=2)


class Watched(Predictor):
    """A concept mixture, read through its joint alone; it refuses a context in which an item stands twice."""

    def __init__(self, *args, **options):
        self.mixture = ConceptMixture(*args, **options)
        self.n_items, self.n_labels = self.mixture.n_items, self.mixture.n_labels
        self.joints, self.calls = {}, 0

    def identity(self):
        return self.mixture.identity()

    def open(self):
        return Histories(self, [()])

    def log_joint(self, demos):
        key = frozenset(demos)
        if key not in self.joints:
            self.joints[key] = self.mixture.log_joint(tuple(demos))
        return self.joints[key]

    def law(self, history, item):
        """log p(label | item, history); every score comes from here."""
        self.calls += 1
        seen = [*(i for i, _ in history), item]
        assert len(set(seen)) == len(seen), "an item is shown twice, or to itself"
        return [self.log_joint((*history, (item, label))) for label in range(self.n_labels)]


class Histories(Context):
    def __init__(self, predictor, histories):
        self.predictor, self.histories, self.rows = predictor, histories, len(histories)

    @contextmanager
    def _extended(self, demos, parents):
        self.predictor.tokens += sum(map(len, demos))
        yield Histories(self.predictor, [(*self.histories[p], *more) for p, more in zip(parents, demos, strict=True)])

    def _score(self, items):
        return self._laws((row, i) for row, asked in zip(self.histories, items, strict=True) for i in asked)

    def _chain(self, demos):
        return self._laws(((*self.histories[0], *demos[:k]), item) for k, (item, _) in enumerate(demos))

    def _laws(self, reads):
        laws = [self.predictor.law(history, item) for history, item in reads]
        self.predictor.tokens += len(laws)
        return torch.tensor(laws, dtype=torch.float64).view(-1, self.predictor.n_labels).log_softmax(1).float()


class Broken(Exception):
    pass


class Breaking(Watched):
    """Fails after `last` scores."""

    def __init__(self, *args, last, fault=Broken, **options):
        super().__init__(*args, **options)
        self.last, self.fault = last, fault

    def law(self, history, item):
        if self.calls >= self.last:
            raise self.fault
        return super().law(history, item)


def joint(predictor, labels):
    """log p of labels of all items."""
    return predictor.log_joint(tuple(enumerate(labels)))
