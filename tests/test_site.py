"""Builds the documentation's site and follows every link, image and anchor of it.

Needs what scripts/site.sh needs: mdBook's package, and Graphviz.
"""

from __future__ import annotations

import functools
import html.parser
import os
import pathlib
import re
import subprocess
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REPOSITORY = "https://git.test/someone/wsgw"


class Page(html.parser.HTMLParser):
    """The links, images and anchors of a page, and the text of its main part."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self.within = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self.within += (tag == "main") or (self.within > 0 and tag in ("pre", "code"))
        if "id" in named:
            self.anchors.add(named["id"] or "")
        for name in ("href", "src"):
            if named.get(name):
                self.links.append(named[name] or "")

    def handle_endtag(self, tag: str) -> None:
        self.within -= (tag == "main") or (self.within > 1 and tag in ("pre", "code"))

    def handle_data(self, data: str) -> None:
        # What stands in a block of code may look like anything.
        if self.within == 1:
            self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("site")
    env = os.environ | {"WSGW_SITE_DIR": str(folder), "WSGW_REPOSITORY": REPOSITORY}
    done = subprocess.run(
        [str(ROOT / "scripts/site.sh")], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0 and not re.search(r"\b(WARN|ERROR)\b", done.stdout), done.stdout
    return folder


@functools.cache
def page(path: pathlib.Path) -> Page:
    return Page(path)


def pages(site: pathlib.Path) -> list[pathlib.Path]:
    """Every page of the book; the index of the search and the page of missing addresses are mdBook's own."""
    return [path for path in sorted(site.rglob("*.html")) if path.name not in ("404.html", "toc.html")]


def test_the_summary_has_every_page() -> None:
    listed = re.findall(r"\]\(([^)]+)\)", (DOCS / "SUMMARY.md").read_text())
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"SUMMARY.md"}
    assert sorted(listed) == sorted(there)


def test_every_page_is_built(site: pathlib.Path) -> None:
    wanted = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    wanted -= {pathlib.Path("SUMMARY.html"), pathlib.Path("README.html")}
    assert wanted | {pathlib.Path("index.html")} <= {path.relative_to(site) for path in pages(site)}


def test_links_images_and_anchors_lead_somewhere(site: pathlib.Path) -> None:
    checked, broken = 0, []
    for path in pages(site):
        for link in page(path).links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                if link.startswith(f"{REPOSITORY}/") and not in_repository(link):
                    broken.append(f"{path.relative_to(site)}: {link}")
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = urllib.parse.unquote(parts.fragment)
            lost = anchor and target.suffix == ".html" and anchor not in page(target).anchors if target.is_file() else True
            if lost:
                broken.append(f"{path.relative_to(site)}: {link}")
            checked += 1
    assert not broken, "\n".join(broken)
    assert checked >= 500


def in_repository(link: str) -> bool:
    """Whether a link to the repository leads to a file or folder that there is."""
    match = re.match(r"/(blob|tree|edit)/main/([^#]+)", link.removeprefix(REPOSITORY))
    if not match:
        return False
    target = ROOT / match[2]
    return target.is_dir() if match[1] == "tree" else target.is_file()


def test_every_page_can_be_edited(site: pathlib.Path) -> None:
    for path in pages(site):
        edits = [link for link in page(path).links if link.startswith(f"{REPOSITORY}/edit/main/docs/")]
        assert edits, path


def test_no_mark_up_is_left_in_the_text(site: pathlib.Path) -> None:
    for path in pages(site):
        text = page(path).text
        for left in ("](", "[^", "<!--", "{{", "| --", "|---"):
            assert left not in text, f"{path.relative_to(site)}: {left} in …{text[max(0, text.find(left) - 80):][:160]}"


def test_flowcharts_are_drawn(site: pathlib.Path) -> None:
    charts = sum(path.read_text().count("```mermaid\n") for path in DOCS.rglob("*.md"))
    built = "".join(path.read_text() for path in pages(site))
    assert "language-mermaid" not in built
    assert built.count('<div class="flowchart">') == charts > 0
