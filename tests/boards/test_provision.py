"""A bare board becomes a phone that its neighbour knows, whatever goes wrong on the way."""

import json
import random
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from conftest import micropython

from lab.board import EmulatedBoard
from lab.lab import Lab
from neighbour.device import provisioning
from neighbour.device.inventory import look
from neighbour.device.pins import PINS
from neighbour.device.port import DeviceError, FullError, Line, prompt
from neighbour.device.provisioning import install, plan

from .conftest import DOMAIN, PASSWORD, ROMFS_BYTES, SSID, MakeBoard, wisp

# mpremote prints the bytes that it does not understand.
pytestmark = pytest.mark.filterwarnings("ignore::BytesWarning:mpremote")

ACCOUNT = ("--account", "alice", "--wifi", SSID)
#: Enough for a program that lies in the heap, and for what a littlefs takes there.
LARGE = 256 << 10


def registered(lab: Lab) -> set[str]:
    with sqlite3.connect(lab.folder / DOMAIN / "wisp.db") as store:
        return {user for (user,) in store.execute("select user from agreements")}


def files(board: EmulatedBoard) -> dict[str, str]:
    """What lies on the board, by path: SHA-256 in hex."""
    with prompt(str(board.port)) as session:
        return look(session).hashes


def read(board: EmulatedBoard, path: str) -> str:
    with prompt(str(board.port)) as session:
        return session.run(f"print(open({path!r}).read(), end='')")


@pytest.mark.parametrize(("romfs", "heap"), [(ROMFS_BYTES, 112 << 10), (0, LARGE)], ids=["flash", "heap"])
def test_from_nothing(lab: Lab, make_reachable: MakeBoard, romfs: int, heap: int) -> None:
    """One command, and the neighbour knows it; run again it writes nothing; a change writes what has changed."""
    lab.start_neighbour(DOMAIN)
    board = make_reachable(romfs=romfs, heap=heap)
    done = wisp(lab, "provision", board.port, *ACCOUNT)
    assert done.returncode == 0, done.stderr
    assert "sip:alice@a.example: " in done.stdout
    assert "; registered in " in done.stdout
    assert registered(lab) == {"alice"}
    there = files(board)
    config = json.loads(read(board, "wisp.json"))
    assert config["wifi"] == {"ssid": SSID, "password": PASSWORD}
    assert not [path for path in there if path.endswith((".new", "wisp.commit", "wisp.halt"))]
    assert there["boot.py.before"]  # the board's own
    assert ("terminal/app.mpy" in there) == (not romfs)
    record = json.loads(read(board, "wisp.installed"))["files"]
    assert record == {path: digest for path, digest in there.items() if path in record}
    for secret in (config["ha1"], PASSWORD):
        assert secret not in done.stdout + done.stderr

    again = wisp(lab, "provision", board.port, *ACCOUNT)
    assert again.returncode == 0, again.stderr
    assert "; nothing to write; registered in " in again.stdout
    assert files(board) == there

    changed = wisp(lab, "provision", board.port, "--account", "alice", "--set", "text=true", password=None)
    assert changed.returncode == 0, changed.stderr
    now = files(board)
    assert {path for path in now if now[path] != there.get(path)} == {"wisp.json", "wisp.installed"}
    assert json.loads(read(board, "wisp.json")) == {**config, "text": True}


@pytest.mark.parametrize("chip", ["ESP32S3", "ESP32C3"])
def test_pins(lab: Lab, make_reachable: MakeBoard, chip: str) -> None:
    """What has other pins than an ESP32 gets those of its picture; what it has already stays."""
    lab.start_neighbour(DOMAIN)
    board = make_reachable(romfs=ROMFS_BYTES, chip=chip)
    done = wisp(lab, "provision", board.port, *ACCOUNT)
    assert done.returncode == 0, done.stderr
    assert json.loads(read(board, "wisp.json"))["board"] == PINS[chip]
    done = wisp(lab, "provision", board.port, *ACCOUNT, "--set", "board.led=2")
    assert done.returncode == 0, done.stderr
    assert json.loads(read(board, "wisp.json"))["board"] == {**PINS[chip], "led": 2}


