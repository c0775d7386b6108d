"""The comparison with other projects: every row of its table has its evidence, and our own evidence is there."""

import re

from pages import DOCS, ROOT

HEAD, TABLE = (DOCS / "comparison.md").read_text().split("## At a glance\n")
PAGE = (DOCS / "comparison-evidence.md").read_text()
LINK = re.compile(r"\[(.+)\]\(comparison-evidence\.md#.+\)")
CELLS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line.startswith("|")]


def test_every_row_of_the_table_has_a_section_of_evidence():
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert [LINK.fullmatch(row[0])[1] for row in CELLS[2:]] == sections


def test_every_project_has_a_cell_in_every_row_and_a_source():
    projects = CELLS[0][1:]
    assert {len(row) for row in CELLS} == {len(projects) + 1}
    assert all(cell for row in CELLS[2:] for cell in row)
    assert re.findall(r"^\| ([\w-]+) \|", HEAD, re.MULTILINE)[2:] == projects[1:]


def test_every_project_is_mentioned_in_every_section():
    bad = {
        section.splitlines()[0]: others
        for section in PAGE.split("\n## ")[1:]
        if (others := [name for name in CELLS[0][1:] if not re.search(rf"\b{name}\b", section)])
        and not re.search(r"the others|any of the others|in any", section, re.IGNORECASE)
    }
    assert bad == {}


def test_our_files_of_tests_are_counted():
    assert int(re.search(r"pst_rl \| (\d+)\+ files", PAGE)[1]) <= len(list((ROOT / "tests").rglob("test_*.py")))
