"""From single runs of the speed benchmark to ratios with their spread, tables and curves."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench_clock import PHASES, UPDATE
from rich.console import Console
from rich.table import Table

RATIOS = {
    "plain_over_trl": ("plain", "trl"),
    "pst_over_trl": ("pst", "trl"),
    "pst_sequential_over_trl": ("pst_sequential", "trl"),
    "comlrl_over_plain": ("comlrl", "plain"),
}
Runs = Sequence[dict]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def ratio(above: Runs, below: Runs, seconds=lambda run: run["step"]) -> dict[str, float]:
    """One quotient for each repeat, and their spread."""
    return spread([seconds(a) / seconds(b) for a, b in zip(above, below, strict=True)])


def summarise(runs: dict[str, Runs]) -> dict:
    """Ratios, seconds a step, phases, token counts and peak memory of every side."""
    return {
        "ratios": {name: ratio(runs[a], runs[b]) for name, (a, b) in RATIOS.items() if a in runs and b in runs},
        # CPU time hardly depends on what else the machine does: a check of the ratios above, not a replacement.
        "cpu_time_ratios": {
            name: ratio(runs[a], runs[b], lambda run: run["cpu_step"])
            for name, (a, b) in RATIOS.items()
            if a in runs and b in runs
        },
        "step_seconds": {side: spread([run["step"] for run in found]) for side, found in runs.items()},
        "phases": {side: phases(found) for side, found in runs.items()},
        "shares": {side: shares(found) for side, found in runs.items()},
        "tokens": {
            side: {name: found[0]["tokens"][name] for name in ("sampled", "trained")} for side, found in runs.items()
        },
        "peak_memory_mib": {side: median(run["peak_memory_mib"] for run in found) for side, found in runs.items()},
    }


def phases(runs: Runs) -> dict[str, dict[str, float]]:
    """Seconds a step of each phase, and positions the models read in it: the median over the runs of their means."""
    names = [*PHASES, *sorted({name for run in runs for name in run["seconds"]} - set(PHASES))]
    return {
        name: {
            "seconds": median(run["seconds"].get(name, 0.0) for run in runs),
            "tokens": median(run["tokens"].get(name, 0) for run in runs),
        }
        for name in names
    }


def shares(runs: Runs) -> dict[str, float]:
    """Shares of a step: PMI, and what is neither generation nor scoring nor a peer's update (the coordinator)."""
    share = lambda *names: median(  # noqa: E731
        sum(run["seconds"].get(name, 0.0) for name in names) / sum(run["seconds"].values()) for run in runs
    )
    return {"coordinator": share("overhead", "aggregate and reward", "views"), "pmi": share("pmi")}


def summarise_levers(off: Runs, on: Runs) -> dict:
    """The step with a lever on over that with it off; below 1 it pays."""
    scored = lambda run: run["seconds"].get("pmi", 0.0) + run["seconds"][UPDATE]  # noqa: E731
    return {
        "step": ratio(on, off),
        "cpu_time": ratio(on, off, lambda run: run["cpu_step"]),
        "pmi, loss and backward": ratio(on, off, scored),
        "phases": {"off": phases(off), "on": phases(on)},
        "peak_memory_mib": {
            "off": median(r["peak_memory_mib"] for r in off),
            "on": median(r["peak_memory_mib"] for r in on),
        },
    }


def summarise_growth(runs: dict[str, Runs]) -> dict[str, float]:
    """Median seconds a step of each side."""
    return {side: median(run["step"] for run in found) for side, found in runs.items()}


# ---- tables ----


def show(*tables: Table) -> None:
    """Prints the tables."""
    for table in tables:
        Console(width=140).print(table)


def of(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f})"


def ratio_table(result: dict) -> Table:
    """Ratios of seconds a step."""
    table = Table(title="Ratios of seconds a step: median (least to greatest)")
    table.add_column("ratio")
    table.add_column("time", justify="right")
    table.add_column("CPU time", justify="right")
    for name, value in result["ratios"].items():
        table.add_row(name, of(value), of(result["cpu_time_ratios"][name]))
    return table


def phase_table(result: dict) -> Table:
    """Milliseconds of each phase, for the sides or for the levers."""
    if "levers" in result:
        return lever_table(result["levers"])
    sides = list(result["phases"])
    table = Table(title="Milliseconds a step")
    table.add_column("phase")
    for side in sides:
        table.add_column(side, justify="right")
    names = list(dict.fromkeys(name for side in sides for name in result["phases"][side]))
    for name in names:
        seconds = [result["phases"][side].get(name, {"seconds": 0.0})["seconds"] for side in sides]
        if any(seconds):
            table.add_row(name, *(f"{1000 * s:.1f}" for s in seconds))
    table.add_row("step (median)", *(f"{1000 * result['step_seconds'][side]['median']:.1f}" for side in sides))
    table.add_row("coordinator, %", *(f"{100 * result['shares'][side]['coordinator']:.1f}" for side in sides))
    table.add_row("tokens sampled", *(f"{result['tokens'][side]['sampled']:.0f}" for side in sides))
    table.add_row("tokens trained", *(f"{result['tokens'][side]['trained']:.0f}" for side in sides))
    table.add_row("peak MiB above imports", *(f"{result['peak_memory_mib'][side]:.0f}" for side in sides))
    return table


def lever_table(levers: dict[str, dict]) -> Table:
    """On over off."""
    table = Table(title="Levers, on over off: median (least to greatest)")
    for head in ("lever", "step", "CPU time", "PMI, loss and backward"):
        table.add_column(head, justify="left" if head == "lever" else "right")
    for name, row in levers.items():
        table.add_row(name, of(row["step"]), of(row["cpu_time"]), of(row["pmi, loss and backward"]))
    return table


def plot_growth(growth: dict[str, list[dict]], file: Path) -> None:
    """One panel for each axis: seconds a step of each side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(growth), figsize=(4 * len(growth), 3.2), squeeze=False, layout="tight")
    for panel, (axis, points) in zip(panels[0], growth.items(), strict=True):
        for side in ("trl", "plain", "pst"):
            panel.plot([p[axis] for p in points], [p[side] for p in points], marker="o", label=side)
        panel.set(xlabel=axis, ylabel="seconds a step", ylim=(0, None))
        panel.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
