"""Runs every command of the documentation and checks every block, link and table.

Each page is read top to bottom in a fresh copy of the repository, like a reader who follows it: its commands run
in one shell session, what it starts in the background keeps running to the page's end. Ports 8000 and 8001
(gateways), 8080 (the backend), 6379 (Redis), 5672 (RabbitMQ), 4318 and 4317 (a collector) become free ones; in expected output
they, ids, times and the like stand for any.

A comment right above a block says what else it is:

  <!-- test: background NAME until "TEXT" -->  start it, and wait until its output has TEXT
  <!-- test: shows NAME -->                    its lines are in the output of background NAME, in this order;
                                               a json block: one line of the output is this object
  <!-- test: file PATH -->                     write it to PATH in the copy of the repository
  <!-- test: exit N -->                        the command exits with N
  <!-- test: eventually -->                    its commands are repeated until each shows what is expected
  <!-- test: nginx -->                         a real nginx with it on port 8080 passes WebSockets and nothing else
  <!-- test: skip: REASON -->                  cannot run in a test; listed in SKIPPED below
  <!-- test: stop NAME -->                     (above no block) presses Ctrl-C, and expects a clean exit

In a console block, lines after `$ ` are commands and the others their output, where a line `…` is any lines and
an `…` within a line any text.

Needs scripts/requirements.txt, tests/otlp/requirements.txt and jsonschema installed, and curl, openssl, nginx, Node, PHP,
Composer, Symfony and Redis. `WSGW_BIN` names another binary.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

import jsonschema
import pytest

from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benches/*.md")]
)
# Pages whose blocks are run; the others are only searched for links.
RUN = [page for page in PAGES if not page.startswith("benches/") and page != "CHANGELOG.md"]
LANGUAGES = {"sh", "console", "yaml", "json", "text", "rust", "php", "twig", "nginx", "ini", "js", "mermaid"}
GATEWAY_PORT, BACKEND_PORT = "8000", "8080"
# Those of a second gateway, Redis, RabbitMQ and an OTLP collector.
OTHER_PORTS = ["8001", "6379", "5672", "4318", "4317"]
WAIT_SECONDS = 20

# Every block that is not run, by page and reason: a new one must be argued here.
SKIPPED = {
    ("CONTRIBUTING.md", "compiles"): 4,
    ("CONTRIBUTING.md", "needs what the test command installs"): 1,
    ("README.md", "runs the tests"): 1,
    ("docs/admin.md", "needs another machine"): 1,
    ("README.md", "needs a Docker engine"): 2,
    ("docs/core.md", "needs a RabbitMQ"): 1,
    ("docs/deploy.md", "needs a cluster"): 1,
    ("docs/deploy.md", "needs a release"): 2,
    ("docs/deploy.md", "needs the package"): 1,
    ("docs/docker.md", "needs a Docker engine"): 4,
    ("docs/docker.md", "needs a server with a domain"): 1,
    ("docs/guide.md", "needs a Symfony application"): 1,
    ("docs/replay.md", "needs a gateway with an archive"): 3,
    ("docs/symfony.md", "run by symfony/tests/InstallTest.php"): 4,
    ("docs/performance.md", "takes an hour"): 1,
    ("docs/performance.md", "takes minutes, and a quiet machine"): 2,
    ("docs/operations.md", "a message to a client"): 1,
    ("docs/operations.md", "changes a running gateway"): 1,
    ("docs/operations.md", "part of a page"): 1,
    ("docs/operations.md", "a part of a Deployment"): 1,
    ("docs/operations/runbook.md", "needs a RabbitMQ"): 1,
    ("docs/operations/runbook.md", "needs systemd"): 1,
}

# What a check of the documented pipeline files needs set.
CHECK_ENV = {
    "JWT_PUBLIC_KEY_FILE": str(ROOT / "tests/keys/rsa.pub.pem"),
    "GATEWAY_API_KEY": "a-key-for-the-documentation",
    "SYMFONY_WEBHOOK_URL": "http://127.0.0.1:8080/webhook",
    "SYMFONY_WEBHOOK_SECRET": "a-secret-for-the-documentation",
    "REDIS_DSN": "redis://127.0.0.1:6379/0",
}


def binary() -> pathlib.Path:
    """The gateway: $WSGW_BIN, else the newer one of the release and the debug build."""
    if given := os.environ.get("WSGW_BIN"):
        return pathlib.Path(given).resolve()
    built = [path for path in (ROOT / f"target/{profile}/wsgw" for profile in ("release", "debug")) if path.exists()]
    if not built:
        pytest.exit("no gateway to test the documentation with: run `cargo build`", 2)
    return max(built, key=lambda path: path.stat().st_mtime)


@dataclasses.dataclass
class Block:
    """One fenced block, or a test comment above none."""

    page: str
    line: int
    language: str
    text: str
    directive: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The page's fenced blocks with the comments above them."""
    found, directive, open_block, fence = [], "", None, ""
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        if open_block:
            if line.strip() == fence:
                found.append(open_block)
                open_block = None
            else:
                open_block.text += line + "\n"
        elif match := re.match(r"\s*(`{3,})(\S*)\s*$", line):
            fence = match[1]
            open_block = Block(page, number, match[2], "", directive)
            directive = ""
        elif match := re.match(r"<!-- test: (.*) -->$", line):
            assert not directive, f"{page}:{number}: two test comments for one block"
            directive = match[1]
            if directive.startswith("stop "):
                found.append(Block(page, number, "", "", directive))
                directive = ""
        elif line.strip():
            assert not directive, f"{page}:{number}: a test comment must stand right above its block"
    assert open_block is None, f"{page}: a block is not closed"
    return found


