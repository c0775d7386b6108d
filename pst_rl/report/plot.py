"""One picture of a run: accuracy before and after, and its course."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pst_rl.files import write_atomically
from pst_rl.report.drawing import VOTE_COLOUR, draw_before_after, draw_series, peer_colours
from pst_rl.report.results import RunResults
from pst_rl.report.tables import title
from pst_rl.report.text import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_report(results: RunResults, log_history: list[dict[str, Any]], path: str | Path) -> Path:
    """Write what `draw_report` draws.

    Args:
        results, log_history: as `draw_report` takes them.
        path: of the picture; its ending gives the format. The file appears whole or not at all.

    Returns:
        The path.
    """
    figure = draw_report(results, log_history)
    ending = Path(path).suffix.removeprefix(".") or None
    return write_atomically(path, lambda beside: figure.savefig(beside, format=ending))


def draw_report(results: RunResults, log_history: list[dict[str, Any]]) -> "Figure":
    """Draw before and after beside reward, agreement, PMI and distinct answers over the steps.

    Before and after are accuracies; without gold they are the agreement of the peers and how their responses end.

    Args:
        results: of the run.
        log_history: the trainer's; of each entry `step`, `<peer>/reward`, `peers/agreement`, `<peer>/pmi/mean` (or
            `peers/abstained` in a run without PMI) and `peers/distinct_answers` are read. What is missing or not
            finite is left out, with a note in its panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    size = (12.5, 2.6 + 0.6 * max(5, len(results.measured)))  # inches: a row needs its height
    figure = Figure(figsize=size, dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    FigureCanvasAgg(figure)
    said = plain(title(results), 120)
    figure.suptitle(said, x=0.01, ha="left", fontsize=13 if len(said) <= 80 else 10, fontweight="bold")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.3))[0]
    draw_before_after(left.subplots(), results)
    colours = peer_colours(results.peers)
    shared = {"peers": VOTE_COLOUR}
    panels = right.subplots(2, 2)
    draw_series(panels[0, 0], log_history, "Reward", "{}/reward", colours)
    draw_series(panels[0, 1], log_history, "Agreement between peers", "{}/agreement", shared)
    if any(f"{name}/pmi/mean" in log for log in log_history for name in colours):
        draw_series(panels[1, 0], log_history, "PMI (nats)", "{}/pmi/mean", colours)
    else:
        draw_series(panels[1, 0], log_history, "Share of questions without a target", "{}/abstained", shared)
    draw_series(panels[1, 1], log_history, "Distinct answers per question", "{}/distinct_answers", shared)
    return figure
