"""Everything by every model: each scheme and each command runs with each real model, for two steps, and is checked.

    python scripts/real_matrix.py --models smollm=models/smollm qwen=models/qwen gemma=models/gemma

The second peer of every run is the embedded tiny Llama: another tokenizer to be read and to read, at next to no cost,
so that seconds and memory are the model's own. A cell is one command of `pst-rl` in a process of its own (a fork of
this one, which has imported the libraries: neither its seconds nor its memory have the imports in them). It is ok if
the command ended with status 0 and what it claims happened: losses are numbers, trained tensors moved where some
reward differed, files are there, a resumed run ends with the same bits. Resumable: a cell whose result is in `--out`
is not run again. A model of half a billion parameters needs about 5 GB.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import pkgutil
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: what is timed is one thread

import pandas as pd
import torch
import transformers
import trl
from safetensors import safe_open

import pst_rl
from pst_rl.cli.main import main as command
from pst_rl.quiet import quiet_output
from pst_rl.report import pipe_table
from pst_rl.tiny import TINY_PEERS

COUNTRIES = {
    "Africa": "Algeria Angola Benin Botswana Cameroon Chad Egypt Ethiopia Gabon Ghana Kenya Mali Morocco Niger Sudan",
    "Asia": "China India Iran Iraq Japan Jordan Laos Malaysia Nepal Oman Pakistan Thailand Vietnam Yemen",
    "Europe": "Austria Belgium Denmark Finland France Germany Greece Hungary Italy Norway Poland Spain Sweden",
    "America": "Argentina Bolivia Brazil Canada Chile Colombia Cuba Ecuador Mexico Panama Paraguay Peru Uruguay",
}
QUESTION = "On which continent is {}? One word."
ASK = ["--prompt-template", "{question}", "--answer-style", "text", "--max-completion-length", "12"]
TRAIN = [
    *ASK, "--use-cpu", "--dtype", "bfloat16", "--max-steps", "2", "--per-device-train-batch-size", "4",
    "--steps-per-generation", "1", "--gradient-accumulation-steps", "1", "--num-generations", "4",
    "--learning-rate", "1e-4", "--quorum", "0", "--no-gradient-checkpointing", "--test-questions", "1",
    "--pooled-questions", "0", "--log-completions", "--on-nothing-read", "warn", "--seed", "1",
]  # fmt: skip
ONCE = ["--save-strategy", "no"]
KINDS = {"full": ["--no-use-peft"], "LoRA": ["--use-peft"], "NF4 + LoRA": ["--use-peft", "--load-in-4bit"]}
PAPER = ["--preset", "paper", "--no-load-in-4bit"]
SCHEMES = {
    "GRPO": [],
    "aggregate_sft": ["--objective", "aggregate_sft"],
    "weighted_sft": ["--objective", "weighted_sft"],
    "PMI": ["--weighting", "pmi"],
    "paper preset": PAPER,
    "sequential": ["--context", "sequential"],
    "debate": ["--method", "debate"],
    "SAIE": ["--method", "saie"],
    "EMPO": ["--method", "empo"],
    "Intuitor": ["--method", "intuitor"],
    "ICM reward": ["--method", "icm", "--num-generations", "2"],
}
CROSS_ENTROPY = ("aggregate_sft", "weighted_sft", "paper preset")  # a target alone moves these
WHOLE = ("GRPO",)  # in all three kinds; the others with LoRA
BASE = "GRPO, LoRA"  # what the cells of the other commands go on from


@dataclass(frozen=True)
class Cell:
    """One row to make.

    Attributes:
        what: Its name.
        words: `(place, folder) -> words` of `pst-rl`: the model's folder, and that of the model's cells.
        check: `(place, folder) -> dict` with `note`, and `ok` unless it is so; raises what says that it is not.
    """

    what: str
    words: Callable[[str, Path], list[str]]
    check: Callable[[str, Path], dict[str, Any]]


def folder_of(what: str) -> str:
    return re.sub(r"\W+", "_", what).lower()


def cells() -> list[Cell]:
    """All of them, those that others go on from before these."""
    found = []
    for scheme, options in SCHEMES.items():
        for kind in KINDS if scheme in WHOLE else ["LoRA"]:
            found.append(training(f"{scheme}, {kind}", scheme, options, kind))
    found.sort(key=lambda cell: cell.what != BASE)
    run = folder_of(BASE)
    asked = ["--max-new-tokens", "12", "--prompt-template", "{question}", "--style", "text", "--dtype", "bfloat16"]

    def of_run(*words: str) -> Callable[[str, Path], list[str]]:
        return lambda place, folder: [word.replace("RUN", str(folder / run)) for word in words]

    peers = ["--peers", "RUN", "--limit", "2", "--samples", "2", *asked]
    found += [
        Cell("resume", lambda place, folder: resumed(place, folder, run), same_bits),
        Cell("eval", lambda p, f: of_run("eval", "DATA", *peers, "--output-dir", "RUN_eval")(p, f), measured("eval")),
        Cell("gv-gap", of_run("gv-gap", "DATA", *peers, "--output-dir", "RUN_gap"), measured("gap")),
        Cell("label", label, labelled),
        Cell("report", of_run("report", "RUN", "RUN_eval", "RUN_gap", "--output-dir", "RUN_page"), reported),
        Cell("push --dry-run", of_run("push", "RUN", "--repo-prefix", "me/mine", "--dry-run"), pushed),
    ]
    return found


def training(what: str, scheme: str, options: list[str], kind: str) -> Cell:
    rate = ["--learning-rate", "1e-3"] if kind == "full" else []  # what bfloat16 weights cannot lose by rounding
    saved = ["--save-strategy", "steps", "--save-steps", "1"] if what == BASE else ONCE
    name = folder_of(what)

    def words(place: str, folder: Path) -> list[str]:
        pair = [f"model={place}", f"tiny={TINY_PEERS['llama']}"]
        if scheme == "paper preset":
            pair.reverse()  # the last peer is the aggregate, and the tiny one ends no answer here
        own = [*TRAIN, *options, "--peers", *pair, "--dataset", "DATA", *saved, *KINDS[kind], *rate]
        return ["train", *own, "--output-dir", str(folder / name)]

    return Cell(what, words, lambda place, folder: trained(place, folder / name, scheme, kind))


# ---- what a cell claims ---------------------------------------------------------------------------------------------


def trained(place: str, run: Path, scheme: str, kind: str) -> dict[str, Any]:
    """Losses are numbers, tensors moved where a gradient is due, results and completions are there."""
    steps = [row for row in json.loads((run / "trainer_state.json").read_text())["log_history"] if "loss" in row]
    rows = pd.concat([pd.read_parquet(file) for file in sorted((run / "completions").glob("*.parquet"))])
    own = rows[rows.peer == "model"]
    losses = [row["loss"] for row in steps]
    norms = [row.get("model/grad_norm", 0.0) for row in steps]
    moved, count, finite = movement(Path(place), run / "model", kind)
    rewards = [column for column in own if column.startswith("reward/")]
    differs = any(own.groupby(["step", "question"])[column].nunique().max() > 1 for column in rewards)
    due = differs or (scheme in CROSS_ENTROPY and bool(own.target.notna().any()))
    faults = []
    if len(steps) != 2 or not all(abs(value) < float("inf") for value in [*losses, *norms]):
        faults.append(f"losses {losses}, gradient norms {norms}")
    if not finite:
        faults.append("weights are no numbers")
    if due and not moved:
        faults.append("some reward differs and no tensor moved")
    if not json.loads((run / "results.json").read_text())["peers"]:
        faults.append("no results")
    answers = own.answer.notna().mean()
    shares = f"{own.finished.mean():.0%} finished, {answers:.0%} read"
    gradient = "" if due else "no reward differed: nothing had to move; "
    note = "; ".join(faults) or f"{gradient}{moved} of {count} tensors moved, gradient {max(norms):.2g}; {shares}"
    return {"ok": not faults, "due": due, "note": note, "texts": list(own.completion)[:4]}


def movement(place: Path, saved: Path, kind: str) -> tuple[int, int, bool]:
    """Of the trained tensors: how many moved, how many there are, and whether all are numbers."""
    moved = count = 0
    finite = True
    before = {}
    if kind == "full":
        for file in place.glob("*.safetensors"):
            opened = safe_open(file, "pt")
            before |= dict.fromkeys(opened.keys(), opened)
    for file in saved.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            for key in opened.keys():  # noqa: SIM118  # no mapping
                if kind != "full" and "lora_B" not in key:
                    continue  # A moves only once B has; B begins at 0
                now = opened.get_tensor(key)
                was = before[key].get_tensor(key) if kind == "full" else torch.zeros_like(now)
                count, moved = count + 1, moved + (not torch.equal(now, was.to(now.dtype)))
                finite = finite and bool(now.isfinite().all())
    return moved, count, finite


def resumed(place: str, folder: Path, run: str) -> list[str]:
    words = training(BASE, "GRPO", SCHEMES["GRPO"], "LoRA").words(place, folder)[:-1]
    resume = ["--resume-from-checkpoint", str(folder / run / "checkpoint-1")]
    return [*words, str(folder / f"{run}_resumed"), *resume]


def same_bits(place: str, folder: Path) -> dict[str, Any]:
    run = folder_of(BASE)
    straight, again = (folder / name / "model" / "adapter_model.safetensors" for name in (run, f"{run}_resumed"))
    first = json.loads((folder / run / "trainer_state.json").read_text())["log_history"]
    equal = straight.read_bytes() == again.read_bytes()
    moved = first[0]["model/grad_norm"] > 0
    note = "2 steps and 1 + 1: the same bits" if equal else "2 steps and 1 + 1 end with other weights"
    return {"ok": equal, "note": note + ("" if moved else "; no gradient in the first step")}


def measured(kind: str) -> Callable[[str, Path], dict[str, Any]]:
    def check(place: str, folder: Path) -> dict[str, Any]:
        out = folder / f"{folder_of(BASE)}_{kind}"
        results = json.loads((out / "results.json").read_text())
        if kind == "gap":
            values = {verifier: own["model"]["verified"]["value"] for verifier, own in results["scores"].items()}
            ok = len(values) == 4 and all(0 <= value <= 1 for value in values.values())
            return {"ok": ok, "note": ", ".join(f"{name} {100 * value:.0f} %" for name, value in values.items())}
        rows = [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]
        texts = [row["responses"]["model"] for row in rows]
        ended = sum(row["finished"]["responses"]["model"] for row in rows)
        together = sum(bool(row["collaborative"]["model"].strip()) for row in rows)
        note = f"{ended} of {len(rows)} greedy responses ended, {together} in turn are not empty"
        return {"ok": bool(rows) and bool(results["scores"]), "note": note, "texts": texts}

    return check


def label(place: str, folder: Path) -> list[str]:
    options = json.dumps({"steps": 24, "initial": 4})
    words = ["label", "CLAIMS", "--model", place, "--method", "icm", "--method-options", options]
    return [*words, "--dtype", "bfloat16", "--output-dir", str(folder / "labels")]


def labelled(place: str, folder: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (folder / "labels" / "labels.jsonl").read_text().splitlines()]
    values = [row["label"] for row in rows]
    return {"ok": len(rows) == 8, "note": f"{len(rows)} claims, labels {values}"}


def reported(place: str, folder: Path) -> dict[str, Any]:
    page = (folder / f"{folder_of(BASE)}_page" / "report.html").read_text()
    pngs = list((folder / f"{folder_of(BASE)}_page").glob("*.png"))
    return {"ok": len(page) > 10_000 and bool(pngs), "note": f"a page of {len(page) // 1024} KiB, {len(pngs)} charts"}


def pushed(place: str, folder: Path) -> dict[str, Any]:
    said = (folder / "log" / "push_dry_run.log").read_text()
    wanted = ("me/mine-model", "adapter_model.safetensors", "README.md")
    lacking = [word for word in wanted if word not in said]
    return {"ok": not lacking, "note": f"lacking {lacking}" if lacking else "repository, adapter and card listed"}


# ---- running --------------------------------------------------------------------------------------------------------


def status(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def child(cell: Cell, words: list[str], place: str, folder: Path, log: Path, out: Path) -> None:
    """One cell, in its own process."""
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    os.dup2(sys.stdout.fileno(), 1), os.dup2(sys.stdout.fileno(), 2)
    base, began, cpu = status("VmRSS"), time.perf_counter(), time.process_time()
    code = command(words)
    row = {"seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    row["memory_mib"] = (status("VmHWM") - base) // 1024
    if code:
        row |= {"ok": False, "note": f"status {code}: {last_line(log)}"}
    else:
        try:
            row |= cell.check(place, folder)
        except Exception as error:  # what is not there is what the row has to say
            row |= {"ok": False, "note": f"check: {type(error).__name__}: {error}"}
    out.write_text(json.dumps(row))


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("error")), lines[-1] if lines else "")[:300]


def run(cell: Cell, name: str, place: str, out: Path, timeout: float) -> dict[str, Any]:
    """The row of a cell; a crash or a hang is a row, too."""
    folder = out / name
    (folder / "log").mkdir(parents=True, exist_ok=True)
    log, result = (folder / "log" / f"{folder_of(cell.what)}{end}" for end in (".log", ".json"))
    if result.is_file():
        return json.loads(result.read_text())
    data = {"DATA": str(out / "questions.jsonl"), "CLAIMS": str(out / "claims.jsonl")}
    words = [data.get(word, word) for word in cell.words(place, folder)]
    if "--output-dir" in words:
        shutil.rmtree(words[words.index("--output-dir") + 1], ignore_errors=True)
    part = result.with_suffix(".part")
    part.unlink(missing_ok=True)
    log.touch()  # also of a process that ends before it writes
    process = multiprocessing.get_context("fork").Process(target=child, args=(cell, words, place, folder, log, part))
    process.start()
    process.join(timeout)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    said = f"longer than {timeout:.0f} s" if late else f"its process ended with {process.exitcode}: {last_line(log)}"
    row = json.loads(part.read_text()) if part.is_file() else {"ok": False, "note": said}
    estimate = re.search(r"^memory\s+([\d.]+) GiB", log.read_text(errors="replace"), re.M)
    if estimate and row.get("memory_mib"):
        row["estimate_mib"] = round(float(estimate[1]) * 1024)
        row["estimate_error"] = round(row["estimate_mib"] / row["memory_mib"] - 1, 2)
    row = {"model": name, "what": cell.what} | row | {"command": shlex.join(["pst-rl", *words])}
    result.write_text(json.dumps(row))
    part.unlink(missing_ok=True)
    return row


def write_data(out: Path) -> None:
    """The questions, and eight claims that follow from some of them."""
    out.mkdir(parents=True, exist_ok=True)
    pairs = [(QUESTION.format(c), continent) for continent, names in COUNTRIES.items() for c in names.split()]
    lines = (json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs)
    (out / "questions.jsonl").write_text("".join(lines))
    known = [
        (c, k, other)
        for k, other in zip(COUNTRIES, reversed(COUNTRIES), strict=True)
        for c in COUNTRIES[k].split()[:1]
    ]
    claims = [{"question": f"On which continent is {c}?", "claim": said} for c, *both in known for said in both]
    (out / "claims.jsonl").write_text("".join(json.dumps(row) + "\n" for row in claims))


# ---- the page -------------------------------------------------------------------------------------------------------


def write_results(rows: list[dict[str, Any]], command: str, docs: Path) -> None:
    """`real_matrix.json` and its page."""
    docs.mkdir(parents=True, exist_ok=True)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
    result = {"command": command, **versions, "rows": rows}
    (docs / "real_matrix.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (docs / "real_matrix.md").write_text(page(rows, command, versions), encoding="utf-8")


def without_places(row: dict[str, Any], places: dict[str, str]) -> dict[str, Any]:
    """The row without folders of this machine: each is called what `places` calls it."""
    text = json.dumps(row)
    for place, called in places.items():
        text = text.replace(json.dumps(place)[1:-1], called)
    return json.loads(text)


def page(rows: list[dict[str, Any]], command: str, versions: dict[str, str]) -> str:
    """The table of all cells, what failed, and what the models wrote."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    by = {(row["model"], row["what"]): row for row in rows}
    failed = [row for row in rows if not row["ok"]]
    table = [
        [what, *(_cell(by.get((model, what))) for model in models)]
        for what in dict.fromkeys(row["what"] for row in rows)
    ]
    wrote = [
        [row["model"], row["what"], f"`{_plain(repr(text))}`", _plain(row["note"])]
        for row in rows
        for text in row.get("texts", [])[:1]
    ]
    lines = [
        "# Everything by every model",
        "",
        f"Written by `{command}`; do not edit. What the models are: [real models](../real-models.md).",
        "",
        "Two steps of one question, four answers of at most 12 tokens, bfloat16 weights, on a CPU with one thread",
        f"({', '.join(f'{name} {version}' for name, version in versions.items())}). The second peer is the embedded",
        "tiny Llama. A cell says processor seconds, the peak of memory in MiB above the imports, and the error of the",
        "estimate where the command makes one (+0.10: it is 10 % above what was measured). It is ok if what it claims",
        "happened: `scripts/real_matrix.py` says what is checked.",
        "",
        *pipe_table(["what", *models], table),
        "",
        f"{len(rows) - len(failed)} of {len(rows)} cells are ok.{_missing(rows, len(models))}",
        "",
        *(f"- {row['model']}, {row['what']}: {_plain(row['note'])}" for row in failed),
        "",
        "## What they wrote",
        "",
        "The first response of each cell that has some, as it was written. Shares are of all of the model's responses",
        "in that cell.",
        "",
        *pipe_table(["model", "what", "text", "what happened"], wrote),
    ]
    return "\n".join(lines) + "\n"


