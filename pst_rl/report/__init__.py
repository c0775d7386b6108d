"""What a run shows of itself: `results.json`, a table, `report.png`, and the page of `pst-rl report`."""

from pst_rl.report.plot import plot_report
from pst_rl.report.results import JointResult, PeerResult, RunResults, VoteResult, write_results
from pst_rl.report.tables import markdown_table, pipe_table, print_table

__all__ = [
    "JointResult",
    "PeerResult",
    "RunResults",
    "VoteResult",
    "markdown_table",
    "pipe_table",
    "plot_report",
    "print_table",
    "write_results",
]
