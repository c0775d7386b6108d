"""From single runs of the speed benchmark to ratios with their spread, tables and curves."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench_clock import PHASES, UPDATE

from pst_rl.report import pipe_table

RATIOS = {
    "plain_over_trl": ("plain", "trl"),
    "pst_over_trl": ("pst", "trl"),
    "pst_sequential_over_trl": ("pst_sequential", "trl"),
    "comlrl_over_plain": ("comlrl", "plain"),
}
GROWING = ("trl", "plain", "pst")  # the sides of the growth curves
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


def of(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f})"


def markdown(result: dict) -> str:
    """The result as a page: what was run, and whatever tables it has."""
    settings, machine = result["settings"], result["machine"]
    lines = [
        f"{len(settings['models'])} peers ({settings['size']}), {settings['questions']} questions x "
        f"{settings['generations']} generations x {settings['length']} tokens, {settings['steps']} steps in each of "
        f"{result['repeats']} processes a side.",
        f"Device: {machine['device']} ({machine['cpu']}, {machine['cores']} cores), threads: {machine['threads']}, "
        f"load when it began: {machine['load']:.1f}.",
        ", ".join(f"{name} {number}" for name, number in machine["versions"].items()) + ".",
    ]
    for side, fields in result.get("ours", {}).items():
        lines += ["", f"`{side}`: " + ", ".join(f"`{name}={value!r}`" for name, value in fields.items())]
    if "ratios" in result:
        lines += ["", *_ratios(result), "", *_phases(result)]
    if "levers" in result:
        lines += ["", *_levers(result["levers"])]
    for axis, points in result.get("growth", {}).items():
        rows = [[str(p[axis]), *(f"{p[side]:.3f}" for side in GROWING)] for p in points]
        lines += ["", *pipe_table([f"seconds a step, by {axis}", *GROWING], rows)]
    return "\n".join(lines) + "\n"


def _ratios(result: dict) -> list[str]:
    cpu = result["cpu_time_ratios"]
    rows = [[name, of(value), of(cpu[name])] for name, value in result["ratios"].items()]
    return pipe_table(["ratio: median (least to greatest)", "time", "CPU time"], rows)


def _phases(result: dict) -> list[str]:
    sides = list(result["phases"])
    found = dict.fromkeys(name for side in sides for name in result["phases"][side])
    rows = []
    for name in found:
        cells = [result["phases"][side].get(name, {"seconds": 0.0, "tokens": 0}) for side in sides]
        if any(round(1000 * cell["seconds"], 1) for cell in cells):
            rows.append([name, *(f"{1000 * c['seconds']:.1f} ({c['tokens']:.0f})" for c in cells)])
    rows.append(["whole step (median)", *(f"{1000 * result['step_seconds'][side]['median']:.1f}" for side in sides)])
    rows.append(["tokens sampled", *(f"{result['tokens'][side]['sampled']:.0f}" for side in sides)])
    rows.append(["tokens trained on", *(f"{result['tokens'][side]['trained']:.0f}" for side in sides)])
    rows.append(["coordinator, %", *(f"{100 * result['shares'][side]['coordinator']:.1f}" for side in sides)])
    rows.append(["PMI, %", *(f"{100 * result['shares'][side]['pmi']:.1f}" for side in sides)])
    rows.append(["peak memory, MiB", *(f"{result['peak_memory_mib'][side]:.0f}" for side in sides)])
    return pipe_table(["ms a step (positions read)", *sides], rows)


def _levers(levers: dict[str, dict]) -> list[str]:
    rows = [
        [name, of(row["step"]), of(row["cpu_time"]), of(row["pmi, loss and backward"])] for name, row in levers.items()
    ]
    return pipe_table(["lever, on over off", "step", "CPU time", "PMI, loss and backward"], rows)


def plot_growth(growth: dict[str, list[dict]], file: Path) -> None:
    """One panel for each axis: seconds a step of each side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(growth), figsize=(4 * len(growth), 3.2), squeeze=False, layout="tight")
    for panel, (axis, points) in zip(panels[0], growth.items(), strict=True):
        for side in GROWING:
            panel.plot([p[axis] for p in points], [p[side] for p in points], marker="o", label=side)
        panel.set(xlabel=axis, ylabel="seconds a step", ylim=(0, None))
        panel.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
