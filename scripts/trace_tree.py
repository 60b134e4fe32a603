#!/usr/bin/env python3
"""Shows a trace as a tree, and checks that spans stand below each other as they should.

    trace_tree.py --url http://localhost:4318 TRACE_ID [--expect NAME,NAME,…] [--seconds 10]

The spans come from tests/otlp/collector.py, from Jaeger (http://localhost:16686) or from Tempo (http://localhost:3200),
whichever answers at the URL.

--expect names the spans of one line through the tree, the first below --root (a span id) or at the top; each must be the
child of the one before it. A name may be a pattern such as `POST *`, and several patterns that will do are divided by
`|`. What is missing is waited for. Needs nothing but Python.

Exit status: 0 if the trace is there and as expected, 1 if not, 2 if the arguments are wrong.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import fnmatch
import json
import re
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


class Unreadable(Exception):
    """The store cannot be asked; the text says why."""


@dataclass(frozen=True)
class Span:
    """What the tree shows of a span."""

    span_id: str
    parent: str
    name: str
    service: str
    kind: str
    start: int
    end: int
    failed: bool


def fetch(url: str, trace_id: str) -> list[Span]:
    """Asks whichever store is at the URL for the spans of a trace. Raises Unreadable."""
    url = url.rstrip("/")
    answer = get(f"{url}/spans?trace_id={trace_id}")
    if isinstance(answer, list):
        return [of_collector(span) for span in answer]
    answer = get(f"{url}/api/traces/{trace_id}")
    if not isinstance(answer, dict):
        # Both answer 404 for a trace that they do not have (yet).
        return []
    if "data" in answer:
        return [span for trace in answer["data"] or [] for span in of_jaeger(trace)]
    trace = answer.get("trace", answer)
    return list(of_otlp(trace.get("resourceSpans") or trace.get("batches") or []))


def get(url: str):
    """The JSON at a URL; None where there is none. Raises Unreadable."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except ValueError:
        return None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Unreadable(f"nothing answers at {url.split('?')[0]}: {reason}") from None


def of_collector(span: dict) -> Span:
    """A span as tests/otlp/collector.py has it."""
    return Span(
        span["span_id"], span["parent_span_id"], span["name"], span["service"], span["kind"],
        span["start"], span["end"], span["status"]["code"] == "error",
    )


def of_jaeger(trace: dict):
    """Yields the spans of a trace as Jaeger's query service has it."""
    for span in trace["spans"]:
        tags = {tag["key"]: tag["value"] for tag in span.get("tags", [])}
        parents = [
            reference["spanID"] for reference in span.get("references", [])
            if reference["refType"] == "CHILD_OF" and reference["traceID"] == span["traceID"]
        ]
        start = span["startTime"] * 1000
        yield Span(
            span["spanID"].rjust(16, "0"), parents[0].rjust(16, "0") if parents else "", span["operationName"],
            trace["processes"][span["processID"]]["serviceName"], str(tags.get("span.kind", "internal")),
            start, start + span["duration"] * 1000, tags.get("otel.status_code") == "ERROR" or tags.get("error") is True,
        )


def of_otlp(resources: list[dict]):
    """Yields the spans of a trace as Tempo has it: OTLP in JSON, with ids in hex or base64."""
    for resource in resources:
        service = next(
            (
                attribute["value"].get("stringValue", "")
                for attribute in resource.get("resource", {}).get("attributes", []) if attribute["key"] == "service.name"
            ),
            "",
        )
        for scope in resource.get("scopeSpans") or resource.get("instrumentationLibrarySpans") or []:
            for span in scope.get("spans", []):
                kind, status = span.get("kind", 1), span.get("status", {}).get("code", 0)
                yield Span(
                    hex_id(span["spanId"]), hex_id(span.get("parentSpanId", "")), span["name"], service,
                    KINDS.get(kind, "internal") if isinstance(kind, int) else kind.removeprefix("SPAN_KIND_").lower(),
                    int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]), status in (2, "STATUS_CODE_ERROR"),
                )


