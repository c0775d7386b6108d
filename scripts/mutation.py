"""Mutation testing of the code that turns votes into gradients: small faults are planted, and a test must notice each.

    python scripts/mutation.py                              # all modules; writes docs/results/mutation.md and .json
    python scripts/mutation.py --modules stages/pmi --jobs 2   # one of them, in two processes; the others' stay
    python scripts/mutation.py --survivors                  # only what lived the last time, against new tests
    python scripts/mutation.py --modules                    # the page again, from the results that are there

A mutant changes one place: a comparison, an arithmetic or logical operator, a constant, a condition, a returned value,
a keyword argument. Each runs in a process of its own, forked from one that has already imported torch and TRL and
collected the tests, in which the module under test is replaced by its changed source. Tests stop at the first
failure; a mutant that computes far longer than the unchanged code is killed, too. Times are those of the processor, so
that other work on the machine neither kills a mutant nor leaves out a test. Each verdict is kept in `--out`, by the
changed source and the tests, so that the same command goes on after an interruption.
"""

import argparse
import ast
import copy
import hashlib
import importlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "results" / "mutation.md"
SLOWEST_TEST = 4.0  # seconds of the processor
PATIENCE = 20  # wall time a process may take for each second it may compute
TESTS = {  # module -> the tests that answer for it, fast ones first
    "aggregation/votes": ("test_votes", "test_aggregation"),
    "stages/weighting": ("test_pmi",),
    "stages/pmi": ("test_pmi",),
    "stages/compaction": ("test_compaction", "test_turn_credit"),
    "stages/update": ("test_update", "test_turn_credit", "test_saie"),
    "stages/turn_credit": ("test_turn_credit",),
    "records": ("test_records", "test_turn_credit"),
    "stages/reward_mix": ("test_reward_mix",),
}
HOLDERS = ("pst_rl", *(path.stem for path in (ROOT / "tests").glob("*.py")))  # of names of the module under test
WORDS = "words of an error message"
SAME = "equivalent: "
# Why a mutant may live, by module and change.
EXPLAINED = {
    ("aggregation/votes", "`1.0` -> `2.0`"): SAME + "all ballots count alike, and only shares are used",
    ("aggregation/votes", "`count >= most * (1 - 1e-09)` -> `count > most * (1 - 1e-09)`"): SAME
    + "no sum of weights lies on the bound exactly",
    ("aggregation/votes", "`confidence[:, q].nan_to_num(nan=0.0)` -> `confidence[:, q].nan_to_num()`"): SAME
    + "0 is the default",
    ("stages/update", "`torch.ones(len(weights), dtype=torch.bool)` -> `torch.ones(len(weights))`"): SAME
    + "only a factor where every peer is updated, and 1.0 is that factor as well",
    ("stages/pmi", "`pmi.numel() > 1` -> `pmi.numel() >= 1`"): SAME + "one value has no variance",
    (
        "stages/pmi",
        "`not self.from_cache or scorer != p` -> `not self.from_cache and scorer != p`",
    ): SAME + "without the option no keys and values are kept, and with it the responder is the only scorer",
    ("stages/turn_credit", "`advantages.nan_to_num(nan=0.0)` -> `advantages.nan_to_num()`"): SAME + "0 is the default",
    ("stages/reward_mix", "`len(factors) - 1` -> `len(factors) + 1`"): SAME
    + "the place is never beyond the last factor",
    ("stages/reward_mix", "`len(f) > 1` -> `len(f) >= 1`"): SAME + "one factor has no points between",
    ("stages/reward_mix", "`1.0` -> `2.0`"): SAME + "beyond the end, the last factor is kept by the indices",
    ("stages/reward_mix", "`1` -> `2`"): SAME + "the point 0 is always checked; the last two factors meet in the last",
    ("stages/compaction", "`'beta must be 0'` -> `'beta must be 0X'`"): WORDS,
    ("stages/compaction", "`'entropy_coef must be 0'` -> `'entropy_coef must be 0X'`"): WORDS,
    ("stages/compaction", "`'top_entropy_quantile must be 1'` -> `'top_entropy_quantile must be 1X'`"): WORDS,
    (
        "stages/compaction",
        "`\"scale_rewards must be 'group' or 'none'\"` -> `\"scale_rewards must be 'group' or 'none'X\"`",
    ): WORDS,
    (
        "stages/compaction",
        "`\"multi_objective_aggregation must be 'sum_then_normalize'\"` -> "
        "`\"multi_objective_aggregation must be 'sum_then_normalize'X\"`",
    ): WORDS,
}
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One changed place. `source` is the whole changed module."""

    module: str
    line: int
    change: str
    source: str


def mutants(module: str) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its lines."""
    tree = ast.parse((ROOT / "pst_rl" / f"{module}.py").read_text())
    skipped = {id(inner) for node in ast.walk(tree) for part in _unmutated(node) for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        for change in _changes(node):
            mutated = copy.deepcopy(node)
            before = ast.unparse(node)
            change(mutated)
            after = ast.unparse(mutated)
            if after == before:
                continue
            kept = dict(vars(node))
            vars(node).update(vars(mutated))
            source = ast.unparse(ast.fix_missing_locations(tree))
            vars(node).clear()
            vars(node).update(kept)
            yield Mutant(module, node.lineno, f"`{_short(before)}` -> `{_short(after)}`", source)


def _unmutated(node: ast.AST) -> list[ast.AST]:
    """Parts in which a change means nothing to a test: annotations, texts of errors and docs, import guards."""
    if isinstance(node, ast.keyword) and node.arg == "strict":  # zip's: an assertion
        return [node]
    if isinstance(node, ast.arg):
        return [node.annotation] if node.annotation else []
    if isinstance(node, ast.AnnAssign):
        return [node.annotation]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [*([node.returns] if node.returns else []), *node.decorator_list]
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases]
    if isinstance(node, ast.Raise):
        return [node]
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return [node]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return [node]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript) and node.col_offset == 0:
        return [node]  # a type alias
    return [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.JoinedStr)]