#: Somebody's own program, which tells what it is given to read.
MINE = b"""\
import select
import sys

poll = select.poll()
poll.register(sys.stdin, select.POLLIN)
while True:
    print("mine")
    if poll.poll(100):
        print("typed", sys.stdin.buffer.read(1))
"""


def test_dry_run(lab: Lab, make_reachable: MakeBoard) -> None:
    """It says what would be done, and does none of it: what ran on the board is started again."""
    board = make_reachable()
    with prompt(str(board.port)) as session:
        session.write_file("main.py", MINE)
    before = files(board)
    done = wisp(lab, "provision", board.port, *ACCOUNT, "--dry-run")
    assert done.returncode == 0, done.stderr
    for line in (
        "sip:alice@a.example: would be added, with a new secret",
        "  terminal/app.mpy: would be written, ",
        "  wisp.json: would be written, ",
        "  boot.py: would be changed, ",
        "  boot.py: would be kept as boot.py.before",
    ):
        assert line in done.stdout
    with Line(str(board.port)) as line:
        said, end = b"", time.monotonic() + 10
        while said.count(b"mine") < 10:
            assert time.monotonic() < end, said
            said += line.read()
    assert b"typed" not in said
    assert files(board) == before
    assert "alice" not in wisp_accounts(lab)
    assert PASSWORD not in done.stdout


def wisp_accounts(lab: Lab) -> str:
    with sqlite3.connect(lab.folder / DOMAIN / "wisp.db") as store:
        return str(store.execute("select user from accounts").fetchall())


def test_remove(lab: Lab, make_reachable: MakeBoard) -> None:
    """Nothing of the terminal is left, and what was there before is back."""
    lab.start_neighbour(DOMAIN)
    board = make_reachable(heap=LARGE)
    before = files(board)
    assert wisp(lab, "provision", board.port, *ACCOUNT).returncode == 0
    refused = wisp(lab, "remove", board.port)
    assert (refused.returncode, refused.stderr) == (2, "--yes is wanted where nobody can be asked\n")
    done = wisp(lab, "remove", board.port, "--yes")
    assert done.returncode == 0, done.stderr
    assert files(board) == before


# What a person is told when it does not come about: one sentence, and what helps.


def test_wrong_password(lab: Lab, make_reachable: MakeBoard) -> None:
    lab.start_neighbour(DOMAIN)
    board = make_reachable(romfs=ROMFS_BYTES)
    done = wisp(lab, "provision", board.port, *ACCOUNT, password="wrong")
    assert done.returncode == 1
    assert done.stderr == "Wi-Fi home: wrong password: run it again, with the right name and password\n"
    # Run again with the right one it is well, and that is all that changes.
    done = wisp(lab, "provision", board.port, *ACCOUNT)
    assert done.returncode == 0, done.stderr
    assert "; 2 files written; " in done.stdout


def test_no_such_network(lab: Lab, make_reachable: MakeBoard) -> None:
    board = make_reachable(romfs=ROMFS_BYTES)
    done = wisp(lab, "provision", board.port, "--account", "alice", "--wifi", "elsewhere")
    assert (done.returncode, done.stderr) == (
        1,
        "Wi-Fi elsewhere: no such network: run it again, with the right name and password\n",
    )


def test_neighbour_does_not_run(lab: Lab, make_reachable: MakeBoard) -> None:
    board = make_reachable(romfs=ROMFS_BYTES)
    done = wisp(lab, "provision", board.port, *ACCOUNT)
    assert done.returncode == 1
    assert "does not answer the board: does `wisp serve` run" in done.stderr


def test_neighbour_of_another_configuration(lab: Lab, make_reachable: MakeBoard, tmp_path: Path) -> None:
    """It answers, and knows another secret."""
    with Lab(tmp_path / "other", micropython()) as other:
        address = other.make_domains(DOMAIN)[DOMAIN]
        other.make_terminal(DOMAIN, "alice")
        other.start_neighbour(DOMAIN)
        board = make_reachable(romfs=ROMFS_BYTES)
        done = wisp(lab, "provision", board.port, *ACCOUNT, "--neighbour", f"{address}:5060")
    assert done.returncode == 1
    assert "the neighbour refuses the board (401): its credentials" in done.stderr


