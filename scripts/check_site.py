"""Checks a built site: every link inside it leads to a page and an anchor, and no page loads anything from outside.

    python scripts/check_site.py site

Prints what is wrong and ends with status 1, or says how many links were followed.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
LOADED_LINKS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "manifest"}
CSS_OUTSIDE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")\s]+)")


class Page(HTMLParser):
    """The anchors, links and loaded files of one page."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if LOADED.get(tag) in values:
            self.loads.append(values[LOADED[tag]])
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").split()):
            self.loads.append(values["href"])


def check(site: Path) -> tuple[list[str], int]:
    """What is wrong with the site, and how many links and files were looked at."""
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    wrong, seen = [], 0
    for file, page in pages.items():
        where = file.relative_to(site)
        base = site if file.name == "404.html" else file.parent  # served for any address, so its links are absolute
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loads and parts.scheme != "data":
                    wrong.append(f"{where} loads {target}")
                continue
            seen += 1
            path = unquote(parts.path)
            to = file if not path else (site / path.lstrip("/") if path.startswith("/") else base / path).resolve()
            if to.is_dir():
                to = to / "index.html"
            if not to.is_file():
                wrong.append(f"{where} leads to {target}, which is not there")
            elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].anchors:
                wrong.append(f"{where} leads to {target}, and there is no such place on that page")
    for file in sorted(site.rglob("*.css")):
        wrong += [f"{file.relative_to(site)} loads {url}" for url in CSS_OUTSIDE.findall(file.read_text())]
    return wrong, seen


def main() -> int:
    site = Path(sys.argv[1]).resolve()
    if not (site / "index.html").is_file():
        print(f"{site} is no built site; run `make docs` first.", file=sys.stderr)
        return 2
    wrong, seen = check(site)
    print("\n".join(wrong) or f"{seen:,} links and files checked; open {site / 'index.html'}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