def _changes(node: ast.AST) -> list:
    """Functions that change a copy of this node in place."""
    if isinstance(node, ast.Compare):
        return [lambda n, i=i, op=op: n.ops.__setitem__(i, COMPARISONS[type(op)]()) for i, op in enumerate(node.ops)]
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
        return [lambda n: setattr(n, "op", OPERATORS[type(n.op)]())]
    if isinstance(node, ast.BoolOp):
        new = ast.Or if isinstance(node.op, ast.And) else ast.And
        return [lambda n: setattr(n, "op", new())]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return [lambda n: setattr(n, "value", not n.value)]
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return [lambda n: setattr(n, "value", n.value + 1)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        return [lambda n: setattr(n, "value", n.value + "X")]
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        return [lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        return [lambda n: setattr(n, "op", ast.UAdd() if isinstance(n.op, ast.USub) else ast.Not())]
    if isinstance(node, ast.comprehension) and node.ifs:
        return []
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        return [lambda n: setattr(n, "value", ast.Constant(None))]
    if isinstance(node, ast.Call) and node.keywords and all(word.arg for word in node.keywords):
        return [lambda n, i=i: n.keywords.pop(i) for i, word in enumerate(node.keywords) if word.arg != "strict"]
    return []


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _short(code: str) -> str:
    line = " ".join(code.split())
    return (line if len(line) <= 70 else f"{line[:67]}...").replace("|", "\\|")


def files_of_tests(module: str) -> list[Path]:
    """The files of the tests that answer for a module."""
    return [path for name in TESTS[module] for path in (ROOT / "tests").rglob(f"{name}.py")]


def replace_module(module: str, source: str) -> None:
    """Runs a changed source as the module, and puts its names wherever the old ones had been imported."""
    name = f"pst_rl.{module.replace('/', '.')}"
    changed = importlib.import_module(name)
    old = {key: value for key, value in vars(changed).items() if getattr(value, "__module__", None) == name}
    # The tool's whole purpose is to run its own changed copy of our source.
    exec(compile(source, changed.__file__, "exec"), vars(changed))
    for holder in [m for key, m in sys.modules.items() if key.split(".")[0] in HOLDERS or key.startswith("test_")]:
        for key, value in list(vars(holder).items()):
            if any(value is known for known in old.values()):
                setattr(holder, key, getattr(changed, next(k for k, known in old.items() if value is known)))


class Mutating:
    """A pytest plugin: once the tests are collected, each mutant runs them in a process of its own."""

    def __init__(self, module: str, planted: list[Mutant], jobs: int, out: Path):
        self.module, self.planted, self.jobs, self.out = module, planted, jobs, out
        self.alive: list[bool] = []
        self.seconds = 0.0

    def pytest_runtestloop(self, session: Any) -> bool:
        """Times each test on the unchanged code, then runs the mutants against the tests, the fastest first."""
        with tempfile.TemporaryDirectory() as folder:
            times = Path(folder, "times")
            if not self._forked(session.items, None, 300, times):
                raise SystemExit(f"error: the tests of {self.module} fail without any mutant")
            cost = [float(line) for line in times.read_text().split()]
        fast = sorted((seconds, i) for i, seconds in enumerate(cost) if seconds <= SLOWEST_TEST)
        items = [session.items[i] for _, i in fast]
        self.seconds = sum(seconds for seconds, _ in fast)
        limit = int(5 * self.seconds + 10)
        with ThreadPoolExecutor(self.jobs) as pool:
            for lives in pool.map(lambda mutant: self._verdict(items, mutant, limit), self.planted):
                self.alive.append(lives)
                done, left = len(self.alive), sum(self.alive)
                print(f"\r{self.module}: {done} of {len(self.planted)}, {left} live", end="", file=sys.stderr)
        print(file=sys.stderr)
        return True

    def _verdict(self, items: list, mutant: Mutant, limit: int) -> bool:
        """Whether the mutant lives: known from an earlier call, or tried now."""
        tests = "".join(path.read_text() for path in files_of_tests(self.module))
        kept = self.out / f"{hashlib.sha256((mutant.source + tests).encode()).hexdigest()[:24]}.json"
        if not kept.is_file():
            kept.write_text(json.dumps(self._forked(items, mutant.source, limit)))
        return json.loads(kept.read_text())

    def _forked(self, items: list, source: str | None, limit: int, times: Path | None = None) -> bool:
        """Whether the tests pass with this source of the module, within so many seconds of the processor."""
        begin, child = time.perf_counter(), os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))  # a loop without end is killed by the system
            self._run(items, source, times)
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.perf_counter() - begin > PATIENCE * limit:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return False
            time.sleep(0.02)
        return os.waitstatus_to_exitcode(ended[1]) == 0

    def _run(self, items: list, source: str | None, times: Path | None) -> None:
        code = 3
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            if source is not None:
                replace_module(self.module, source)
            session, cost = items[0].session, []
            for item, following in zip(items, [*items[1:], None], strict=True):
                begin = time.process_time()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                cost.append(time.process_time() - begin)
                if session.testsfailed:
                    os._exit(1)
            if times:
                times.write_text(" ".join(map(str, cost)))
            code = 0
        finally:
            os._exit(code)


