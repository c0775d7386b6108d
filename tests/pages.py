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
    """Those of the (file, function) pairs that are not there; an empty function stands for the whole file."""

    def there(file, name):
        path = ROOT / file
        return path.is_file() and name in {"", *(getattr(n, "name", "") for n in ast.parse(path.read_text()).body)}

    return [f"{file}::{name}" for file, name in named if not there(file, name)]
