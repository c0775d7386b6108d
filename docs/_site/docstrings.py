"""Griffe extension: our docstrings in the form that mkdocstrings reads.

Four habits are translated: [`Name`] links to the name's entry, `a, b: text` documents two parameters with one text,
`> Parameters that control X` opens a group of parameters, and `>>>` begins a block of code.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

import griffe

REFERENCE = re.compile(r"\[`(~?[\w.]+)`\](?!\[|\()")
SECTION = re.compile(r"^(\s*)(Args|Parameters|Attributes):\s*$")
GROUP = re.compile(r"^\s*> Parameters that (.+)$")
TYPED = re.compile(r"^(\s*\w+) \(`.*\):$")


class Docstrings(griffe.Extension):
    """Rewrites every docstring of the package once all its names are known."""

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        objects = list(walk(pkg))
        paths = defaultdict(list)
        for item in objects:
            paths[item.name].append(item.path)
        known = {item.path for item in objects}
        for item in objects:
            if item.docstring:
                text = "\n".join(split_names(grouped(fenced(item.docstring.value.splitlines()))))
                item.docstring.value = REFERENCE.sub(lambda found: link(found[1], item, known, paths), text)  # noqa: B023


def walk(item: griffe.Object) -> Iterator[griffe.Object]:
    yield item
    for member in item.members.values():
        if not member.is_alias:
            yield from walk(member)


def link(name: str, item: griffe.Object, known: set[str], paths: dict[str, list[str]]) -> str:
    """A reference to a name of ours: in the same class or module first, else the only one of this name."""
    bare = name.lstrip("~")
    short = bare.rsplit(".", 1)[-1]
    scopes = [bare, f"{item.path}.{bare}", *(f"{scope}.{bare}" for scope in parents(item))]
    found = next((path for path in scopes if path in known), None)
    if found is None:
        same = [path for path in paths[short] if not path.startswith("pst_rl.") or bare == short or path == bare]
        found = same[0] if len(same) == 1 or (same and bare.startswith("pst_rl.")) else None
    return f"[`{short}`][{found}]" if found else f"`{short}`"


def parents(item: griffe.Object) -> Iterator[str]:
    path = item.path
    while "." in path:
        path = path.rsplit(".", 1)[0]
        yield path


def fenced(lines: list[str]) -> Iterator[str]:
    """Examples with a prompt, from the first `>>>` to the next empty line, become blocks of code."""
    inside = None
    for line in [*lines, ""]:
        if inside is None and line.lstrip().startswith(">>> "):
            inside = line[: len(line) - len(line.lstrip())]
            yield from ("", f"{inside}```pycon")
        elif inside is not None and not line.strip():
            yield f"{inside}```"
            inside = None
        yield line


def grouped(lines: Iterator[str]) -> Iterator[str]:
    """`> Parameters that control X` becomes a section of its own, and types in brackets go: the signature has them."""
    inside, lines = None, list(lines)
    for line in lines:
        if opened := SECTION.match(line):
            inside, empty = opened[1], True
        if inside is not None and (group := GROUP.match(line)):
            if not empty:
                yield ""
            yield f"{inside}Parameters: Parameters that {group[1]}"
            continue
        if opened and any(GROUP.match(other) for other in lines):
            continue  # its groups follow
        empty = False
        typed = TYPED.match(line) if inside is not None else None
        yield f"{typed[1]}:" if typed else line


def split_names(lines: Iterator[str]) -> Iterator[str]:
    """`a, b: text` in a section becomes `a: text` and `b: text`."""
    section, names, entry = None, [], []

    def flush() -> Iterator[str]:
        for name in names:
            yield entry[0].replace(", ".join(names), name, 1)
            yield from entry[1:]

    for line in lines:
        if re.match(r"^\s*(Args|Parameters|Attributes):", line):
            section = len(line) - len(line.lstrip())
        elif section is not None and line.strip() and len(line) - len(line.lstrip()) <= section:
            section = None
        several = re.match(r"^(\s+)(\*{0,2}\w+(?:, \*{0,2}\w+)+):", line)
        starts = section is not None and bool(re.match(rf"^\s{{{section + 4}}}\S", line))
        if names and (section is None or starts or not line.strip()):
            yield from flush()
            names, entry = [], []
        if section is not None and starts and several:
            names, entry = several[2].split(", "), [line]
        elif names:
            entry.append(line)
        else:
            yield line
    yield from flush()
