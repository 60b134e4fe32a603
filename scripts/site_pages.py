#!/usr/bin/env python3
"""A preprocessor of mdBook: makes pages that are read in the repository right for the site.

A link that leaves docs/, or leads to a folder, becomes one to the repository, whose address is `url` of
[preprocessor.repository] in book.toml. Comments for tests are left out. Flowcharts in Mermaid's language, which code
hosts draw, are drawn here by Graphviz, in the colours of the page.

mdBook runs it as `site_pages.py` with the book as JSON on standard input, and reads the changed book.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def address(link: str, page: pathlib.Path, repository: str, branch: str) -> str:
    """Where a link of a page leads on the site."""
    path, mark, anchor = link.partition("#")
    if re.match(r"[a-z]+:", link) or not path:
        return link
    target = (page.parent / path).resolve()
    if target.is_relative_to(DOCS) and target.is_file():
        return link
    kind = "tree" if target.is_dir() else "blob"
    return f"{repository}/{kind}/{branch}/{target.relative_to(ROOT)}{mark}{anchor}"


# A node is a word with its text in brackets that stand for its shape; an arrow may have a text, too.
NODE = r"""(\w+)(?:(\(\[|\{\{|\[)"([^"]*)"(?:\]\)|\}\}|\]))?"""
ARROW = re.compile(rf"""\s*{NODE}\s*--(?:\s*"?([^">]*?)"?\s*--)?>\s*{NODE}\s*""")
SHAPES = {"([": "shape=box style=rounded", "{{": "shape=hexagon", "[": "shape=box"}


def drawn(chart: str) -> str:
    """A flowchart of Mermaid as an SVG image that stands in the page."""
    def quoted(label: str) -> str:
        return json.dumps(label.replace("<br>", "\n"), ensure_ascii=False)

    _, *lines = [line for line in chart.splitlines() if line.strip()]
    dot = ["digraph {", "bgcolor=transparent nodesep=0.1 ranksep=0.35"]
    dot += ['node [fontname="sans-serif" fontsize=12]', 'edge [fontname="sans-serif" fontsize=11]']
    for line in lines:
        arrow = ARROW.fullmatch(line)
        if not arrow:
            raise ValueError(f"cannot draw {line!r}")
        left, left_shape, left_text, label, right, right_shape, right_text = arrow.groups()
        for name, shape, text in ((left, left_shape, left_text), (right, right_shape, right_text)):
            if shape:
                dot.append(f"{name} [label={quoted(text)} {SHAPES[shape]}]")
        dot.append(f"{left} -> {right} [label={quoted(' ' + label + ' ' if label else '')}]")
    done = subprocess.run(["dot", "-Tsvg"], input="\n".join([*dot, "}"]), text=True, check=True, stdout=subprocess.PIPE)
    picture = done.stdout[done.stdout.index("<svg"):]
    # Black is what Graphviz draws with unless told otherwise, and tells of text only by leaving its colour out.
    picture = picture.replace('"black"', '"currentColor"').replace("<text ", '<text fill="currentColor" ')
    picture = picture.replace("<svg ", '<svg role="img" ', 1)
    # An empty line would end what Markdown takes for HTML.
    picture = re.sub(r"\n\s*(?=\n)", "", re.sub(r"<!--.*?-->", "", picture, flags=re.S)).strip()
    return f"<div class=\"flowchart\">\n{picture}\n</div>\n"


def rewrite(text: str, page: pathlib.Path, repository: str, branch: str) -> str:
    """The page's text for the site; what stands in blocks of code stays as it is."""
    def lead(match: re.Match) -> str:
        return match[1] + address(match[2], page, repository, branch) + match[3]

    text = re.sub(r"^```mermaid\n(.*?)^```$", lambda match: drawn(match[1]), text, flags=re.M | re.S)
    parts = re.split(r"(^(`{3,}).*?^\2$)", text, flags=re.M | re.S)
    for at in range(0, len(parts), 3):
        part = re.sub(r"^<!-- test: .* -->\n", "", parts[at], flags=re.M)
        part = re.sub(r"(\]\()([^)\s]+)(\))", lead, part)
        parts[at] = re.sub(r'((?:src|href)=")([^"]+)(")', lead, part)
    # The third of each three is the fence alone.
    return "".join(part for at, part in enumerate(parts) if at % 3 != 2)


def walk(items: list, repository: str, branch: str) -> None:
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if not chapter:
            continue
        if chapter.get("source_path"):
            page = DOCS / chapter["source_path"]
            chapter["content"] = rewrite(chapter["content"], page, repository, branch)
        walk(chapter["sub_items"], repository, branch)


def main() -> int:
    if sys.argv[1:2] == ["supports"]:
        return 0
    context, book = json.load(sys.stdin)
    settings = context["config"]["preprocessor"]["repository"]
    walk(book["items"], settings["url"].rstrip("/"), settings["branch"])
    json.dump(book, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
