"""The house itself: where files lie, how long they are, what imports what, and that everything says what it is."""

import ast
import re
from collections import defaultdict, deque
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pages import ROOT

import pst_rl

PACKAGE = ROOT / "pst_rl"
TESTS = ROOT / "tests"
FILES = sorted(PACKAGE.rglob("*.py"))
LOOSE_MODULES, FILE_LINES, FUNCTION_LINES = 12, 400, 60

# Imports inside functions that lead upwards, with the reason: (importing module, imported module).
UPWARDS: dict[tuple[str, str], str] = {}
# Folders of tests that are no rooms of the package, and tests of no single module.
OTHER_ROOMS = {"scripts", "documentation"}
WHOLE_PACKAGE = {"structure", "supply_chain", "canary", "examples"}


# ---- what is there ----


def name_of(file: Path, root: Path = ROOT) -> str:
    """The dotted name of a file's module; a package's `__init__.py` is the package."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def line_of(file: Path, node: ast.AST, root: Path = ROOT) -> str:
    return f"{file.relative_to(root)}:{node.lineno}"


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


# ---- size ----


def test_few_modules_lie_outside_the_rooms():
    loose = sorted(file.name for file in PACKAGE.glob("*.py") if file.name != "__init__.py")
    assert len(loose) <= LOOSE_MODULES, loose


def test_no_file_is_long():
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES} == {}


def test_no_function_is_long():
    functions = [(file, node) for file in FILES for node in ast.walk(parsed(file)) if isinstance(node, FUNCTIONS)]
    lengths = {f"{line_of(file, node)} {node.name}": node.end_lineno - node.lineno + 1 for file, node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}


# ---- docstrings ----


def test_every_module_class_and_function_says_what_it_is():
    bad = [str(file.relative_to(ROOT)) for file in FILES if not ast.get_docstring(parsed(file))]
    named = [(f, node) for f in FILES for node in parsed(f).body if isinstance(node, (ast.ClassDef, *FUNCTIONS))]
    overloads = [node for _, node in named if any(getattr(d, "id", "") == "overload" for d in node.decorator_list)]
    public = [(file, node) for file, node in named if not node.name.startswith("_") and node not in overloads]
    bad += [f"{line_of(file, node)} {node.name}" for file, node in public if not ast.get_docstring(node)]
    assert bad == []


def test_the_map_of_the_package_names_every_room_and_no_file_that_is_not_there():
    pages = re.findall(r"^ {4}(\w+/) +(.*(?:\n {18}.*)*)", pst_rl.__doc__, re.MULTILINE)
    assert {room for room, _ in pages} == {f"{f.name}/" for f in PACKAGE.iterdir() if (f / "__init__.py").is_file()}
    files = {room: {file.stem for file in (PACKAGE / room).glob("*.py")} for room, _ in pages}
    words = [(room, word) for room, text in pages for word in re.findall(r"\w+_\w+", text) if word != "per_sample"]
    assert [f"{room}{word}" for room, word in words if word.strip("_") not in {*files[room], "init"}] == []


# ---- imports ----


class Import(NamedTuple):
    """One module imports another of the package: where, and whether it does so only once something runs."""

    importer: str
    imported: str
    place: str
    late: bool


def imports(root: Path = ROOT) -> list[Import]:
    """All imports between modules of `root`/pst_rl; those under `if TYPE_CHECKING:` count like any other.

    `from a import b` imports `a.b` where that is a module, or else `a`; a public name of `pst_rl` is imported from the
    module that the table in `pst_rl/__init__.py` names. A text elsewhere that is a module's name, as in a table of
    commands, counts as an import that happens late. That Python also runs the `__init__.py` of the folders that a
    module lies in does not count: one that gathers names would be in a circle with each module that it gathers.
    """
    files = {name_of(file, root): file for file in sorted((root / "pst_rl").rglob("*.py"))}
    exports = lazy_exports(files["pst_rl"])
    found = []
    for name, file in files.items():
        tree = ast.parse(file.read_text())
        late = {id(part) for node in ast.walk(tree) if isinstance(node, FUNCTIONS) for part in ast.walk(node)}
        for node in ast.walk(tree):
            here = name if file.name == "__init__.py" else name.rpartition(".")[0]
            for target in [exports.get(target, target) for target in targets(node, here)]:
                module = target if target in files else target.rpartition(".")[0]
                if module in files and module != name:
                    found.append(Import(name, module, line_of(file, node, root), id(node) in late))
            if isinstance(node, ast.Constant) and name != "pst_rl" and str(node.value).split(":")[0] in files:
                module = node.value.split(":")[0]
                found += [Import(name, module, line_of(file, node, root), True)] * ("." in module)
    return found


def targets(node: ast.AST, here: str) -> list[str]:
    """What a statement imports, as dotted names; `here` is the package that a leading dot stands for."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = ".".join(here.split(".")[: len(here.split(".")) - node.level + 1]) if node.level else ""
    base = ".".join(filter(None, [above, node.module]))
    return [f"{base}.{alias.name}" for alias in node.names]


