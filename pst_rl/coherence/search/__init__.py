"""Searches for coherent labels: special cases of one optimisation, each a `Searcher`."""

from pst_rl.coherence.search.base import Searcher
from pst_rl.coherence.search.bootstrap import Bootstrap
from pst_rl.coherence.search.debate import Debate
from pst_rl.coherence.search.gibbs import Gibbs
from pst_rl.coherence.search.icm import ICM

__all__ = ["ICM", "Bootstrap", "Debate", "Gibbs", "Searcher"]
