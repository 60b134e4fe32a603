#!/usr/bin/env python3
"""Writes a Composer repository of the PHP libraries that Debian has installed, for tests without a network.

    composer-repository.py DIR [PACKAGE_DIR ...]

DIR gets packages.json, and config.json, which makes Composer use it alone when COMPOSER_HOME is DIR. Each PACKAGE_DIR
is a package of this project. An unmodified composer.json then installs, as copies, since static analysis follows no
links:

    COMPOSER_HOME=DIR COMPOSER_MIRROR_PATH_REPOS=1 COMPOSER_ALLOW_SUPERUSER=1 composer install

The composer.lock that this makes names this machine's files, and is not worth keeping.
"""
import json
import pathlib
import re
import subprocess
import sys

SHARE = pathlib.Path("/usr/share/php")

# Debian's name: Composer's name, folder, namespace. Those of Symfony follow a rule and are found.
LIBRARIES = {
    "php-amqplib": ("php-amqplib/php-amqplib", "PhpAmqpLib", "PhpAmqpLib\\"),
    "php-monolog": ("monolog/monolog", "Monolog", "Monolog\\"),
    "php-predis": ("predis/predis", "Predis", "Predis\\"),
    "php-psr-cache": ("psr/cache", "Psr/Cache", "Psr\\Cache\\"),
    "php-psr-container": ("psr/container", "Psr/Container", "Psr\\Container\\"),
    "php-psr-event-dispatcher": ("psr/event-dispatcher", "Psr/EventDispatcher", "Psr\\EventDispatcher\\"),
    "php-psr-link": ("psr/link", "Psr/Link", "Psr\\Link\\"),
    "php-psr-log": ("psr/log", "Psr/Log", "Psr\\Log\\"),
    "php-twig": ("twig/twig", "Twig", "Twig\\"),
}

RUNTIME_PLUGIN = "Symfony\\Component\\Runtime\\Internal\\ComposerPlugin"


def installed():
    """Gives (package, version, names of what it depends on) of every PHP library of Debian that is installed."""
    patterns = ["php-symfony-*", "phpunit", *LIBRARIES]
    fields = "${Package}\t${Version}\t${Depends}\n"
    # It fails if a pattern matches nothing, and lists the others all the same.
    listed = subprocess.run(["dpkg-query", "-W", "-f", fields, *patterns], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        package, version, depends = line.split("\t")
        if version:
            names = [re.split(r"[ (|:]", name.strip())[0] for name in depends.split(",") if name.strip()]
            # 1:5.4.53+dfsg-0+deb12u1 is 5.4.53
            yield package, re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)[1], names


def composer_name(package):
    if package in LIBRARIES:
        return LIBRARIES[package][0]
    if package == "phpunit":
        return "phpunit/phpunit"
    return "symfony/" + package.removeprefix("php-symfony-") if package.startswith("php-symfony-") else None


def folder(package):
    """Where the library is: that of its topmost autoload.php."""
    if package in LIBRARIES:
        return SHARE / LIBRARIES[package][1]
    if package == "phpunit":
        return SHARE / "PHPUnit"
    files = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [path for path in files if path.startswith(f"{SHARE}/Symfony/") and path.endswith("/autoload.php")]
    return pathlib.Path(min(found, key=len)).parent if found else None


def autoload(package, path):
    if package == "phpunit":
        # The command loads it with a loader of Debian's own.
        return {}
    namespace = LIBRARIES[package][2] if package in LIBRARIES else str(path.relative_to(SHARE)).replace("/", "\\") + "\\"
    rules = {"psr-4": {namespace: ""}}
    functions = [name for name in ("Resources/functions.php", "function.php") if (path / name).exists()]
    if functions:
        rules["files"] = functions
    if package == "php-symfony-runtime":
        rules["psr-4"]["Symfony\\Runtime\\Symfony\\Component\\"] = "Internal/"
    return rules


def packages():
    debian = list(installed())
    known = {package for package, _, _ in debian}
    for package, version, depends in debian:
        name, path = composer_name(package), folder(package)
        if not name or not path:
            continue
        described = {
            "name": name,
            "version": version,
            "type": "symfony-bundle" if "/Bundle/" in str(path) else "library",
            "require": {composer_name(on): "*" for on in depends if on in known and composer_name(on) and folder(on)},
            "autoload": autoload(package, path),
            # The last word has Composer install anew what it has linked.
            "dist": {"type": "path", "url": str(path), "reference": f"debian-{version}-copied"},
        }
        if package == "php-symfony-runtime":
            described |= {"type": "composer-plugin", "extra": {"class": RUNTIME_PLUGIN}}
            described["require"]["composer-plugin-api"] = "^2.0"
        yield name, version, described


def own(path):
    """A package of this project, with the version that the gateway has: Composer would guess one from the branch."""
    name = json.loads((path / "composer.json").read_text())["name"]
    root = pathlib.Path(__file__).resolve().parents[2]
    version = re.search(r'^version = "(.+)"', (root / "Cargo.toml").read_text(), re.MULTILINE)[1]
    return {"type": "path", "url": str(path), "options": {"symlink": True, "versions": {name: version}}}


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    target = pathlib.Path(sys.argv[1]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    repository = {}
    for name, version, described in packages():
        repository.setdefault(name, {})[version] = described
    (target / "packages.json").write_text(json.dumps({"packages": repository}, indent=1))
    local = [own(pathlib.Path(path).resolve()) for path in sys.argv[2:]]
    sources = [*local, {"type": "composer", "url": f"file://{target}"}, {"packagist.org": False}]
    (target / "config.json").write_text(json.dumps({"repositories": sources}, indent=1))
    print(f"{target}: {len(repository)} packages")


if __name__ == "__main__":
    main()
