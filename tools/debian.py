"""Debian and Ubuntu packages unpacked into a folder of ours: no root, and no change to the system.

apt does the work with lists, cache and status of its own; signatures are checked by the system's keys as always.
Standard library only: this runs before anything is installed.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["UnavailableError", "cache_folder", "os_release", "sources", "unpack"]

_DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TIMEOUT_S = 300


class UnavailableError(Exception):
    """The packages can't be had here; the text says why."""


def cache_folder() -> Path:
    """Where unpacked packages are kept between runs: ``$XDG_CACHE_HOME/wisp``, ``~/.cache/wisp`` or ``.cache`` here."""
    candidates = []
    if os.environ.get("XDG_CACHE_HOME"):
        candidates.append(Path(os.environ["XDG_CACHE_HOME"]) / "wisp")
    home = os.environ.get("HOME")
    if home and Path(home).is_dir():
        candidates.append(Path(home) / ".cache" / "wisp")
    candidates.append(Path(__file__).resolve().parent.parent / ".cache")
    for folder in candidates:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise UnavailableError("no folder to keep files in: set XDG_CACHE_HOME to one that can be written")


def os_release() -> dict[str, str]:
    """The fields of /etc/os-release."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: value.strip('"') for key, value in pairs}


def sources() -> list[tuple[str, str, str]]:
    """The package archives that the machine's own apt uses: (URI, suite, component)."""
    if shutil.which("apt-get") is None:
        raise UnavailableError("no apt-get: this is no Debian or Ubuntu")
    line = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", line, "Created-By: Packages"],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    unique: dict[tuple[str, str, str], None] = {}
    for row in found.stdout.splitlines():
        uri, suite, component = row.split("|")
        if uri.startswith(("http", "file", "mirror")):
            unique[(uri, suite, component)] = None
    if not unique:
        raise UnavailableError("apt has no package sources")
    return list(unique)


def _run(command: list[str], cwd: Path, options: list[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [command[0], *options, *command[1:]],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{command[0]} {command[1]} took more than {_TIMEOUT_S} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise UnavailableError(errors[0][3:] if errors else f"{' '.join(command[:2])} failed")
    return done.stdout


def unpack(package: str, archives: list[str], architecture: str, target: Path, with_depends: bool) -> None:
    """Fetch a package (and what it depends on) and unpack it into ``target``, which appears only when it is complete.

    Args:
        package: its name.
        archives: lines ``URI suite component`` to look in.
        architecture: of the package, e.g. ``i386``; need not be the machine's own.
        target: a folder that does not exist yet.
        with_depends: also unpack every package it depends on, libc included.

    Raises:
        UnavailableError: no such package, or it can't be fetched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".apt-", dir=target.parent))
    try:
        for folder in ("lists/partial", "cache/archives/partial", "debs", "root"):
            (work / folder).mkdir(parents=True)
        (work / "status").touch()
        signed = f"signed-by={_DEBIAN_KEYS} " if _DEBIAN_KEYS.exists() and os_release().get("ID") == "debian" else ""
        lines = [f"deb [{signed}arch={architecture}] {archive}" for archive in archives]
        (work / "sources.list").write_text("\n".join(lines) + "\n")
        options = {
            "Dir::State::Lists": work / "lists",
            "Dir::State::status": work / "status",
            "Dir::Cache": work / "cache",
            "Dir::Etc::SourceList": work / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
        }
        flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        _run(["apt-get", "-q", "update"], work, flags)
        names = [package]
        if with_depends:
            listed = _run(
                [
                    "apt-cache",
                    "depends",
                    "--recurse",
                    "--no-recommends",
                    "--no-suggests",
                    "--no-conflicts",
                    "--no-breaks",
                    "--no-replaces",
                    "--no-enhances",
                    package,
                ],
                work,
                flags,
            )
            names = [line for line in listed.splitlines() if line[:1].isalnum()]
        if not names:
            raise UnavailableError(f"no package {package} for {architecture}")
        _run(["apt-get", "-q", "download", *names], work / "debs", flags)
        for deb in sorted((work / "debs").glob("*.deb")):
            _run(["dpkg-deb", "-x", str(deb), str(work / "root")], work, [])
        try:
            (work / "root").replace(target)
        except OSError:
            if not target.exists():  # else somebody else was faster
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