def hex_id(text: str) -> str:
    """A span's id in hex, whichever way it is written."""
    if len(text) in (0, 16):
        return text.lower()
    try:
        return base64.b64decode(text, validate=True).hex()
    except binascii.Error:
        return text


def draw(spans: list[Span], root: str = "") -> list[str]:
    """The tree in lines: below the root, whatever has no parent here, each with what is below it."""
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        children.setdefault(span.parent if span.parent in known else "", []).append(span)
    lines = []
    stack = [(span, 0) for span in reversed(children.get("", []))]
    while stack:
        span, depth = stack.pop()
        took = (span.end - span.start) / 1e6
        failed = ", failed" if span.failed else ""
        # A parent that is missing is somebody else's, or was not exported.
        lost = f"  (parent {span.parent} is not here)" if depth == 0 and span.parent not in ("", root) else ""
        lines.append(f"{'   ' * depth}{'└─ ' if depth else ''}{span.service}: {span.name}  [{span.kind}, {took:.1f} ms{failed}]{lost}")
        stack.extend((child, depth + 1) for child in reversed(children.get(span.span_id, [])))
    return lines


def matches(span: Span, pattern: str) -> bool:
    """Whether a span has the name that is expected."""
    return any(fnmatch.fnmatchcase(span.name, name) for name in pattern.split("|"))


def follow(spans: list[Span], expected: list[str], root: str = "") -> list[Span]:
    """The longest line of spans, each below the one before, that begins as expected."""
    best: list[Span] = []
    lines = [[span] for span in spans if expected and span.parent == root and matches(span, expected[0])]
    while lines:
        line = lines.pop()
        if len(line) > len(best):
            best = line
        if len(line) < len(expected):
            lines.extend([*line, span] for span in spans if span.parent == line[-1].span_id and matches(span, expected[len(line)]))
    return best


def report(spans: list[Span], expected: list[str], root: str) -> tuple[list[str], bool]:
    """A line for each span that is expected, and whether all are there."""
    found = follow(spans, expected, root)
    lines = []
    for at, pattern in enumerate(expected):
        parent = "the client" if at == 0 and root else "no parent" if at == 0 else f"{found[at - 1].name}" if at <= len(found) else expected[at - 1]
        below = "has no parent" if parent == "no parent" else f"is below {parent}"
        if at < len(found):
            lines.append(f"ok      {found[at].name} of {found[at].service} {below}")
        elif at > len(found):
            lines.append(f"FAILED  {pattern}: unknown, since {expected[len(found)]} is missing before it")
        else:
            others = [span for span in spans if matches(span, pattern)]
            if not others:
                lines.append(f"FAILED  {pattern} is missing: nobody exported it")
            else:
                where = next((span.name for span in spans if span.span_id == others[0].parent), others[0].parent or "nothing")
                lines.append(f"FAILED  {pattern} of {others[0].service} is below {where}, not {parent}")
    return lines, len(found) == len(expected)


def main() -> int:
    """Waits for the trace, and shows it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace_id")
    parser.add_argument("--url", default="http://localhost:4318")
    parser.add_argument("--expect", default="", metavar="NAME,NAME,…")
    parser.add_argument("--root", default="", metavar="SPAN_ID")
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    if not re.fullmatch("[0-9a-f]{32}", arguments.trace_id):
        parser.error("a trace id has 32 hex digits")
    expected = [name for name in arguments.expect.split(",") if name]
    end = time.monotonic() + arguments.seconds
    while True:
        try:
            spans = fetch(arguments.url, arguments.trace_id)
        except Unreadable as error:
            print(f"trace_tree.py: {error}", file=sys.stderr)
            return 1
        is_complete = len(follow(spans, expected, arguments.root)) == len(expected)
        if (spans and is_complete) or time.monotonic() >= end:
            break
        time.sleep(0.2)
    if not spans:
        print(f"FAILED  there is no span of trace {arguments.trace_id}")
        return 1
    for line in draw(spans, arguments.root):
        print(line)
    lines, is_right = report(spans, expected, arguments.root)
    print(*lines, sep="\n")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
