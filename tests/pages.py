"""The pages of the documentation, their code, and what they name."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {str(page.relative_to(ROOT)): page for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]}


def blocks(page, language):
    """The blocks of code in a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def missing_tests(named):
    """Those of the (file, function) pairs that are no test of this repository."""
    return [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file()
        or name not in {node.name for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")}
    ]