def _missing(rows: Sequence[dict[str, Any]], models: int) -> str:
    """A sentence where a table is of a part only."""
    missing = models * len(cells()) - len(rows)
    return f" {missing} more have not been run yet: the same command goes on." if missing else ""


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("`", "'").replace("<", "&lt;")


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if not row["ok"]:
        return "**no**"
    error = f", {row['estimate_error']:+.2f}" if "estimate_error" in row else ""
    return f"{row['cpu_seconds']:.0f} s, {row['memory_mib']:,}{error}"


def import_all() -> None:
    """What the commands import when they need it, so that no cell has to."""
    for module in pkgutil.walk_packages(pst_rl.__path__, "pst_rl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("matplotlib.pyplot", "bitsandbytes"):
        importlib.import_module(name)


def main(arguments: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--models", nargs="+", required=True, metavar="NAME=FOLDER")
    cli.add_argument("--rows", nargs="+", metavar="WHAT", help="only cells whose name begins so")
    cli.add_argument("--timeout", type=float, default=600, help="seconds for a cell")
    cli.add_argument(
        "--out", type=Path, default=Path("runs/real_matrix"), help="folder of single cells and their runs"
    )
    cli.add_argument("--docs", type=Path, default=Path("docs/results"), help="folder of what is written of them")
    options = cli.parse_args(arguments)
    quiet_output()
    out = options.out.absolute()
    write_data(out)
    import_all()
    models = dict(item.split("=", 1) for item in options.models)
    folders = {name: str(Path(place).absolute()) for name, place in models.items()}
    said = f"python scripts/real_matrix.py --models {' '.join(f'{name}=models/{name}' for name in models)}"
    places = {str(out): "runs/real_matrix", str(TINY_PEERS["llama"]): "tiny/llama"}
    places |= {folder: f"models/{name}" for name, folder in folders.items()}
    wanted = [cell for cell in cells() if not options.rows or cell.what.startswith(tuple(options.rows))]
    rows: list[dict[str, Any]] = []
    for cell in wanted:
        for name, folder in folders.items():
            row = without_places(run(cell, name, folder, out, options.timeout), places)
            rows.append(row)
            print(f"{name}, {cell.what}: {'ok' if row['ok'] else 'NO'}: {row['note']}", flush=True)
            write_results(rows, said, options.docs)
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
