"""Install the Debian packages that tests use: real SIP software to talk to, and tools to look at what was said.

As root they are installed; otherwise, and where one can't be had, this only says what goes without them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["PACKAGES", "main"]

#: Package: (a program in it or a file, what happens without it).
PACKAGES = {
    "baresip-core": ("baresip", "calls with baresip are skipped"),
    "linphone-cli": ("linphonec", "calls with Linphone are skipped"),
    "kamailio": ("/usr/*bin/kamailio", "calls with Kamailio, and its figures beside the neighbour's, are skipped"),
    "kamailio-tls-modules": ("/usr/lib/*/kamailio/modules/tls.so", "calls with Kamailio are skipped"),
    "sip-tester": ("sipp", "its scenarios and the neighbour's figures are skipped"),
    "tshark": ("tshark", "Wireshark's reading of our RTCP, text and digits is skipped"),
    "rtpengine-daemon": ("rtpengine", "its figures beside the relay's are skipped"),
    "espeak-ng": ("espeak-ng", "the demo plays a chord in place of speech"),
}
_POLICY = Path("/usr/sbin/policy-rc.d")


def _missing() -> list[str]:
    return [name for name, (sign, _) in PACKAGES.items() if not _is_there(sign)]


def _is_there(sign: str) -> bool:
    """Whether a program, or a file by a pattern of absolute paths, is there."""
    if sign.startswith("/"):
        return any(Path("/").glob(sign.lstrip("/")))
    return shutil.which(sign) is not None


def _apt(*arguments: str) -> str:
    """Run apt-get; returns what went wrong, or nothing."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    with tempfile.TemporaryFile("w+") as log:
        done = subprocess.run(["apt-get", "-q", *arguments], env=environment, stdout=log, stderr=log)
        if not done.returncode:
            return ""
        log.seek(0)
        errors = [line.strip() for line in log if line.startswith("E:")]
    return errors[0] if errors else f"apt-get {arguments[0]} failed"


def _install(names: list[str]) -> list[str]:
    """Install packages without letting any of their services start; returns what went wrong."""
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    install = ("install", "-y", "--no-install-recommends")
    try:
        # Lists that can't be fetched just now may still be good enough.
        errors = [_apt("update")]
        if _apt(*install, *names):
            # One that is not in this release must not keep the others away.
            errors += [_apt(*install, name) for name in names]
    finally:
        if ours:
            _POLICY.unlink()
    return [error for error in errors if error]


def main() -> int:
    """Install or report; a missing peer is no failure."""
    missing = _missing()
    if missing and shutil.which("apt-get") is not None and os.geteuid() == 0:
        print(f"  installing {', '.join(missing)} ...", flush=True)
        for error in _install(missing):
            print(f"  apt-get: {error}", file=sys.stderr)
        missing = _missing()
    for name in missing:
        print(f"  without {name}: {PACKAGES[name][1]} (as root: apt-get install {name})", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("peers: interrupted", file=sys.stderr)
        sys.exit(130)
