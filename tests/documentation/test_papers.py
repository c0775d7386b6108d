"""The index of papers: every arXiv number that the code or a page cites is in it, and nothing else."""

import re

from pages import DOCS, ROOT

PAGE = DOCS / "papers.md"
NUMBER = re.compile(r"\b\d{4}\.\d{5}\b")
ROWS = {
    match[1]: set(re.findall(r"`(pst_rl/[\w/]+\.py)`", line))
    for line in PAGE.read_text().splitlines()
    if (match := re.match(r"\| \[(\d{4}\.\d{5})\]", line))
}


def citing(folder, suffix):
    files = [path for path in (ROOT / folder).rglob(f"*{suffix}") if path != PAGE]
    return {path.relative_to(ROOT).as_posix(): set(NUMBER.findall(path.read_text())) for path in files}


CODE = citing("pst_rl", ".py")


def test_every_number_in_code_and_docs_is_in_the_index_and_no_other():
    cited = set().union(*CODE.values(), *citing("docs", ".md").values())
    assert cited == set(NUMBER.findall(PAGE.read_text()))


def test_the_modules_of_a_paper_are_there_and_cite_it():
    assert [number for number, files in ROWS.items() if not files] == [] and len(ROWS) > 20
    rows = [(number, file) for number, files in ROWS.items() for file in files]
    assert [f"{file}: {number}" for number, file in rows if number not in CODE.get(file, ())] == []
