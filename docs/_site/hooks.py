"""MkDocs hooks: a file outside docs/ that a page links to becomes a page of its own.

Links such as `../examples/custom_reward.py` then work both in the repository and on the site: a script is shown as
code, a notebook with its outputs.
"""

import re
from base64 import b64encode
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()((?:\.\./)+[\w./-]+?)(?=(?:#[^)]*)?\))")
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".txt": "text", ".cff": "yaml", "": "make"}


def outside(markdown: str, folder: Path) -> dict[str, Path]:
    """The links of a page to files of the repository that are not under docs/, and these files."""
    found = {link: (folder / link).resolve() for link in LINK.findall(markdown)}
    return {link: file for link, file in found.items() if file.is_file() and not file.is_relative_to(ROOT / "docs")}


def page_name(file: Path) -> str:
    return f"source/{file.relative_to(ROOT)}.md"


def as_page(file: Path) -> str:
    """The page of a file outside docs/; its own links into docs/ lead there."""
    up = "../" * page_name(file).count("/")
    if file.suffix == ".ipynb":
        from nbconvert import MarkdownExporter

        text, resources = MarkdownExporter().from_filename(file)
        for name, picture in resources["outputs"].items():
            text = text.replace(f"({name})", f"(data:image/png;base64,{b64encode(picture).decode()})")
        return text.replace("](../docs/", f"]({up}")
    name = file.relative_to(ROOT)
    return f"# {file.name}\n\n`{name}`\n\n````{LANGUAGES[file.suffix]}\n{file.read_text()}\n````\n"


def on_files(files, config):
    for page in list(files.documentation_pages()):
        if page.inclusion.is_included() and page.abs_src_path:
            for file in outside(Path(page.abs_src_path).read_text(), Path(page.abs_src_path).parent).values():
                if files.get_file_from_path(page_name(file)) is None:
                    files.append(File.generated(config, page_name(file), content=as_page(file)))
    return files


def on_page_markdown(markdown, page, config, files):
    if not page.file.abs_src_path:
        return markdown
    up = "../" * page.file.src_uri.count("/")
    for link, file in outside(markdown, Path(page.file.abs_src_path).parent).items():
        markdown = markdown.replace(f"]({link}", f"]({up}{page_name(file)}")
    return markdown