def main() -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--modules", nargs="*", default=list(TESTS), choices=list(TESTS), help="what is changed")
    parser.add_argument("--survivors", action="store_true", help="only the mutants that lived the last time")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--report", type=Path, default=REPORT, help="page of results; they are kept beside it in JSON")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "mutation", help="folder of single verdicts")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    import pytest

    kept = args.report.with_suffix(".json")
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    for module in args.modules:
        files = [str(path) for path in files_of_tests(module)]
        planted = chosen = list(mutants(module))
        if args.survivors and known.get(module, {}).get("source") == digest(module):
            lived = [tuple(survivor) for survivor in known[module]["survivors"]]
            chosen = [mutant for mutant in planted if (mutant.line, mutant.change) in lived]
        plugin = Mutating(module, chosen, args.jobs, args.out)
        with redirect_stdout(io.StringIO()) as said:
            pytest.main(["-x", "-p", "no:cacheprovider", *files], plugins=[plugin])
        if len(plugin.alive) < len(chosen):
            print(f"error: the tests of {module} could not be run\n{said.getvalue()}", file=sys.stderr)
            return 2
        left = [mutant for mutant, lives in zip(plugin.planted, plugin.alive, strict=True) if lives]
        known[module] = {
            "planted": len(planted),
            "survivors": [(m.line, m.change) for m in left],
            "source": digest(module),
        }
        print(f"{module}: {len(left)} of {len(planted)} live; the tests take {plugin.seconds:.1f} s")
        for mutant in left:
            print(f"  line {mutant.line}: {mutant.change}", flush=True)
        kept.write_text(json.dumps(known, indent=1) + "\n")
    args.report.write_text(markdown(known))
    return 0


def digest(module: str) -> str:
    """Tells whether a module has changed since it was tested."""
    return hashlib.sha256((ROOT / "pst_rl" / f"{module}.py").read_bytes()).hexdigest()[:16]


def markdown(known: dict[str, dict]) -> str:
    """The page of results."""
    known = {name: known[name] for name in TESTS if name in known}
    missing = [name for name in TESTS if name not in known]
    changed = [name for name, found in known.items() if found["source"] != digest(name)]
    dead = {name: found["planted"] - len(found["survivors"]) for name, found in known.items()}
    total = sum(found["planted"] for found in known.values())
    lines = [
        "# Mutation testing",
        "",
        "Written by `python scripts/mutation.py`; do not edit. What it means: [hostile text](../trust-text.md).",
        "",
        f"{sum(dead.values())} of {total} mutants killed ({100 * sum(dead.values()) / total:.1f} %). "
        f"Tests that take more than {SLOWEST_TEST:g} s of the processor are left out.",
        *([f"Not run yet: {', '.join(f'`{name}.py`' for name in missing)}."] if missing else []),
        *([f"Changed since it was run: {', '.join(f'`{name}.py`' for name in changed)}."] if changed else []),
        "",
        "| module | mutants | killed | |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in known.items():
        share = 100 * dead[name] / found["planted"]
        lines.append(f"| `{name}.py` | {found['planted']} | {dead[name]} | {share:.1f} % |")
    lines += ["", "## Survivors", "", "| module | line | mutant | why it lives |", "| --- | --- | --- | --- |"]
    for name, found in known.items():
        for line, change in found["survivors"]:
            why = EXPLAINED.get((name, change), "not explained")
            lines.append(f"| `{name}` | {line} | {change} | {why} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
