"""Times one joint training step: TRL's GRPOTrainer three times, CoMLRL, ours with a plain reward, and ours with PST.

    python scripts/bench_step.py --json runs/step.json
    python scripts/bench_step.py --levers --json runs/levers.json
    python scripts/bench_step.py --grow peers length --json runs/growth.json --plot runs/growth.png
    python scripts/bench_step.py --size 1b --load-in-4bit --questions 16 --generations 8 --length 256 --micro-batch 8

Set OMP_NUM_THREADS=1 on a CPU. Every side starts from the same randomly initialised models, reads the same questions,
samples the same number of tokens (they are counted) and makes the same number of updates. Each repeat of each side is
a process of its own, and the sides take turns. A ratio compares two sides of one repeat; its median, least and
greatest over the repeats are reported. See docs/performance.md.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from bench_comlrl import comlrl_available
from bench_common import Setting
from bench_cost import Batch, Shape, phases, seconds
from bench_levers import LEVERS, lever_settings
from bench_models import SIZES, build_peers, parameters
from bench_report import GROWING, markdown, plot_growth, summarise, summarise_growth, summarise_levers
from bench_shapes import TRUE_SHAPES
from bench_sides import OURS, SIDES, ours, run_side

GROWTH = {
    "peers": (1, 2, 3, 4, 5, 6),
    "generations": (4, 8, 16, 32, 64),
    "length": (16, 32, 64, 128, 256),
    "questions": (2, 4, 8, 16, 32),
}


def main() -> int:
    """Entry point; see the module's docstring."""
    args = parse()
    if fault := refused(args):
        print(fault, file=sys.stderr)
        return 2
    sides = [side for side in args.sides if side != "comlrl"]
    if "comlrl" in args.sides:
        if args.size == "1b":
            print("comlrl is left out: it is compared on the CPU only.")
        elif comlrl_available():
            sides = list(args.sides)
        else:
            print("comlrl is left out: it is not installed (pip install --no-deps --target /tmp/comlrl comlrl).")
    with tempfile.TemporaryDirectory() as folder:
        count = max(GROWTH["peers"]) if "peers" in (args.grow or ()) else args.peers
        models = tuple(build_peers(args.size, count, Path(folder), args.seed))
        setting = Setting(
            models=models[: args.peers],
            **{name: getattr(args, name) for name in Setting.__dataclass_fields__ if name != "models"},
        )
        result = {"settings": described(setting), "repeats": args.repeats, "machine": machine(args.threads)}
        result["settings"]["parameters"] = parameters(setting.models)
        if args.levers is not None:
            result["levers"] = {}
            for name in args.levers or LEVERS:
                result["levers"][name] = time_lever(setting, name, args.repeats)
                save(result, args)
        elif args.grow:
            result["growth"] = {axis: [] for axis in args.grow}
            for axis in args.grow:
                for value in args.values or GROWTH[axis]:
                    result["growth"][axis].append(time_point(setting, models, axis, value, args.repeats))
                    save(result, args)
        else:
            runs = interleave({side: (side, setting) for side in sides}, args.repeats)
            result |= summarise(runs) | {"ours": {side: ours(side, setting) for side in sides if side in OURS}}
            if args.load_in_4bit:
                result["floor"] = floor(setting, result["phases"]["plain"])
            save(result, args)
    print(f"\n{markdown(result)}")
    if args.plot:
        plot_growth(result["growth"], args.plot)
    return 0


def save(result: dict, args: argparse.Namespace) -> None:
    """Writes what there is so far, so that a long measurement may be cut off."""
    files = {
        args.json: lambda: json.dumps(result, indent=2) + "\n",
        args.markdown: lambda: f"# Seconds of a step\n\n{markdown(result)}",
    }
    for file, text in files.items():
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--json", type=Path, help="file for the figures")
    add("--markdown", type=Path, help="file for the tables")
    add("--size", choices=SIZES, default="tiny", help="hidden size 64, 256, or the true shapes of three real models")
    add("--load-in-4bit", action="store_true", help="NF4 weights and LoRA (true shapes only)")
    add("--sides", nargs="+", choices=[*SIDES, *OURS], default=list(SIDES), metavar="SIDE", help="what is timed")
    add("--repeats", type=int, default=5, help="processes for each side")
    add("--steps", type=int, default=5, help="timed steps in each process")
    add("--warmup", type=int, default=2, help="steps before them")
    add("--peers", type=int, default=3, help="models")
    add("--questions", type=int, default=8, help="questions a step")
    add("--generations", type=int, default=4, help="answers of each peer to each question")
    add("--length", type=int, default=32, help="tokens of each answer")
    add("--micro-batch", type=int, help="rows in one forward and backward pass; all of them if unset")
    add("--unanimous", type=float, default=0.0, help="share of the questions whose answers get equal rewards")
    add("--beta", type=float, default=0.0, help="weight of the KL to a reference model")
    add("--threads", type=int, default=1, help="CPU threads of each process")
    add("--seed", type=int, default=0, help="seed of the models and of the sampling")
    add("--ours", type=json.loads, default={}, help="more fields of PSTConfig for our sides (JSON)")
    add("--levers", nargs="*", metavar="NAME", help="time levers on and off instead: these, or all")
    add("--grow", nargs="+", choices=GROWTH, metavar="AXIS", help="time trl, plain and pst along these axes instead")
    add("--values", type=int, nargs="+", help="points on the axis, if there is one axis")
    add("--plot", type=Path, help="picture of the growth curves")
    return parser.parse_args()


