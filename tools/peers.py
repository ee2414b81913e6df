"""Install the Debian packages that tests use: real SIP software to talk to, and tools to look at what was said.

As root they are installed; otherwise this only says which are missing and what is skipped without them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["PACKAGES", "main"]

#: Package: (a program or file in it, what needs it).
PACKAGES = {
    "baresip-core": ("baresip", "calls with baresip"),
    "linphone-cli": ("linphonec", "calls with Linphone"),
    "sip-tester": ("sipp", "load and scripted call flows"),
    "espeak-ng": ("espeak-ng", "speech for the demo; a chord is played without it"),
}


def _missing() -> list[str]:
    return [name for name, (program, _) in PACKAGES.items() if shutil.which(program) is None]


def _install(names: list[str]) -> str:
    """Install packages without letting any of their services start; returns what went wrong, or nothing."""
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        with tempfile.TemporaryFile("w+") as log:
            for command in (
                ["apt-get", "-q", "update"],
                ["apt-get", "-q", "install", "-y", "--no-install-recommends", *names],
            ):
                done = subprocess.run(command, env=environment, stdout=log, stderr=log)
                if done.returncode:
                    log.seek(0)
                    errors = [line.strip() for line in log if line.startswith("E:")]
                    return errors[0] if errors else f"{' '.join(command[:3])} failed"
    finally:
        if ours:
            policy.unlink()
    return ""


def main() -> int:
    """Install or report; a missing peer is no failure."""
    missing = _missing()
    if missing and shutil.which("apt-get") is not None and os.geteuid() == 0:
        print(f"  installing {', '.join(missing)} ...", flush=True)
        error = _install(missing)
        if error:
            print(f"  could not: {error}", file=sys.stderr)
        missing = _missing()
    for name in missing:
        print(f"  skipped without {name}: {PACKAGES[name][1]} (as root: apt-get install {name})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
