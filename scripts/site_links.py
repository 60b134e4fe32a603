#!/usr/bin/env python3
"""A preprocessor of mdBook: makes pages that are read in the repository right for the site.

A link that leaves docs/, or leads to a folder, becomes one to the repository, whose address is `url` of
[preprocessor.repository] in book.toml. Comments for tests are left out.

mdBook runs it as `site_links.py` with the book as JSON on standard input, and reads the changed book.
"""

from __future__ import annotations

import json
import pathlib
import re
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


def rewrite(text: str, page: pathlib.Path, repository: str, branch: str) -> str:
    """The page's text for the site; what stands in blocks of code stays as it is."""
    def lead(match: re.Match) -> str:
        return match[1] + address(match[2], page, repository, branch) + match[3]

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