def test_port_in_use(lab: Lab, make_reachable: MakeBoard) -> None:
    board = make_reachable()
    with prompt(str(board.port)):
        done = wisp(lab, "provision", board.port, *ACCOUNT)
    assert done.returncode == 1
    assert f"{board.port}: is in use by another program" in done.stderr


def test_no_such_port(lab: Lab, tmp_path: Path) -> None:
    done = wisp(lab, "provision", tmp_path / "nothing", *ACCOUNT)
    assert done.returncode == 1
    assert "is not there: is the board plugged in?" in done.stderr


@pytest.mark.parametrize("firmware", ["silent", "other"])
def test_no_micropython(lab: Lab, make_reachable: MakeBoard, firmware: str) -> None:
    board = make_reachable(firmware=firmware)
    done = wisp(lab, "provision", board.port, *ACCOUNT)
    assert done.returncode == 1
    assert "no MicroPython answers" in done.stderr
    assert "wisp device flash" in done.stderr


@pytest.mark.parametrize("settings", [{"version": "1.20.0"}, {"version": "1.25.0", "mpy": 5}], ids=["1.20", "mpy 5"])
def test_old_firmware(lab: Lab, make_reachable: MakeBoard, settings: dict) -> None:
    board = make_reachable(**settings)
    done = wisp(lab, "provision", board.port, *ACCOUNT)
    assert done.returncode == 1
    assert "is too old: 1.23 or newer is wanted" in done.stderr
    assert "alice" not in wisp_accounts(lab)