def lazy_exports(file: Path) -> dict[str, str]:
    """`pst_rl.Name` -> the module that the name is imported from when it is first used."""
    tables = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Dict)]
    pairs = [pair for table in tables for pair in zip(table.keys, table.values, strict=True)]
    return {f"pst_rl.{k.value}": v.value for k, v in pairs if {type(k), type(v)} == {ast.Constant}}


def circles(edges: list[Import]) -> list[str]:
    """A shortest circle through every module that is in one, each circle once, the shortest first."""
    leaving = defaultdict(list)
    for edge in edges:
        leaving[edge.importer].append(edge)
    found = {}
    for start in sorted(leaving):
        paths, seen = deque([edge] for edge in leaving[start]), {start}
        while paths and paths[0][-1].imported != start:
            path = paths.popleft()
            if path[-1].imported not in seen:
                seen.add(path[-1].imported)
                paths.extend([*path, edge] for edge in leaving[path[-1].imported])
        if paths:
            found.setdefault(frozenset(edge.importer for edge in paths[0]), paths[0])
    return [
        " -> ".join(f"{edge.importer} ({edge.place})" for edge in circle) + f" -> {circle[0].importer}"
        for circle in sorted(found.values(), key=len)
    ]


def test_circles_are_found(tmp_path):
    sources = {
        "__init__": "_EXPORTS = {'Name': 'pst_rl.room.b'}",
        "a": "if TYPE_CHECKING:\n    from pst_rl import Name",
        "room/__init__": "from pst_rl.room.b import Name\nfrom .b import Other",
        "room/b": "def f():\n    from ..a import something",
        "room/c": "TABLE = {'d': 'pst_rl.d:Command'}",
        "d": "import pst_rl.room.c",
    }
    for name, source in sources.items():
        file = tmp_path / "pst_rl" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    found = imports(tmp_path)
    assert circles([edge for edge in found if not edge.late]) == []
    assert circles(found) == [
        "pst_rl.a (pst_rl/a.py:2) -> pst_rl.room.b (pst_rl/room/b.py:2) -> pst_rl.a",
        "pst_rl.d (pst_rl/d.py:1) -> pst_rl.room.c (pst_rl/room/c.py:1) -> pst_rl.d",
    ]


def test_modules_import_each_other_in_no_circle():
    found = imports()
    assert circles([edge for edge in found if not edge.late]) == [] and len(found) > 300


def test_imports_inside_functions_close_no_circle():
    found = imports()
    assert circles([e for e in found if not (e.late and (e.importer, e.imported) in UPWARDS)]) == []
    assert set(UPWARDS) <= {(edge.importer, edge.imported) for edge in found if edge.late}


# ---- tests ----


def test_the_tests_mirror_the_package():
    rooms = {file.relative_to(PACKAGE).parts[0] for file in FILES if file.parent != PACKAGE}
    folders = {file.parent.name for file in TESTS.glob("*/test_*.py")}
    assert (folders - rooms - OTHER_ROOMS, rooms - folders) == (set(), set())


def test_a_test_is_named_after_what_it_tests():
    """`test_<module>` or `test_<room>`, and `_<aspect>` after it where there are several."""
    loose = {file.stem for file in PACKAGE.glob("*.py")} | WHOLE_PACKAGE
    bad = []
    for file in sorted(TESTS.rglob("test_*.py")):
        room = file.relative_to(TESTS).parts[0]
        inside = [part for found in (PACKAGE / room).rglob("*.py") for part in found.relative_to(PACKAGE).parts]
        names = loose if file.parent == TESTS else {part.removesuffix(".py") for part in inside}
        subject = file.stem.removeprefix("test_")
        if room not in OTHER_ROOMS and not any(f"{subject}_".startswith(f"{name}_") for name in names):
            bad.append(str(file.relative_to(ROOT)))
    assert bad == []


def test_no_two_test_files_have_one_name():
    """Without `__init__.py` in their folders pytest takes the second for the first."""
    names = [file.name for file in sorted(TESTS.rglob("*.py"))]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_no_test_imports_another_test():
    files = sorted(TESTS.rglob("*.py"))
    bad = [
        f"{line_of(file, node)}: {target}"
        for file in files
        for node in ast.walk(parsed(file))
        for target in targets(node, "")
        if target.startswith("test_")
    ]
    assert bad == [] and len(files) > 80