NORMAL = [
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?"), "<time>"),
    (re.compile(r"(?<![\d.])1[0-9]{9}(?!\d)"), "<unix>"),
    (re.compile(r"(?<![\d.])1[0-9]{12}-\d+(?!\d)"), "<entry>"),
    (re.compile(r"\bey[\w-]+\.ey[\w-]+\.[\w-]+"), "<token>"),
    (re.compile(r"\b00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\b"), "<traceparent>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<trace>"),
    (re.compile(r'("config":"|config )[0-9a-f]{16}'), r"\1<hash>"),
]


def normal(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, stand_in in NORMAL:
        text = pattern.sub(stand_in, text)
    return text


def expectation(line: str) -> re.Pattern:
    """A line of expected output, with `…` for any text."""
    return re.compile(".*".join(re.escape(part) for part in normal(line.rstrip()).split("…")))


def same(expected: list[str], actual: list[str]) -> bool:
    """Whether output is what a page shows."""
    if not expected:
        return not actual
    if expected[0].strip() == "…":
        return any(same(expected[1:], actual[at:]) for at in range(len(actual) + 1))
    return bool(actual) and bool(expectation(expected[0]).fullmatch(actual[0])) and same(expected[1:], actual[1:])


class Reader:
    """Someone who follows a page: one shell session, and what it started in the background."""

    def __init__(self, home: pathlib.Path):
        self.home, self.repository = home, home / "wsgw"
        self.ports = {port: str(free_port()) for port in [GATEWAY_PORT, BACKEND_PORT, *OTHER_PORTS]}
        self.background: dict[str, tuple[subprocess.Popen, pathlib.Path]] = {}
        self.copy_repository()
        (home / "env").write_text("")
        (home / "cwd").write_text(str(self.repository))

    def copy_repository(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            source, target = ROOT / name, self.repository / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
                target.chmod(source.stat().st_mode)
        release = self.repository / "target/release"
        release.mkdir(parents=True)
        (release / "wsgw").symlink_to(binary())
        # What cargo would build is built already; everything else of cargo is skipped by the pages.
        tools = self.home / "bin"
        tools.mkdir()
        cargo = tools / "cargo"
        cargo.write_text(
            "#!/bin/sh\n"
            'case "$*" in\n'
            '  "build --release") exit 0 ;;\n'
            f'  "run --release -- dev") exec wsgw dev --listen 127.0.0.1:{self.ports[GATEWAY_PORT]} ;;\n'
            '  "run --release -- "*) shift 3; exec wsgw "$@" ;;\n'
            'esac\necho "cargo $*: not in a test" >&2; exit 1\n'
        )
        cargo.chmod(0o755)
        # There may be no Packagist: the libraries are those that Debian has installed.
        composer = tools / "composer"
        packages = self.home / "composer"
        composer.write_text(
            "#!/bin/sh\n"
            f"export COMPOSER_HOME={packages} COMPOSER_ALLOW_SUPERUSER=1\n"
            f"{self.repository}/symfony/tests/composer-repository.py {packages} >/dev/null\n"
            'exec /usr/bin/composer "$@"\n'
        )
        composer.chmod(0o755)
        (tools / "wsgw").symlink_to(binary())
        (tools / "python3").symlink_to(sys.executable)

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        gateway = self.ports[GATEWAY_PORT]
        return kept | {
            "PATH": f"{self.home / 'bin'}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "WSGW_LISTEN": f"127.0.0.1:{gateway}",
            "WS_URL": f"ws://127.0.0.1:{gateway}/ws",
            "PYTHONUNBUFFERED": "1",
        }

    def with_ports(self, text: str) -> str:
        return re.sub(rf"\b({'|'.join(self.ports)})\b", lambda match: self.ports[match[1]], text)

    def without_ports(self, text: str) -> str:
        for documented, actual in self.ports.items():
            text = re.sub(rf"\b{actual}\b", documented, text)
        return text

    def script(self, text: str, keep: bool) -> list[str]:
        """The command in the session's state; a foreground one leaves its own behind."""
        env, cwd = shlex.quote(str(self.home / "env")), shlex.quote(str(self.home / "cwd"))
        leave = f"trap 'export -p >{env}; pwd >{cwd}' EXIT\n" if keep else ""
        return ["bash", "-c", f'set -e -o pipefail\n. {env}\ncd "$(cat {cwd})"\n{leave}{self.with_ports(text)}']

    def run(self, block: Block, text: str, status: int = 0) -> str:
        """Runs a command; gives its output, both streams together."""
        done = subprocess.run(
            self.script(text, keep=True), env=self.environment(), timeout=120, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        assert done.returncode == status, f"{block}: exit {done.returncode}, not {status}\n{text}\n{done.stdout}"
        return normal(self.without_ports(done.stdout))

    def start(self, block: Block, name: str, until: str) -> None:
        assert name not in self.background, f"{block}: a second background {name}"
        log = self.home / f"{name}.log"
        process = subprocess.Popen(
            self.script(block.text, keep=False), env=self.environment(), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log.open("w"), stderr=subprocess.STDOUT,
        )
        self.background[name] = (process, log)
        deadline = time.monotonic() + WAIT_SECONDS
        while until not in self.output(name):
            assert process.poll() is None, f"{block}: ended with {process.returncode}\n{self.output(name)}"
            assert time.monotonic() < deadline, f"{block}: no {until!r} in\n{self.output(name)}"
            time.sleep(0.05)

    def output(self, name: str) -> str:
        return normal(self.without_ports(self.background[name][1].read_text()))

    def expect(self, block: Block, name: str) -> None:
        """Waits until a background's output has what the block shows."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.has(block, self.output(name).splitlines()):
            assert time.monotonic() < deadline, f"{block}: not in the output of {name}:\n{self.output(name)}"
            time.sleep(0.05)

    def has(self, block: Block, lines: list[str]) -> bool:
        if block.language == "json":
            wanted = json.loads(stringless(normal(block.text)))
            return any(json.loads(stringless(line)) == wanted for line in lines if line.startswith("{"))
        remaining = iter(lines)
        wanted = [expectation(line) for line in block.text.splitlines() if line.strip()]
        return all(any(pattern.fullmatch(line.rstrip()) for line in remaining) for pattern in wanted)

    def proxy(self, block: Block) -> None:
        """Puts an nginx with the shown location in front of the gateway, and asks it for both worlds."""
        folder = self.home / "nginx"
        folder.mkdir()
        paths = " ".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "fastcgi", "uwsgi", "scgi", "proxy"))
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log off; {paths}\n"
            f"server {{ listen 127.0.0.1:{self.ports[BACKEND_PORT]};\n{self.with_ports(block.text)}}} }}\n"
        )
        command = f"exec nginx -e {folder}/error.log -p {folder} -c nginx.conf"
        process = subprocess.Popen(["sh", "-c", f"PATH=$PATH:/usr/sbin; {command}"], start_new_session=True)
        self.background["nginx"] = (process, folder / "error.log")
        upgrade = (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
        assert self.ask_proxy(block, "/ws", upgrade).startswith("HTTP/1.1 101 "), str(block)
        for path in ("/metrics", "/internal/connections", "/ready"):
            answer = self.ask_proxy(block, path, "Connection: close\r\n")
            assert re.match(r"HTTP/1.1 40[34] ", answer) and "<center>nginx" in answer, f"{block}: {path} is passed on"

    def ask_proxy(self, block: Block, path: str, headers: str) -> str:
        """The start of the proxy's answer, once it listens; frames may follow it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                with socket.create_connection(("127.0.0.1", int(self.ports[BACKEND_PORT])), WAIT_SECONDS) as proxy:
                    proxy.sendall(f"GET {path} HTTP/1.1\r\nHost: app.example\r\n{headers}\r\n".encode())
                    return proxy.recv(4096).decode(errors="replace")
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, f"{block}: nginx does not start\n{self.output('nginx')}"
                time.sleep(0.05)

    def stop(self, block: Block, name: str) -> None:
        process, _ = self.background.pop(name)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(WAIT_SECONDS) == 0, f"{block}: {name} did not end cleanly"

    def leave(self) -> None:
        for process, _ in reversed(self.background.values()):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process, _ in self.background.values():
            try:
                process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def follow(self, block: Block) -> None:
        """Does what the block asks of a reader."""
        directive = block.directive
        if match := re.fullmatch(r'background (\w+) until "(.+)"', directive):
            return self.start(block, match[1], match[2])
        if match := re.fullmatch(r"shows (\w+)", directive):
            return self.expect(block, match[1])
        if match := re.fullmatch(r"stop (\w+)", directive):
            return self.stop(block, match[1])
        if match := re.fullmatch(r"file (\S+)", directive):
            path = self.repository / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.with_ports(block.text))
            return None
        if directive == "nginx":
            return self.proxy(block)
        status = int(match[1]) if (match := re.fullmatch(r"exit (\d+)", directive)) else 0
        patience = WAIT_SECONDS if directive == "eventually" else 0
        assert match or patience or not directive, f"{block}: unknown test comment `{directive}`"
        if block.language == "sh":
            self.run(block, block.text, status)
        elif block.language == "console":
            for command, expected in commands(block):
                deadline = time.monotonic() + patience
                while True:
                    actual = [line.rstrip() for line in self.run(block, command, status).rstrip().splitlines()]
                    if same(expected, actual):
                        break
                    shown = "\n".join(actual)
                    assert time.monotonic() < deadline, f"{block}: $ {command}\n{shown}"
                    time.sleep(0.05)
        return None


def stringless(text: str) -> str:
    """JSON whose normalised numbers are strings again."""
    return re.sub(r":\s*<unix>", ':"<unix>"', text)


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with its expected output."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") or found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (found[-1][0] + "\n" + line.removeprefix("> "), [])
        else:
            found[-1][1].append(line)
    for _, expected in found:
        while expected and not expected[-1].strip():
            expected.pop()
    return found


@pytest.mark.parametrize("page", RUN)
def test_a_reader_can_follow(page: str, tmp_path: pathlib.Path) -> None:
    reader = Reader(tmp_path)
    try:
        for block in blocks(page):
            if not block.directive.startswith("skip: "):
                reader.follow(block)
    finally:
        reader.leave()


def test_every_skip_is_listed() -> None:
    skipped: dict[tuple[str, str], int] = {}
    for page in PAGES:
        for block in blocks(page):
            if block.directive.startswith("skip: ") and page in RUN:
                key = (page, block.directive.removeprefix("skip: "))
                skipped[key] = skipped.get(key, 0) + 1
    assert skipped == SKIPPED


def test_every_block_has_a_known_language() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language in LANGUAGES or block.directive.startswith("stop "), str(block)


def test_pipeline_files_are_valid(tmp_path: pathlib.Path) -> None:
    checked = 0
    for page in PAGES:
        for block in blocks(page):
            # Files of a Symfony application are checked by symfony/tests/DocsTest.php.
            symfony = block.text.startswith("# config/")
            if block.language == "yaml" and "snoke_ws:" in block.text and not symfony:
                file = tmp_path / f"{page.replace('/', '_')}_{block.line}.yaml"
                file.write_text(block.text)
                done = subprocess.run(
                    [str(binary()), "check", str(file)], env=CHECK_ENV, capture_output=True, text=True
                )
                assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
                checked += 1
    assert checked >= 3


def test_json_is_what_it_seems() -> None:
    def schema(name: str):
        return jsonschema.Draft202012Validator(json.loads((ROOT / f"schemas/{name}.schema.json").read_text()))

    events, pushes, checked = schema("event"), schema("push"), 0
    for page in PAGES:
        for block in blocks(page):
            if block.language != "json":
                continue
            try:
                value = json.loads(block.text)
            except ValueError as error:
                pytest.fail(f"{block}: {error}")
            if "event_id" in value and "seq" in value:
                events.validate(value)
                checked += 1
            elif "subjects" in value and "payload" in value:
                pushes.validate(value)
    assert checked >= 3


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    text = re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def prose(page: str) -> str:
    return re.sub(r"^(`{3,}).*?^\1$", "", (ROOT / page).read_text(), flags=re.M | re.S)


def anchors(page: pathlib.Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose(str(page.relative_to(ROOT))), re.M)}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page)) + re.findall(r'(?:src|href)="([^"]+)"', prose(page))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.resolve()), f"{page}: {link}"


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head; code marks removed."""
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", (ROOT / page).read_text(), re.M | re.S)
    assert section, f"{page} has no section {heading}"
    rows = re.search(r"(?:^\|.*\n)+", section[1], re.M)[0].splitlines()
    return [[cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def source(*paths: str) -> str:
    return "\n".join((ROOT / path).read_text() for path in paths)


def test_the_metrics_table_is_complete() -> None:
    code = source("src/telemetry/metrics.rs")
    rows = re.findall(r'^\s+\w+: (\w+) = "(\w+)"(?: \[([^\]]+)\])?', code, re.M)
    kinds = ["counter", "gauge", "histogram"]
    actual = {
        (name, next(known for known in kinds if known in kind.lower()), ", ".join(re.findall(r"\w+", labels)))
        for kind, name, labels in rows
    }
    documented = [(row[0], row[1], row[2]) for row in table("docs/operations.md", "Metrics")]
    assert len(documented) == len(set(documented)) and set(documented) == actual


def test_the_running_metrics_are_in_the_table(tmp_path: pathlib.Path) -> None:
    reader = Reader(tmp_path)
    block = Block("tests/test_docs.py", 0, "sh", "exec wsgw dev --listen 127.0.0.1:8000\n")
    try:
        reader.start(block, "dev", "Ctrl-C stops")
        text = reader.run(block, "curl -s http://127.0.0.1:8000/metrics")
    finally:
        reader.leave()
    running = set(re.findall(r"^# TYPE (\w+)", text, re.M))
    documented = {row[0] for row in table("docs/operations.md", "Metrics")}
    assert len(running) >= 15 and running <= documented


def test_the_log_table_is_complete() -> None:
    names = set()
    for path in sorted((ROOT / "src").rglob("*.rs")):
        code = path.read_text()
        names |= set(re.findall(r'\bevent = "(\w+)"', code))
        if re.search(r"\bevent = name\b", code):
            names |= set(re.findall(r'"(\w+_failed)"', code))
    assert {row[0] for row in table("docs/operations.md", "Log events")} == names


def test_the_close_code_table_is_complete() -> None:
    actual = set(re.findall(r"pub const \w+: u16 = (\d+);", source("src/close.rs")))
    assert {row[0] for row in table("docs/operations.md", "Close codes")} == actual


def test_the_reasons_are_complete() -> None:
    code = source("src/jwt/error.rs")
    actual = set(re.findall(r'Self::\w+ => "(\w+)",', code))
    assert {row[0] for row in table("docs/operations.md", "Refused tokens")} == actual
    actual = set(re.findall(r'Self::\w+ => "(\w+)",', source("src/close.rs")))
    assert {row[0] for row in table("docs/operations.md", "Refused upgrades")} == actual


def test_the_variables_table_is_complete() -> None:
    actual: dict[str, set[str]] = {}
    for path in (ROOT / "pipelines").glob("*.yaml"):
        code = re.sub(r"#.*", "", path.read_text())
        # A default that is itself a variable is documented by that one's name.
        for name, default in re.findall(r"\$\{(\w+):-(?:\$\{)?([^}]*?)(?::-)?\}", code):
            actual.setdefault(name, set()).add(default or "empty")
    documented = {row[0]: set(row[1].split(" or ")) for row in table("docs/operations.md", "Variables")}
    assert documented == actual


def test_the_call_table_is_complete() -> None:
    actual = set(re.findall(r'Route::(?:read|act|value)\("([^"]+)"\)', source("src/api/route.rs")))
    assert {row[0].split()[1] for row in table("docs/guide.md", "Calls")} == actual


def test_the_table_of_redis_keys_is_complete(tmp_path: pathlib.Path) -> None:
    """Everything happens that a key is for, by a user with the documented rights.

    The claim is left out, which lives too short to be seen for sure.
    """
    reader = Reader(tmp_path)
    block = Block("tests/test_docs.py", 0, "sh", "")

    def start(name: str, until: str, text: str) -> None:
        reader.start(dataclasses.replace(block, text=text), name, until)

    def keys() -> dict[str, str]:
        """The keys that are there now, with their types."""
        script = 'redis-cli -p 6379 --scan | while read -r key; do echo "$key $(redis-cli -p 6379 TYPE "$key")"; done'
        done = subprocess.run(
            reader.script(script, keep=False), env=reader.environment(), timeout=60, check=True,
            stdout=subprocess.PIPE, text=True,
        )
        # One that went away meanwhile is of no type.
        return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if not line.endswith(" none"))

    documented = {
        # What stands for a name may hold colons.
        re.compile("".join(".+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", name))):
            (name, "zset" if row[1] == "sorted set" else row[1])
        for row in table("docs/core.md", "Keys in Redis") for name in row[0].split(", ")
    }
    gateway = (
        "WSGW_LISTEN=127.0.0.1:{port} REPLAY_STRATEGY=bounded REPLAY_RATE_LIMIT_STRATEGY=redis "
        "REPLAY_IDEMPOTENCY_STRATEGY=redis ORDERING_STRATEGY=topic ORDERING_PARTITION_MODE=suffix exec wsgw run "
        "pipelines/core.yaml --set server.node_id={name} --set leases.ttl_seconds=1 --set server.drain_seconds=1"
    )
    client = "WS_MESSAGE_JSON='{message}' JWT_USER_ID=42 exec python scripts/ws_client.py"
    call = "curl -sf http://127.0.0.1:8000/internal/replay/redis -X POST -H 'X-API-Key: a-key-for-the-documentation'"
    private_key = shlex.quote(str(ROOT / "tests/keys/rsa.pem"))
    try:
        reader.run(block, "\n".join(f"export {name}={shlex.quote(value)}" for name, value in CHECK_ENV.items()))
        reader.run(block, f"export JWT_PRIVATE_KEY_FILE={private_key}")
        start("redis", "Ready to accept connections", "exec redis-server --port 6379 --save ''")
        user = re.search(r"^ACL SETUSER \w+ on >PASSWORD .*$", (ROOT / "docs/brokers.md").read_text(), re.M)[0]
        reader.run(block, f"redis-cli -p 6379 {shlex.join(user.split())}")
        reader.run(block, "export REDIS_DSN=redis://wsgw:PASSWORD@127.0.0.1:6379/0")
        start("a", "started", gateway.format(port=8000, name="a"))
        start("b", "started", gateway.format(port=8001, name="b"))
        start("c", "connected to", client.format(message='{"type":"x","topic":"room"}'))
        start("d", "connected to", client.format(message="7"))
        reader.run(block, """redis-cli -p 6379 XADD ws.outbox '*' data '{"subjects":[],"payload":1}'""")
        seen: dict[str, str] = {}
        deadline, killed = time.monotonic() + WAIT_SECONDS, False
        while missing := {
            name for pattern, (name, _) in documented.items()
            if "claim:" not in name and not any(pattern.fullmatch(key) for key in seen)
        }:
            assert time.monotonic() < deadline, f"documented, and not there: {missing}"
            seen |= keys()
            if not killed and any(key.startswith("wsgw:dead:") for key in seen) and "ws.dlq" in seen:
                reader.run(block, f"{call} -H 'Idempotency-Key: once'")
                seen |= keys()
                os.killpg(reader.background["a"][0].pid, signal.SIGKILL)
                killed = True
            time.sleep(0.05)
        refused = reader.run(block, "redis-cli -p 6379 ACL LOG")
        assert not refused.strip(), refused
    finally:
        reader.leave()
    for key, kind in seen.items():
        assert any(pattern.fullmatch(key) and kind == documented[pattern][1] for pattern in documented), (key, kind)


def test_settings_named_in_the_pages_exist() -> None:
    def keys(page: str) -> set[str]:
        return set(re.findall(r"^\| `([\w.]+)` \|", (ROOT / page).read_text(), re.M))

    gateway = keys("docs/configuration.md")
    sections = {key.split(".")[0] for key in gateway if "." in key}
    for page in RUN:
        if page in ("docs/configuration.md", "docs/diagnostics.md"):
            continue
        # The bundle has settings of its own; its page's table of them is checked by the PHP tests.
        known = gateway | keys(page) if page == "docs/symfony.md" else gateway
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", prose(page)):
            # Attributes of spans, by the semantic conventions.
            if name in ("server.address", "server.port"):
                continue
            if name.split(".")[0] in sections - {"mode"} and not name.endswith((".rs", ".md", ".yaml")):
                assert any(
                    key == full or key.startswith(full + ".") for full in (name, f"stages.{name}") for key in known
                ), f"{page}: {name}"


def test_what_is_guaranteed_names_tests_that_exist() -> None:
    """Every row of a table about a fault has a note, and every note names tests that are there."""
    text = (ROOT / "docs/guarantees.md").read_text()
    body, notes = text.split("\n## The tests\n")
    defined = dict(re.findall(r"^\[\^(\w+)\]: (.+)$", notes, re.M))
    used = re.findall(r"\[\^(\w+)\]", body)
    assert len(used) >= 50 and sorted(used) == sorted(set(used)) and set(used) == set(defined)
    for section in re.split(r"^## ", body, flags=re.M)[1:]:
        for row in re.findall(r"(?<=\n)\|(?!-).*(?=\n)", section):
            head = f"{row}\n|-" in section
            assert head or "[^" in row, f"no test for {row}"
    for note, line in defined.items():
        parts = re.findall(r"`([\w/]+\.rs)`: ((?:`\w+`(?:, )?)+)", line)
        assert parts, note
        for path, names in parts:
            code = source(path)
            for name in re.findall(r"`(\w+)`", names):
                attribute, others = r"#\[(?:tokio::)?test(?:\([^)]*\))?\]\s+", r"(?:#\[[^\]]*\]\s+|//.*\s+)*"
                found = re.search(rf"{attribute}{others}(?:async )?fn {name}\(", code)
                assert found is not None, f"[^{note}]: there is no test {name} in {path}"


def test_the_fields_of_events_and_pushes_are_complete() -> None:
    def fields(name: str) -> list[str]:
        return list(json.loads((ROOT / f"schemas/{name}.schema.json").read_text())["properties"])

    documented = [row[0] for row in table("docs/events.md", "Event") if row[0] != "your own"]
    assert sorted(documented) == sorted(fields("event"))
    assert [row[0] for row in table("docs/events.md", "Push")] == fields("push")


def test_code_that_is_only_shown_parses(tmp_path: pathlib.Path) -> None:
    checked = 0
    for page in RUN:
        for block in blocks(page):
            if block.language == "js":
                file, command = tmp_path / f"{checked}.mjs", ["node", "--check"]
                text = block.text
            elif block.language == "php":
                file, command = tmp_path / f"{checked}.php", ["php", "-l"]
                text = block.text if block.text.startswith("<?php") else f"<?php\n{block.text}"
            else:
                continue
            file.write_text(text)
            done = subprocess.run([*command, str(file)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert done.returncode == 0, f"{block}:\n{done.stdout}"
            checked += 1
    assert checked >= 15
