"""The documentation: links lead somewhere, navigation and reference are complete, docstrings name what is there."""

import ast
import inspect
import json
import re
from importlib import import_module

import yaml
from pages import DOCS, PAGES, ROOT, missing_tests

from pst_rl import AGGREGATORS, REWARDS
from pst_rl.methods import METHODS

PACKAGES = "aggregation rewards answers measure coherence.search discussion report tiny"
SECTION = re.compile(r"^(?:Args|Parameters|Attributes):\n((?:[ \t]+.*\n|\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \(.*\))?:", re.MULTILINE)


OTHERS_TESTS = {"tests/test_full_pipeline.py"}  # of another project, in the comparison


def test_relative_links_exist():
    links = [
        (name, link)
        for name, page in PAGES.items()
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text())
    ]
    assert [f"{name}: {link}" for name, link in links if not (PAGES[name].parent / link).exists()] == []
    assert len(links) > 200


def test_tests_that_a_page_names_are_there():
    named = {
        pair for page in PAGES.values() for pair in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text())
    }
    assert missing_tests(pair for pair in sorted(named) if pair[0] not in OTHERS_TESTS) == []
    assert len(named) > 40


def named_in(navigation):
    """The pages of mkdocs.yml's navigation."""
    if isinstance(navigation, str):
        return [navigation]
    parts = navigation.values() if isinstance(navigation, dict) else navigation
    return [page for part in parts for page in named_in(part)]


def test_every_page_is_in_the_navigation():
    navigation = named_in(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")]
    assert sorted(page for page in navigation if not page.startswith("source/")) == sorted(pages)


def test_every_scheme_is_in_the_list_of_schemes():
    listed = (DOCS / "schemes" / "README.md").read_text()
    names = [f'aggregator="{name}"' for name in AGGREGATORS] + [f'rewards=["{name}"]' for name in REWARDS]
    elsewhere = {'rewards=["matches_aggregate"]', 'aggregator="supervised_gold"'}  # of every vote; as a reward
    assert [name for name in names if name not in listed and name not in elsewhere] == []


def test_every_method_is_on_the_page_that_helps_to_choose_with_its_options():
    rows = re.findall(r"^\| `([\w-]+)` \| (`.*?) \| ", (DOCS / "which-scheme.md").read_text(), re.MULTILINE)
    spelt = {
        name: [f"{key}={json.dumps(value)}" for key, value in options.items()] for name, options in METHODS.items()
    }
    assert {name: re.findall("`(.+?)`", options) for name, options in rows} == spelt


def public_modules():
    """Modules that define something; a package whose `__init__` only gathers names is covered by its modules."""
    for file in (ROOT / "pst_rl").rglob("*.py"):
        inside = file.relative_to(ROOT).with_suffix("").parts
        if not (file.parent / "__init__.py").is_file() or any(part.startswith("_") for part in inside[:-1]):
            continue
        if inside[-1] == "__init__":
            defined = [type(node) for node in ast.parse(file.read_text()).body]
            if len(inside) > 2 and defined.count(ast.AnnAssign) + defined.count(ast.FunctionDef):
                yield ".".join(inside[:-1])
        elif not inside[-1].startswith("_"):
            yield ".".join(inside)


def test_every_public_module_is_on_one_page_of_the_reference():
    named = [
        name for page in (DOCS / "api").glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    ]
    gathered = {"pst_rl.aggregation", "pst_rl.rewards"}  # the dictionaries of names
    assert sorted(set(named) - gathered) == sorted(set(public_modules()) - gathered)
    assert len(named) == len(set(named))


def public_names():
    for module in ("pst_rl", *(f"pst_rl.{package}" for package in PACKAGES.split())):
        for name in import_module(module).__all__:
            value = getattr(import_module(module), name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module}.{name}", value


def documented(value):
    """The names under Args, Parameters or Attributes of a docstring."""
    sections = SECTION.findall(inspect.getdoc(value) + "\n")
    return {name.strip("* ") for section in sections for entry in ENTRY.findall(section) for name in entry.split(",")}


def test_every_public_name_has_a_docstring():
    assert [name for name, value in public_names() if not (value.__doc__ or "").strip()] == []


def test_documented_arguments_are_those_of_the_signature():
    bad = []
    for name, value in public_names():
        said, own = documented(value), set(inspect.signature(value).parameters)
        if inspect.isclass(value):
            own -= {field for base in value.__mro__[1:] for field in getattr(base, "__dataclass_fields__", {})}
            allowed = own | set(dir(value)) | set(getattr(value, "__dataclass_fields__", {}))
        else:
            allowed = own
        bad += [f"{name} documents {argument}, which it does not take" for argument in said - allowed]
        bad += [f"{name} documents some arguments, but not {argument}" for argument in own - said if said]
    assert bad == []
