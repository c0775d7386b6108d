"""MkDocs hooks: a file outside docs/ that a page links to becomes a page of its own.

Links such as `../examples/custom_reward.py` then work both in the repository and on the site: a script is shown as
code, a notebook with its outputs, Markdown as it is.
"""

import re
from base64 import b64encode
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".cff": "yaml", "": "text"}


def linked(markdown: str, folder: Path) -> dict[str, Path]:
    """The relative links of a text in `folder`, and the files of the repository that they lead to."""
    found = {link: (folder / link).resolve() for link in LINK.findall(markdown)}
    return {link: file for link, file in found.items() if file.is_file() and file.is_relative_to(ROOT)}


def uri(file: Path) -> str:
    """Where a file of the repository is on the site."""
    return str(file.relative_to(DOCS)) if file.is_relative_to(DOCS) else f"source/{file.relative_to(ROOT)}.md"


def relinked(markdown: str, file: Path) -> str:
    """The text of a file with its links as they must be on the site."""
    up, links = "../" * uri(file).count("/"), linked(markdown, file.parent)
    return LINK.sub(lambda found: up + uri(links[found[1]]) if found[1] in links else found[1], markdown)


def as_page(file: Path) -> str:
    """The Markdown of a file outside docs/."""
    if file.suffix == ".ipynb":
        from nbconvert import MarkdownExporter

        text, resources = MarkdownExporter().from_filename(file)
        for name, picture in resources["outputs"].items():
            text = text.replace(f"({name})", f"(data:image/png;base64,{b64encode(picture).decode()})")
        return text
    if file.suffix == ".md":
        return file.read_text()
    return f"# {file.name}\n\n`{file.relative_to(ROOT)}`\n\n````{LANGUAGES[file.suffix]}\n{file.read_text()}\n````\n"


def on_files(files, config):
    pages = [Path(page.abs_src_path) for page in files.documentation_pages() if page.abs_src_path]
    texts = {file: file.read_text() for file in pages}
    queue = list(texts)
    while queue:
        file = queue.pop()
        for other in linked(texts[file], file.parent).values():
            if other not in texts and not other.is_relative_to(DOCS):
                texts[other] = as_page(other)
                queue.append(other)
                files.append(File.generated(config, uri(other), content=relinked(texts[other], other)))
    return files


def on_page_markdown(markdown, page, config, files):
    file = page.file.abs_src_path  # none for the pages made above
    return relinked(markdown, Path(file)) if file else markdown
