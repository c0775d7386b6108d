"""Searches for coherent labels: special cases of one optimisation, each a `Searcher`."""

from pst_rl.coherence.search.base import Searcher
from pst_rl.coherence.search.bootstrap import Bootstrap
from pst_rl.coherence.search.debate import Debate
from pst_rl.coherence.search.folds import FoldICM
from pst_rl.coherence.search.gibbs import Gibbs
from pst_rl.coherence.search.icm import ICM

SEARCHERS: dict[str, type[Searcher]] = {kind.name: kind for kind in (ICM, Gibbs, Bootstrap, FoldICM, Debate)}
"""The searches by name."""

__all__ = ["ICM", "SEARCHERS", "Bootstrap", "Debate", "FoldICM", "Gibbs", "Searcher"]
