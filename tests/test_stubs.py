"""What the terminal uses of MicroPython is there on an ESP32, by the stubs of that port.

The modules of hardware can't be imported here; a misspelt function of `machine` or `network` would show on the board.
"""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from conftest import ROOT

STUBS = sysconfig.get_paths()["purelib"]
CONFIG = f"""\
[mypy]
python_version = 3.11
custom_typeshed_dir = {STUBS}
mypy_path = {{folder}}:{ROOT}/shared:{STUBS}
no_site_packages = True
follow_imports = silent
check_untyped_defs = True
strict_optional = False
"""
# Names, and how they are called; the rest is the untyped style of the code.
KINDS = "attr-defined|call-arg|call-overload|import-not-found|name-defined"


def complaints(folder: Path, package: Path) -> list[str]:
    """What mypy says of a package's names."""
    config = folder / "mypy.ini"
    config.write_text(CONFIG.format(folder=package.parent))
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(folder / "cache")]
    done = subprocess.run([*command, str(package)], cwd=package.parent, capture_output=True, text=True, timeout=300)
    # Above 1 mypy itself has failed; the stubs have faults of their own, which are not looked at.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = re.findall(rf"^({package.name}/.*\[(?:{KINDS})\])$", done.stdout, re.MULTILINE)
    # A configuration's attributes are made from its table of keys.
    return [line for line in lines if '"Config" has no attribute' not in line]


def test_the_terminal(tmp_path: Path) -> None:
    assert complaints(tmp_path, ROOT / "device" / "terminal") == []


def test_a_name_that_is_not_there(tmp_path: Path) -> None:
    """The check is one: it finds what is wrong."""
    package = tmp_path / "wrong"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import machine, network, time\n"
        "def f():\n"
        "    machine.I2S.shift(buf=bytearray(2), bits=16, shift=1)\n"
        "    machine.I2S.shove(bytearray(2))\n"
        "    network.WLAN(network.STA_IF).ifconfig()\n"
        "    time.sleep_ms(1)\n"
        "    time.sleep_mss(1)\n"
        "    import picamera\n"
    )
    found = complaints(tmp_path, package)
    assert [re.findall(r"shove|sleep_mss|picamera", line) for line in found] == [["shove"], ["sleep_mss"], ["picamera"]]
