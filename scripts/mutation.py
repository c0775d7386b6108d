"""Mutation testing of the code that turns votes into gradients: small faults are planted, and a test must notice each.

    python scripts/mutation.py                              # all modules; writes docs/results/mutation.md
    python scripts/mutation.py --modules votes --jobs 2     # one of them, in two processes

A mutant changes one place: a comparison, an arithmetic or logical operator, a constant, a condition, a returned value,
a keyword argument. Each runs in a process of its own, forked from one that has already imported torch and TRL (which
takes ten seconds), in which the module under test is replaced by its changed source. Tests stop at the first
failure; a mutant that takes far longer than the unchanged code is killed, too.
"""

import argparse
import ast
import copy
import importlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "results" / "mutation.md"
TESTS = {  # module -> the tests that answer for it, fast ones first
    "aggregation/votes": ("test_votes_and_shares", "test_aggregation"),
    "weights": ("test_mutants_weights", "test_weights"),
    "compaction": ("test_mutants_compaction",),
    "objectives": ("test_objectives",),
    "turn_credit": ("test_turn_credit",),
    "mixing": ("test_mutants_mixing",),
}
# Mutants that no test can kill, by module and description, with the reason.
EQUIVALENT: dict[tuple[str, str], str] = {}
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

    @property
    def name(self) -> str:
        return f"line {self.line}: {self.change}"


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
        return [lambda n, i=i: n.keywords.pop(i) for i in range(len(node.keywords))]
    return []


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _short(code: str) -> str:
    line = " ".join(code.split())
    return (line if len(line) <= 70 else f"{line[:67]}...").replace("|", "\\|")


def replace_module(module: str, source: str) -> None:
    """Runs a changed source as the module, and puts its names wherever the old ones had been imported."""
    name = f"pst_rl.{module.replace('/', '.')}"
    changed = importlib.import_module(name)
    old = {key: value for key, value in vars(changed).items() if getattr(value, "__module__", None) == name}
    # The tool's whole purpose is to run its own changed copy of our source.
    exec(compile(source, changed.__file__, "exec"), vars(changed))
    for holder in [m for key, m in sys.modules.items() if key.split(".")[0] == "pst_rl"]:
        for key, value in list(vars(holder).items()):
            if any(value is known for known in old.values()):
                setattr(holder, key, getattr(changed, next(k for k, known in old.items() if value is known)))


def warm_up() -> None:
    """Imports what is slow, ours included; a child then replaces what its mutant changes, wherever it was imported."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import datasets  # noqa: F401
    import hypothesis  # noqa: F401
    import peft  # noqa: F401
    import pytest  # noqa: F401
    import torch

    import pst_rl.trainer

    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT / "tests"))


def passes(module: str, source: str | None, timeout: float, tests: tuple[str, ...]) -> tuple[bool, float]:
    """Whether the tests pass with this source of the module, and the seconds that took."""
    begin, child = time.perf_counter(), os.fork()
    if child == 0:
        _run_tests(module, source, tests)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0, time.perf_counter() - begin
        if time.perf_counter() - begin > timeout:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False, time.perf_counter() - begin
        time.sleep(0.02)


def _run_tests(module: str, source: str | None, tests: tuple[str, ...]) -> None:
    code = 3
    try:
        os.chdir(ROOT)
        if source is not None:
            replace_module(module, source)
        import pytest

        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        files = [f"tests/{name}.py" for name in tests if (ROOT / "tests" / f"{name}.py").is_file()]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "--no-header", *files]))
    finally:
        os._exit(code)


def main() -> int:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--modules", nargs="+", default=list(TESTS), choices=list(TESTS), help="what is changed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--report", type=Path, help="page of results; unset: docs/results/mutation.md if all were run")
    args = parser.parse_args()
    warm_up()
    rows, survivors = [], []
    for module in args.modules:
        good, seconds = passes(module, None, 300, TESTS[module])
        if not good:
            print(f"error: the tests of {module} fail without any mutant", file=sys.stderr)
            return 2
        limit, planted = 5 * seconds + 10, list(mutants(module))
        with ThreadPoolExecutor(args.jobs) as pool:
            alive = list(
                pool.map(lambda m, limit=limit: passes(m.module, m.source, limit, TESTS[m.module])[0], planted)
            )
        left = [mutant for mutant, lives in zip(planted, alive, strict=True) if lives]
        survivors += left
        rows.append((module, len(planted), len(planted) - len(left)))
        print(f"{module}: {len(planted) - len(left)} of {len(planted)} killed; the tests take {seconds:.1f} s")
        for mutant in left:
            print(f"  {mutant.name}", flush=True)
    report = args.report or (REPORT if args.modules == list(TESTS) else None)
    if report:
        report.write_text(markdown(rows, survivors))
    return 0


def markdown(rows: list[tuple[str, int, int]], survivors: list[Mutant]) -> str:
    """The page of results."""
    total, killed = sum(planted for _, planted, _ in rows), sum(dead for *_, dead in rows)
    lines = [
        "# Mutation testing",
        "",
        "Written by `python scripts/mutation.py`; do not edit. What it means: [hostile text](../trust-text.md).",
        "",
        f"{killed} of {total} mutants killed ({100 * killed / total:.1f} %).",
        "",
        "| module | mutants | killed | |",
        "| --- | --- | --- | --- |",
        *(f"| `{name}.py` | {planted} | {dead} | {100 * dead / planted:.1f} % |" for name, planted, dead in rows),
        "",
        "## Survivors",
        "",
        "| module | mutant | why it lives |",
        "| --- | --- | --- |",
    ]
    for mutant in survivors:
        why = EQUIVALENT.get((mutant.module, mutant.change), "not explained")
        lines.append(f"| `{mutant.module}` | {mutant.name} | {why} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