def refused(args: argparse.Namespace) -> str | None:
    """What is wrong with the flags, in one line."""
    counts = ("repeats", "steps", "peers", "questions", "generations", "length", "threads")
    if small := [name for name in counts if getattr(args, name) < 1]:
        return f"--{small[0]} must be at least 1"
    if args.generations < 2:
        return "--generations must be at least 2: advantages compare the answers of a group"
    if args.warmup < 1:
        return "--warmup must be at least 1: the first step pays for allocations"
    if args.size == "1b" and not torch.cuda.is_available():
        return "--size 1b needs a CUDA device: models of true size would take hours a step on a CPU"
    if args.load_in_4bit and (args.size != "1b" or "plain" not in args.sides):
        return "--load-in-4bit needs --size 1b, and the side 'plain' to compare with the floor"
    rows = args.questions * args.generations
    if args.micro_batch and (args.micro_batch < 1 or rows % args.micro_batch):
        return f"--micro-batch must divide the {rows} rows of a step"
    if args.values and len(args.grow or ()) != 1:
        return "--values needs --grow with one axis"
    if args.grow and args.levers is not None:
        return "--grow and --levers are two measurements: give one of them"
    if args.plot and not args.grow:
        return "--plot needs --grow"
    if unknown := sorted(set(args.levers or ()) - set(LEVERS)):
        return f"unknown lever {unknown[0]!r}; choose from {', '.join(LEVERS)}"
    return None


def described(setting: Setting) -> dict:
    """The settings as they go into the result."""
    return asdict(setting) | {"models": [os.path.basename(m) for m in setting.models], "sampled": setting.sampled}


def machine(threads: int) -> dict:
    """What the figures hold for."""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    names = ("torch", "transformers", "trl", "peft", "accelerate")
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


def floor(setting: Setting, measured: dict) -> dict:
    """The least seconds of our plain step's phases on one H200 (bench_cost.py), all peers, and what was measured."""
    rows, peers = setting.rows, len(setting.models)
    prompt = round(measured["generate"]["tokens"] / (peers * rows)) - setting.length + 1  # positions read, padded
    batch = Batch(setting.questions, setting.generations, prompt, setting.length, 8, setting.micro_batch or rows)
    found = [phases(Shape.of(TRUE_SHAPES[os.path.basename(m).split("-")[0]]), batch) for m in setting.models]
    least = {name: sum(seconds(costs[name]) for costs in found) for name in found[0]}
    decoding = least["generate: responses"]
    return {"prompt": prompt, "seconds": least, "decoding_share": decoding / measured["generate"]["seconds"]}


# ---- runs ----


def in_new_process(side: str, setting: Setting) -> dict:
    """One run in a process of its own, forked so that the imports are paid once; on a GPU, started anew."""
    kind = "spawn" if torch.cuda.is_available() else "fork"
    with multiprocessing.get_context(kind).Pool(1) as pool:
        return pool.apply(run_side, (side, setting))


def interleave(jobs: dict[str, tuple[str, Setting]], repeats: int) -> dict[str, list[dict]]:
    """The runs of each job; in every repeat all jobs take their turn, beginning one later than in the last."""
    names, runs = list(jobs), {name: [] for name in jobs}
    for repeat in range(repeats):
        shift = repeat % len(names)
        for name in names[shift:] + names[:shift]:
            run = in_new_process(*jobs[name])
            runs[name].append(run)
            print(f"repeat {repeat + 1} of {repeats}, {name}: {run['step']:.3f} s a step", flush=True)
    return runs


def time_lever(setting: Setting, name: str, repeats: int) -> dict:
    """One lever off and on, side by side."""
    off, on = (replace(setting, **changes) for changes in lever_settings(name, setting.ours))
    runs = interleave({f"{name} off": ("pst_levers_off", off), f"{name} on": ("pst_levers_off", on)}, repeats)
    return summarise_levers(*runs.values()) | {"off": LEVERS[name][0], "on": LEVERS[name][1]}


def time_point(setting: Setting, models: tuple[str, ...], axis: str, value: int, repeats: int) -> dict:
    """Seconds a step of some sides at one value of one setting."""
    grown = replace(setting, **({"models": models[:value]} if axis == "peers" else {axis: value}))
    print(f"{axis} {value}")
    return {axis: value} | summarise_growth(interleave({side: (side, grown) for side in GROWING}, repeats))


if __name__ == "__main__":
    sys.exit(main())
