"""Checks the unit and the package in deploy/, what a release consists of, and the workflows.

systemd judges the unit and runs it, dpkg installs the package, and a release is packed, signed and checked. The chart has
tests of its own in test_chart.py.

Needs what `scripts/test.sh deploy` installs, and a built gateway.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import tarfile

import pytest

from deploy_commands import ENVIRONMENT, run
from operations_stack import ROOT

UNIT = ROOT / "deploy/systemd/wsgw.service"


@pytest.fixture(scope="session", name="keys")
def signing_keys(tmp_path_factory) -> pathlib.Path:
    home = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        run("minisign", "-G", "-W", "-p", home / f"{name}.pub", "-s", home / f"{name}.key")
    return home


@pytest.fixture(scope="session", name="release")
def packed_release(keys, tmp_path_factory) -> pathlib.Path:
    """A release of the debug build: what cargo builds for a real one is tested elsewhere."""
    out = tmp_path_factory.mktemp("release")
    environment = {
        **ENVIRONMENT, "WSGW_SIGN_KEY": str(keys / "ours.key"), "WSGW_RELEASE_PROFILE": "dev", "WSGW_RELEASE_BUILD": "0",
    }  # fmt: skip
    run("scripts/release.sh", "build", out, env=environment)
    return out


@pytest.fixture(scope="session", name="root")
def installed(release, tmp_path_factory) -> pathlib.Path:
    """What the package installs, below a directory."""
    root = tmp_path_factory.mktemp("root")
    [package] = release.glob("*.deb")
    run("dpkg-deb", "--extract", package, root)
    return root


def unit_settings() -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            settings.setdefault(name, []).append(value)
    return settings


def test_systemd_takes_the_unit(root, tmp_path):
    # systemd wants to see the programs: those that the package installs.
    text = UNIT.read_text().replace("/usr/bin/wsgw", str(root / "usr/bin/wsgw"))
    (tmp_path / "wsgw.service").write_text(text)
    said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / "wsgw.service")
    assert not said, said


def test_the_unit_exposes_little():
    said = run("systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", UNIT)
    assert "Overall exposure level for wsgw.service" in said


def may_boot() -> bool:
    """Whether namespaces can be made here, with what is mounted in them: mostly not in a container without privileges."""
    mounts = """
        mount -t tmpfs try /mnt && cd /mnt && mkdir groups root upper work && mount -t cgroup2 try groups &&
        mount -t overlay try -o lowerdir=/,upperdir=upper,workdir=work root && rmdir "$(mktemp -d groups/wsgw-try-XXXXXX)"
    """
    command = ["unshare", "--mount", "--pid", "--net", "--fork", "sh", "-c", mounts]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


@pytest.mark.skipif(not may_boot(), reason="needs root and namespaces")
def test_systemd_runs_the_package(release, tmp_path):
    """A real systemd starts, reloads and stops what the package installs, as confined as the unit says."""
    [package] = release.glob("*.deb")
    run(ROOT / "tests/deploy/boot.sh", package, ROOT / "tests/keys/rsa.pub.pem", tmp_path)
    lines = (tmp_path / "log").read_text().splitlines()
    steps = [line for line in lines if not line.startswith("| ")]
    assert steps == [
        "health: ok", "api: 200", "process_start_time_seconds: there",
        "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "root: 0", "state: 700 wsgw",
        "reload: 1", "reload: 0", "still: ok", "same process: yes", "Result=success", "ExecMainStatus=0",
    ], "\n".join(lines)  # fmt: skip
    logged = "\n".join(lines)
    assert '"event":"reloaded"' in logged and '"event":"reload_failed"' in logged and '"event":"stopped"' in logged


def test_the_unit_waits_for_the_drain_and_allows_many_connections():
    settings = unit_settings()
    reference = (ROOT / "docs/configuration.md").read_text()
    drain = float(re.search(r"\| `server.drain_seconds` \|[^|]*\| `([\d.]+)`", reference)[1])
    assert int(settings["TimeoutStopSec"][0]) > drain + max(drain, 7) + 8
    assert int(settings["LimitNOFILE"][0]) >= 100_000


def test_the_package_has_its_parts(release, root):
    [package] = release.glob("*.deb")
    fields = run("dpkg-deb", "--field", package)
    version = run("scripts/release.sh", "version").strip()
    assert f"Package: wsgw\nVersion: {version}-1\n" in fields and "Depends: libc6 (>=" in fields
    conffiles = run("dpkg-deb", "--info", package, "conffiles").split()
    assert sorted(conffiles) == ["/etc/wsgw/wsgw.env", "/etc/wsgw/wsgw.yaml"]
    assert run(root / "usr/bin/wsgw", "--version") == f"wsgw {version}"
    page = run("man", "--local-file", root / "usr/share/man/man1/wsgw.1.gz")
    assert "a WebSocket gateway" in page and "Validates pipeline files" in page
    for pipeline in (root / "usr/share/wsgw/pipelines").iterdir():
        assert pipeline.read_bytes() == (ROOT / "pipelines" / pipeline.name).read_bytes()


def test_the_installed_settings_start_a_gateway(root, tmp_path):
    """wsgw.env as its comments say to fill it, with the credentials where systemd would put them."""
    given = {"JWT_PUBLIC_KEY": (ROOT / "tests/keys/rsa.pub.pem").read_text(), "GATEWAY_API_KEY": "a-long-key-of-the-package"}
    prefix = unit_settings()["LoadCredential"][0].split(":")[0]
    for name, value in given.items():
        (tmp_path / f"{prefix}_{name}").write_text(value)
    environment = {}
    for line in (root / "etc/wsgw/wsgw.env").read_text().splitlines():
        name, _, value = line.lstrip("#").partition("=")
        if value and (not line.startswith("#") or name.removesuffix("_FILE") in given):
            environment[name] = value.replace("/run/credentials/wsgw.service/", f"{tmp_path}/")
    assert {"WSGW_LISTEN", "WSGW_INTERNAL_LISTEN", "JWT_PUBLIC_KEY_FILE", "GATEWAY_API_KEY_FILE"} == set(environment)
    said = run(root / "usr/bin/wsgw", "check", root / "etc/wsgw/wsgw.yaml", env=environment)
    assert "error" not in said


def test_dpkg_installs_upgrades_and_purges_it(release, tmp_path):
    """Into a root directory of its own, with the maintainer scripts run from there."""
    [package] = release.glob("*.deb")
    root = tmp_path / "root"
    for path in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/lib"):
        (root / path).mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/status").touch()
    # What the scripts call, in place of a whole Debian: a statically linked shell with everything in it.
    (root / "bin").mkdir()
    shutil.copy(shutil.which("busybox", path=ENVIRONMENT["PATH"]) or "/bin/busybox", root / "bin/busybox")
    for name in ("sh", "mkdir", "rm", "rmdir"):
        (root / "bin" / name).symlink_to("busybox")
    dpkg = ["dpkg", "--root", root, "--force-depends", "--force-not-root", "--force-confdef", "--force-confold"]

    run(*dpkg, "--install", package)
    secrets, settings = root / "etc/wsgw/secrets", root / "etc/wsgw/wsgw.env"
    assert secrets.stat().st_mode & 0o777 == 0o700
    (secrets / "GATEWAY_API_KEY").write_text("mine")
    settings.write_text("WSGW_LISTEN=127.0.0.1:9000\n")
    run(*dpkg, "--install", package)
    assert settings.read_text() == "WSGW_LISTEN=127.0.0.1:9000\n", "an upgrade keeps what the operator wrote"
    run(*dpkg, "--remove", "wsgw")
    assert not (root / "usr/bin/wsgw").exists()
    assert (secrets / "GATEWAY_API_KEY").exists() and settings.exists()
    run(*dpkg, "--purge", "wsgw")
    assert not (root / "etc/wsgw").exists()


def test_a_release_is_verified(release, keys, tmp_path):
    verify = ["scripts/release.sh", "verify"]
    assert "are good" in run(*verify, release, keys / "ours.pub")
    assert "not signed by the key" in run(*verify, release, keys / "theirs.pub", ok=False)
    for change, said in ((b"x", "not what was signed"), (None, "not among what was signed")):
        copy = tmp_path / f"copy-{bool(change)}"
        shutil.copytree(release, copy)
        if change:
            [path] = copy.glob("*.cdx.json")
            path.write_bytes(path.read_bytes() + change)
        else:
            (copy / "more.deb").write_text("")
        assert said in run(*verify, copy, keys / "ours.pub", ok=False)
    with (tmp_path / "copy-True/SHA256SUMS").open("a") as sums:
        sums.write("\n")
    assert "not signed by the key" in run(*verify, tmp_path / "copy-True", keys / "ours.pub", ok=False)


def test_a_release_names_what_it_was_made_of(release):
    [path] = release.glob("*.cdx.json")
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["name"] == "wsgw"
    locked = set(re.findall(r'\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"', (ROOT / "Cargo.lock").read_text()))
    named = {(component["name"], component["version"]) for component in bill["components"]}
    assert named <= locked
    assert {"tokio", "hyper", "rustls", "serde"} <= {name for name, _ in named}
    assert not {"criterion", "proptest"} & {name for name, _ in named}, "what only tests use is not in the program"
    assert all(component.get("licenses") for component in bill["components"])
    assert str(ROOT) not in path.read_text(), "it names the directory that it was built in"


def test_an_archive_has_its_parts_and_no_traces_of_its_maker(release):
    [path] = release.glob("*.tar.gz")
    when = int(run("git", "log", "-1", "--format=%ct"))
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", when)}
    names = {member.name.split("/", 1)[1] for member in members if member.isfile()}
    assert {"wsgw", "wsgw.1", "LICENSE", "pipelines/core.yaml", "systemd/wsgw.service"} <= names


def test_the_same_sources_make_the_same_files(release, keys, tmp_path):
    run("scripts/release.sh", "build", tmp_path, env={**ENVIRONMENT, "WSGW_RELEASE_PROFILE": "dev", "WSGW_RELEASE_BUILD": "0"})

    def sums(directory: pathlib.Path, pattern: str) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob(pattern)}

    for pattern in ("*.tar.gz", "*.deb", "*.cdx.json"):
        assert sums(release, pattern) == sums(tmp_path, pattern) != {}
    assert not list(tmp_path.glob("*.minisig"))


def test_the_chart_of_a_release_is_whole(release, tmp_path):
    """Its pipelines and alerts are links in the repository, and files in the package."""
    [package] = release.glob("wsgw-chart-*.tgz")
    with tarfile.open(package) as archive:
        for name in ("core.yaml", "terminator.yaml"):
            packed = archive.extractfile(f"wsgw/files/{name}")
            assert packed.read() == (ROOT / "pipelines" / name).read_bytes()
        packed = archive.extractfile("wsgw/files/alerts.yaml")
        assert packed.read() == (ROOT / "docs/operations/alerts.yaml").read_bytes()


def test_the_workflows_are_well_formed():
    workflows = sorted((ROOT / ".github/workflows").glob("*.yaml"))
    assert [path.name for path in workflows] == ["ci.yaml", "docs.yaml", "release.yaml"]
    assert run("actionlint", *workflows) == ""