def test_full_flash(lab: Lab, make_reachable: MakeBoard) -> None:
    """Where there is no room beside what is there, nothing is changed."""
    board = make_reachable(size=128 << 10)
    before = files(board)
    done = wisp(lab, "provision", board.port, *ACCOUNT)
    assert done.returncode == 1
    assert "the board's flash is full: " in done.stderr
    assert "Nothing has been changed" in done.stderr
    assert files(board) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--wifi", SSID, "--serial"), "--wifi and --serial exclude each other"),
        (("--serial",), "start it again:\n[[serial]]\nport = "),
        (("--wifi", SSID, "--neighbour", "nowhere"), "--neighbour nowhere: "),
    ],
)
def test_options(lab: Lab, tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = wisp(lab, "provision", tmp_path / "port", "--account", "alice", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr


def test_a_console_is_no_port(lab: Lab) -> None:
    """Where the neighbour has the board's line, there is no prompt to be had."""
    configuration = lab.configuration(DOMAIN)
    configuration.write_text(configuration.read_text() + '\n[[serial]]\nport = "/dev/ttyX"\nconsole = "run/alice"\n')
    for command in (("provision", *ACCOUNT), ("remove", "--yes")):
        done = wisp(lab, command[0], lab.folder / DOMAIN / "run" / "alice", *command[1:])
        assert done.returncode == 2
        assert "is the console of a port that the neighbour has: end `wisp serve`, and name /dev/ttyX" in done.stderr


def test_password_comes_from_nowhere(lab: Lab, make_reachable: MakeBoard) -> None:
    done = wisp(lab, "provision", make_reachable().port, *ACCOUNT, password=None)
    assert done.returncode == 2
    assert "its password is wanted in $WISP_WIFI_PASSWORD" in done.stderr


def test_no_way_to_the_neighbour(lab: Lab, make_reachable: MakeBoard) -> None:
    done = wisp(lab, "provision", make_reachable().port, "--account", "alice")
    assert done.returncode == 2
    assert "--wifi SSID, or --serial, is wanted" in done.stderr


def test_a_phones_account(lab: Lab, make_reachable: MakeBoard) -> None:
    from neighbour.cli import run_command

    run_command("account", "add", "alice", "--phone", "--config", str(lab.configuration(DOMAIN)))
    done = wisp(lab, "provision", make_reachable().port, *ACCOUNT)
    assert done.returncode == 2
    assert "is a phone's account" in done.stderr


# Cut off anywhere.


class Program:
    """Stands in for building the image, which takes seconds: two programs that differ."""

    def __init__(self, image: Path, rom: Path, folder: Path) -> None:
        self.versions = [image, folder / "newer"]
        self.roms = [rom.read_bytes(), rom.read_bytes() + b"\x01" * 64]
        shutil.copytree(image, self.versions[1])
        for path in sorted(self.versions[1].rglob("*.mpy")):
            path.write_bytes(path.read_bytes() + b"\n")
        (self.versions[1] / "terminal" / "more.mpy").write_bytes(b"M" * 3000)
        (self.versions[1] / "terminal" / "wlan.mpy").unlink()
        self.number = 0

    def build(self, folder: Path, *, arch: str = "") -> None:
        del arch
        shutil.copytree(self.versions[self.number], folder)

    def build_rom(self, _folder: Path, file: Path) -> None:
        file.write_bytes(self.roms[self.number])


@pytest.fixture
def program(image: Path, rom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    made = Program(image, rom, tmp_path)
    monkeypatch.setattr(provisioning, "build", made.build)
    monkeypatch.setattr(provisioning, "build_rom", made.build_rom)
    return made


VALUES = {"user": "alice", "domain": DOMAIN, "ha1": "0" * 64, "neighbour": "192.0.2.1:5060", "serial": {}}


def provision(board: EmulatedBoard, values: dict) -> int:
    """All but the start; returns how many bytes there were to write."""
    with prompt(str(board.port)) as session:
        made = plan(session, look(session), values)
    install(str(board.port), made, lambda _done, _what: None)
    return made.bytes


def program_of(board: EmulatedBoard) -> dict[str, str]:
    """What a board would run, after its own start has had its turn."""
    ours = ("terminal/", "sipwire/", "main.py", "wisp.json", "wisp.installed")
    return {path: one for path, one in files(board).items() if path.startswith(ours) and not path.endswith(".new")}


def cut_off(board: EmulatedBoard, to_board: int) -> None:
    """Provision, but the board loses its power after so many bytes; and then it starts."""
    board.fault(unplug_after={"to_board": to_board}, powered=False)
    with pytest.raises(DeviceError):
        provision(board, VALUES)
    board.fault()
    board.unplug(powered=False)
    board.plug()
    board.wait_started()


@pytest.mark.parametrize("cut", ["unplugged", "without power"])
def test_unplugged_at_every_step(program: Program, tmp_path: Path, cut: str) -> None:
    """Cut off again and again, the board has all of the old program, or all of the new one; and in the end the new."""
    chance = random.Random(cut)
    with EmulatedBoard(tmp_path / "board", micropython(), heap=LARGE) as board:
        for number in (0, 1):
            program.number = number
            values = {**VALUES, "text": bool(number)}
            old = program_of(board)
            seen = set()
            runs = 0
            while True:
                runs += 1
                # A run goes further than the one before: what is there already is not written again.
                board.fault(unplug_after={"to_board": chance.randrange(1000, 45000)}, powered=cut == "unplugged")
                try:
                    provision(board, values)
                    is_done = True
                except DeviceError:
                    is_done = False
                board.fault()
                board.unplug(powered=cut == "unplugged")
                board.plug()
                board.wait_started()
                now = program_of(board)
                if is_done:
                    new = now
                    break
                seen.add(json.dumps(now, sort_keys=True))
                assert runs < 60
            assert new != old
            assert provision(board, values) == 0
            assert seen <= {json.dumps(one, sort_keys=True) for one in (old, new)}
            assert runs > 4


@pytest.mark.parametrize("writes", [3, 40, 150, 400, 900])
def test_power_fails_while_flash_is_written(program: Program, tmp_path: Path, writes: int) -> None:
    """In the middle of a block of flash: the file system bears it, and so does what is on it."""
    with EmulatedBoard(tmp_path / "board", micropython(), heap=LARGE) as board:
        provision(board, VALUES)
        old = program_of(board)
        program.number = 1
        board.fault(power_cut_after=writes)

        def unplug() -> None:
            """Where power comes by the cable, the port goes with it."""
            while board.is_powered:
                time.sleep(0.02)
            board.unplug()

        watcher = threading.Thread(target=unplug)
        watcher.start()
        with pytest.raises(DeviceError):
            provision(board, {**VALUES, "text": True})
        watcher.join()
        board.fault()
        board.plug()
        board.wait_started()
        now = program_of(board)
        assert provision(board, {**VALUES, "text": True}) >= 0
        assert now in (old, program_of(board))


def test_from_the_file_system_into_a_romfs(program: Program, tmp_path: Path) -> None:
    """Nothing is left that would be taken for the program; what only begins like it stays."""
    with EmulatedBoard(tmp_path / "board", micropython(), romfs=ROMFS_BYTES) as board:
        board.wait_started()
        with prompt(str(board.port)) as session:
            session.run(
                "import os\nfor one in ('terminal', 'terminal/board', 'sipwire'):\n os.mkdir(one)\n"
                "for one in ('terminal/app.mpy', 'terminal/board/old.py', 'sipwire.py', 'terminals.txt'):\n"
                " open(one, 'w').close()\nos.remove('terminal/app.mpy')"
            )
        provision(board, VALUES)
        with prompt(str(board.port)) as session:
            there = session.value("import os, json\nprint(json.dumps(os.listdir()))")
        assert not {"terminal", "sipwire.py"} & set(there)
        assert "terminals.txt" in there


def test_a_change_that_the_board_can_not_finish(program: Program, tmp_path: Path) -> None:
    """Its journal takes no part of what is written afterwards for its own, however that is cut off."""
    with EmulatedBoard(tmp_path / "board", micropython(), heap=LARGE) as board:
        provision(board, VALUES)
        whole = program_of(board)
        every = {"put": sorted(path for path in whole if path != "boot.py"), "remove": 1}
        for journal in ("{", json.dumps(every)):
            program.number = 1 - program.number
            with prompt(str(board.port)) as session:
                session.write_file("wisp.commit", journal.encode())
            cut_off(board, 9000)
            now = files(board)
            assert "wisp.halt" in now or program_of(board) == whole
            provision(board, VALUES)
            assert not {"wisp.halt", "wisp.commit"} & set(files(board))
            assert provision(board, VALUES) == 0
            whole = program_of(board)


def test_files_that_are_no_files_of_ours(program: Program, tmp_path: Path) -> None:
    """Whatever is called like ours and holds nonsense is replaced, and can be removed."""
    with EmulatedBoard(tmp_path / "board", micropython(), heap=112 << 10, romfs=ROMFS_BYTES) as board:
        for nonsense in ("bytes(range(256))", "b'x' * 70000"):
            with prompt(str(board.port)) as session:
                for path in ("wisp.json", "wisp.installed", "wisp.crash", "wisp.json.new", "wisp.commit.new"):
                    session.run(f"f = open({path!r}, 'wb')\nfor _ in range(1): f.write({nonsense})\nf.close()")
            provision(board, VALUES)
            assert json.loads(read(board, "wisp.json")) == VALUES
            assert provision(board, VALUES) == 0
            with prompt(str(board.port)) as session:
                session.run(f"f = open('wisp.installed', 'wb')\nf.write({nonsense})\nf.close()")
            provisioning.remove(str(board.port))
            assert not [path for path in files(board) if "wisp" in path or path == "main.py"]


def listed(board: EmulatedBoard, folder: str) -> list[str]:
    with prompt(str(board.port)) as session:
        return session.value(f"import os, json\nprint(json.dumps(sorted(os.listdir({folder!r}))))")


@pytest.mark.parametrize(("folder", "other"), [("wisp.keys", ()), ("lib", ("mine.py",)), ("box/", ())])
def test_keys_are_of_one_account(program: Program, tmp_path: Path, folder: str, other: tuple[str, ...]) -> None:
    """Whoever has a board no more leaves no setup keys behind, wherever they are; who stays keeps them."""
    values = {**VALUES, "keys": folder} if folder != "wisp.keys" else VALUES
    with EmulatedBoard(tmp_path / "board", micropython(), romfs=ROMFS_BYTES) as board:
        provision(board, values)
        keys = ("aGk.0", "aGk.1")
        with prompt(str(board.port)) as session:
            session.run(f"import os\nos.mkdir({folder.rstrip('/')!r})")
            for name in (*keys, *other):
                session.write_file(f"{folder.rstrip('/')}/{name}", b"secret")
        provision(board, {**values, "text": True})
        assert listed(board, folder) == [*keys, *other]
        provision(board, {**values, "user": "carol"})
        assert listed(board, folder) == [*other]
        with prompt(str(board.port)) as session:
            session.write_file(f"{folder.rstrip('/')}/aGk.0", b"secret")
        provisioning.remove(str(board.port))
        if other:
            assert listed(board, folder) == [*other]
        assert (folder.rstrip("/") in listed(board, "/")) == bool(other)


def test_remove_cut_off(program: Program, tmp_path: Path) -> None:
    """Run again it comes to its end, and what was there before is back."""
    with EmulatedBoard(tmp_path / "board", micropython(), heap=LARGE) as board:
        with prompt(str(board.port)) as session:
            session.write_file("main.py", b"print('mine')\n")
        before = files(board)
        for size in (1800, 2600, 0):
            provision(board, VALUES)
            if size:
                board.fault(unplug_after={"to_board": size})
                with pytest.raises(DeviceError):
                    provisioning.remove(str(board.port))
                board.fault()
                board.unplug()
                board.plug()
            else:  # where it is cut off between these two
                with prompt(str(board.port)) as session:
                    session.run("import os\nos.remove('wisp.json')\nos.remove('main.py')")
            provisioning.remove(str(board.port))
            assert files(board) == before, size


def test_romfs_cut_off(program: Program, tmp_path: Path) -> None:
    """The program is written where it lies: until it is whole nothing starts it, and run again it is whole."""
    with EmulatedBoard(tmp_path / "board", micropython(), romfs=ROMFS_BYTES) as board:
        provision(board, VALUES)
        program.number = 1
        cut_off(board, 25000)
        assert "wisp.halt" in files(board)
        assert provision(board, VALUES) > 100000
        assert "wisp.halt" not in files(board)
        assert provision(board, VALUES) == 0


def test_flash_fills_up_meanwhile(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found out half-way leaves the old program, and no part of the new one in the way."""
    with EmulatedBoard(tmp_path / "board", micropython(), heap=LARGE, size=400 << 10) as board:
        provision(board, VALUES)
        with prompt(str(board.port)) as session:
            fill = "import os\nf = open('large', 'wb')\nwhile os.statvfs('/')[3] > 20:\n f.write(bytes(4096))\n f.flush()\nf.close()"
            session.run(fill, 60)
        old = program_of(board)
        program.number = 1
        monkeypatch.setattr(provisioning, "_check_room", lambda *_: None)
        with pytest.raises(FullError, match="flash is full"):
            provision(board, {**VALUES, "text": True})
        assert program_of(board) == old


def test_noise_on_the_line(program: Program, tmp_path: Path) -> None:
    """A bad cable spoils no file: what is not right is written again, or it fails, and the old program stays."""
    with EmulatedBoard(tmp_path / "board", micropython(), heap=LARGE) as board:
        provision(board, VALUES)
        old = program_of(board)
        program.number = 1
        board.fault(damage=0.0002, seed=7)
        failed = 0
        for _ in range(3):
            stopper = threading.Timer(60, board.unplug)
            stopper.start()
            try:
                provision(board, {**VALUES, "text": True})
            except DeviceError:
                failed += 1
            finally:
                stopper.cancel()
        board.fault()
        now = program_of(board)
        provision(board, {**VALUES, "text": True})
        assert now in (old, program_of(board))
        assert failed
