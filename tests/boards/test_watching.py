"""``wisp device`` at boards whose terminals run: emulated ones at pseudo-terminals, registered at a real neighbour."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from calls.conftest import make_terminal
from conftest import micropython

from boards.at_a_terminal import WISP, Command
from boards.wired import Wired
from lab.lab import Lab
from lab.processes import ROM, Neighbour, Terminal, text_shown

_begun: dict[str, int] = {}  # where in what a terminal has said the present test begins, by its name


def wisp(*arguments: str, status: int = 0, given: str = "", timeout_s: float = 60) -> str:
    """Run a command where nobody looks at a terminal; returns what it says."""
    done = subprocess.run([WISP, "device", *arguments], input=given, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@dataclass
class World:
    """A board, who can be called, and their neighbour."""

    board: Wired
    bob: Terminal
    carol: Terminal
    neighbour: Neighbour

    @property
    def port(self) -> str:
        return str(self.board.port)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, rom: Path) -> Iterator[World]:
    """Alice's board, Bob, who has text too, and Carol, who only speaks; all of one domain."""
    folder = tmp_path_factory.mktemp("world")
    with Lab(folder / "lab", micropython(), str(rom)) as lab:
        lab.make_domains("a.example")
        alice, bob, carol = (
            make_terminal(lab, "a.example", user, hertz, 60.0, text=user != "carol", setup={"life_s": 0})
            for user, hertz in (("alice", 440), ("bob", 1000), ("carol", 700))
        )
        neighbour = lab.start_neighbour("a.example")
        heap = f"{lab.heap_kib}K"
        command = [lab.micropython, "-X", f"heapsize={heap}", str(ROM), str(rom), str(alice)]
        with Wired(folder / "ttyUSB0", command, folder, {"MICROPYPATH": str(rom)}) as board:
            made = World(board, lab.start_terminal(bob), lab.start_terminal(carol), neighbour)
            board.wait_for("registered")
            for one in (made.bob, made.carol):
                one.wait_for("registered")
            yield made


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test begins and ends without a call."""
    world = request.getfixturevalue("world") if "world" in request.fixturenames else None
    if world is not None:
        _begun.update({one.name: end_of(one) for one in (world.bob, world.carol)})
    yield
    if world is not None:
        for _ in range(100):
            mark = len(world.board.lines)
            world.board.send("status")
            if world.board.wait_for("status", since=mark)["phone"] == "idle":
                return
            world.board.send("hangup")
            time.sleep(0.2)
        pytest.fail("there is a call left")


def heard(world: World) -> str:
    return world.board.heard.decode()


def end_of(one: Terminal) -> int:
    """Where in its lines the next one will be."""
    one.read()
    return len(one.lines)


def answer(one: Terminal) -> None:
    """Wait for a call that came in this test, and take it."""
    one.wait_for("incoming", since=_begun[one.name])
    one.send("answer")
    one.wait_for("connected", since=_begun[one.name])


def written(one: Terminal, mark: int) -> str:
    """What a terminal has been shown of the other side's text."""
    one.read()
    return text_shown(one.lines[mark:])


# How it is.


def test_info(world: World) -> None:
    said = wisp("info", world.port)
    assert re.search(r"state +registered.*no call", said), said
    assert re.search(r"heap +.*\d+\.\d KiB.*, at most \d+\.\d KiB", said), said
    assert "0 dropped, 0 malformed, 0 unproven setup keys" in said
    status = json.loads(wisp("info", world.port, "--json"))
    assert (status["event"], status["registration"], status["phone"]) == ("status", "registered", "idle")


def test_info_in_a_call(world: World) -> None:
    with Command("device", "call", world.port, "bob") as calling:
        answer(world.bob)
        calling.wait_for("connected with")
        # The port is taken by the command that calls.
        said = wisp("info", world.port, status=1)
        assert "is in use by another program" in said
        calling.interrupt(signal.SIGKILL)
        calling.end()
    assert re.search(r"call +sip:bob@a.example, talking", wisp("info", world.port))


ANSWERS = [
    ("while True:\n    input('>>> ')", "MicroPython's prompt answers: no terminal runs"),
    ("input()\nraise MemoryError('memory allocation failed')", "the program on the board has crashed: MemoryError"),
    ("input()\nprint('Hello, I blink')\ntime.sleep(60)", 'no terminal answers, but something else: "Hello, I blink"'),
    ("time.sleep(60)", "nothing answers"),
]


@pytest.mark.parametrize(("program", "said"), ANSWERS)
def test_what_answers_instead(tmp_path: Path, program: str, said: str) -> None:
    """A prompt, a program that crashed when it was asked, one that says something else, and one that says nothing."""
    file = tmp_path / "main.py"
    file.write_text(f"import time\n{program}\n")
    command = ["sh", "-c", f"{micropython()} {file}; sleep 60"]
    with Wired(tmp_path / "tty", command, tmp_path, {}) as board:
        assert said in wisp("info", str(board.port), status=1)


def test_no_port(tmp_path: Path) -> None:
    for command in (("info",), ("monitor",), ("console",), ("text", "bob")):
        name, *rest = command
        assert "is not there" in wisp(name, str(tmp_path / "nothing"), *rest, status=1)
    assert "is no serial port" in wisp("info", "/dev/null", status=1)


# Watching.


def test_monitor_in_lines(world: World) -> None:
    watching = subprocess.Popen(
        [WISP, "device", "monitor", world.port],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    try:
        time.sleep(2.5)
        mark = len(world.board.lines)
        world.board.send("call bob")
        answer(world.bob)
        world.bob.send("press 5")
        world.bob.send("write Hello\x1b[31m")
        world.board.wait_for("text", since=mark)
        time.sleep(1)
        world.bob.send("hangup")
        world.bob.wait_for("ended", since=_begun["bob"])
        time.sleep(1)
    finally:
        watching.send_signal(signal.SIGINT)
        said = watching.communicate(timeout=20)[0].decode()
    assert watching.returncode == 0
    for words in (
        "registered; idle; heap",
        "calls sip:bob@a.example",
        "it rings there",
        "connected with sip:bob@a.example after",
        "the neighbour vouches for a.example (heavy)",
        "the other side has pressed 5",
        "writes",
        "the call is over after",
        "jitter",
    ):
        assert words in said, said
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in said.splitlines()), said
    assert "\x1b" not in said
    # It was asked, and told nothing else.
    assert wisp("info", world.port)


def test_monitor_as_json(world: World) -> None:
    watching = subprocess.Popen([WISP, "device", "monitor", world.port, "--json"], stdout=subprocess.PIPE)
    assert watching.stdout is not None
    mark = len(world.board.lines)
    world.board.wait_for("status", since=mark)
    world.board.send("message bob Hi")
    world.board.wait_for("sent", since=mark)
    time.sleep(0.5)
    watching.send_signal(signal.SIGTERM)
    events = [json.loads(line) for line in watching.communicate(timeout=20)[0].splitlines()]
    assert watching.returncode == 0
    assert {"event": "sent", "peer": "sip:bob@a.example"} in events
    assert "status" in {event["event"] for event in events}


def test_the_live_view_and_unplugging(world: World) -> None:
    with Command("device", "monitor", world.port) as watching:
        watching.wait_until(
            lambda _: re.search(r"state +registered.*, no call", watching.screen) is not None, "the state"
        )
        world.board.send("call bob")
        answer(world.bob)
        world.bob.send("write Look at \x1b]0;this")
        watching.wait_until(lambda _: "writes   Look at" in watching.screen, "what Bob writes")
        watching.wait_until(lambda _: "for 3" in watching.screen, "time passes")
        drawn = watching.screen
        for words in (
            "call: sip:bob@a.example",
            "talking for",
            "SRTP, AES_CM_128_HMAC_SHA1_80",
            "KiB, at most",
        ):
            assert words in drawn, drawn
        assert "\x1b]0;" not in watching.shown
        assert max(map(len, drawn.splitlines())) <= 100
        world.board.unplug()
        watching.wait_until(lambda _: "it waits until it is back" in watching.screen, "that it is gone")
        time.sleep(1.2)
        world.board.plug()
        watching.wait_until(lambda _: "the board is back" in watching.screen, "that it is back")
        watching.wait_until(lambda _: "talking" in watching.screen, "the call that went on")
        watching.type("\x03")  # no driver makes a signal of it here, so it is nothing
        watching.interrupt()
        assert watching.end() == 0
        assert "\x1b[?1049l" in watching.shown  # the person's own screen is there again
        assert "talking" in watching.shown.rpartition("\x1b[?1049l")[2]
    world.bob.send("hangup")
    assert "\x03" not in heard(world)


def test_monitor_in_lines_waits_for_the_board(world: World) -> None:
    with Command("device", "monitor", "--plain", world.port) as watching:
        watching.wait_for("registered; idle")
        for _ in range(2):
            mark = len(watching.shown)
            world.board.unplug()
            watching.wait_until(lambda shown, mark=mark: "the board is gone" in shown[mark:], "gone")
            time.sleep(0.7)
            world.board.plug()
            watching.wait_until(lambda shown, mark=mark: "the board is back" in shown[mark:], "back")
        world.board.send("message bob Again")
        watching.wait_for("has arrived")
        watching.interrupt(signal.SIGHUP)
        assert watching.end() == 0


# Calls.


def test_a_call(world: World) -> None:
    """It rings, is answered, has text and digits both ways, and ends by Ctrl-C."""
    with Command("device", "call", world.port, "sip:bob@a.example") as calling:
        mark = end_of(world.bob)
        answer(world.bob)
        calling.wait_for("connected with sip:bob@a.example")
        calling.type("Good morning, Bob\r")
        world.bob.wait_until(lambda: written(world.bob, mark) == "Good morning, Bob\n", "the text")
        calling.type("/press 42\r")
        world.bob.wait_until(
            lambda: [x["digit"] for x in world.bob.lines[mark:] if x["event"] == "dtmf"] == ["4", "2"], "42"
        )
        calling.type("/quit\r")
        calling.wait_for("/quit: is none of /press, /hold, /resume, /hangup")
        world.bob.send("write Good morning, Alice\x07")
        calling.wait_for("they: Good morning, Alice")
        calling.type("/hold\r")
        calling.wait_for("the other side is on hold")
        calling.interrupt()
        assert calling.end() == 0
        calling.wait_for("the call is over after")
    world.bob.wait_for("ended", since=mark)


def test_the_other_side_hangs_up(world: World) -> None:
    with Command("device", "call", world.port, "bob") as calling:
        answer(world.bob)
        calling.wait_for("connected with")
        world.bob.send("hangup")
        assert calling.end() == 0
        calling.wait_for("peer hung up")


def test_a_call_of_a_few_seconds(world: World) -> None:
    """Where nobody is at a terminal."""
    calling = subprocess.Popen(
        [WISP, "device", "call", world.port, "bob", "--for", "1.5"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    mark = end_of(world.bob)
    answer(world.bob)
    said = calling.communicate(timeout=30)[0].decode()
    assert calling.returncode == 0
    talked = world.bob.wait_for("ended", since=mark)["talked_ms"]
    assert 1200 < talked < 6000
    assert "the call is over after" in said


def test_calls_that_fail(world: World) -> None:
    said = wisp("call", world.port, "nobody", status=1)
    assert "no call: nobody has that address (404" in said
    assert said.count("no call") == 1
    assert "URI: an address" in wisp("call", world.port, "a b", status=2)
    assert "URI: too long" in wisp("call", world.port, "b" * 600, status=2)
    assert "malformed URI" in wisp("call", world.port, "http:x@y", status=1)
    mark = end_of(world.bob)
    with Command("device", "call", world.port, "bob") as calling:
        world.bob.wait_for("incoming", since=mark)
        world.bob.send("reject")
        assert calling.end() == 1
        calling.wait_for("no call: ")
    mark = end_of(world.bob)
    with Command("device", "call", world.port, "bob") as calling:
        world.bob.wait_for("incoming", since=mark)
        calling.interrupt()
        assert calling.end() == 1
        calling.wait_for("no call came about: cancelled")


def test_a_closed_terminal_hangs_up(world: World) -> None:
    for number in (signal.SIGHUP, signal.SIGTERM):
        mark = _begun["bob"] = end_of(world.bob)
        with Command("device", "call", world.port, "bob") as calling:
            answer(world.bob)
            calling.wait_for("connected with")
            calling.interrupt(number)
            calling.end()
        world.bob.wait_for("ended", since=mark)


def test_a_call_is_there_already(world: World) -> None:
    mark = len(world.board.lines)
    world.board.send("call bob")
    world.board.wait_for("progress", since=mark)
    said = wisp("call", world.port, "carol", status=1)
    assert "there is a call already, with sip:bob@a.example: hang up first" in said


def test_unplugged_in_a_call(world: World) -> None:
    with Command("device", "call", world.port, "bob") as calling:
        answer(world.bob)
        calling.wait_for("connected with")
        world.board.unplug()
        try:
            assert calling.end() == 1
            calling.wait_for("the board is gone: plug it in again")
        finally:
            world.board.plug()


# Texts.


def test_a_text(world: World) -> None:
    mark = end_of(world.bob)
    assert "has arrived" in wisp("text", world.port, "bob", "Hello,", "Grüße", "👩\u200d🚀")
    assert world.bob.wait_for("message", since=mark)["text"] == "Hello, Grüße 👩\u200d🚀"
    assert "nobody has that address" in wisp("text", world.port, "nobody", "Hello", status=1)
    assert "WORDS: too long" in wisp("text", world.port, "bob", "x" * 600, status=2)
    assert "one line of text" in wisp("text", world.port, "bob", "x\nquit", status=2)


def test_a_conversation(world: World) -> None:
    """Letters go as they are typed, are erased, and come; Ctrl-D ends the call, and the terminal is as it was."""
    with Command("device", "text", world.port, "bob") as talking:
        mark = end_of(world.bob)
        answer(world.bob)
        talking.wait_until(lambda _: "you" in talking.screen and "connected" in talking.screen, "the conversation")
        world.bob.wait_until(lambda: "chat\r" in heard(world), "the chat")
        assert not talking.echoes
        for letter in "Helo":
            talking.type(letter)
            time.sleep(0.1)
        world.bob.wait_until(lambda: written(world.bob, mark) == "Helo", "letters before the line's end")
        talking.type("\x7flo, Grüße\x1b[A\r.5\r")
        world.bob.wait_until(lambda: written(world.bob, mark) == "Hello, Grüße\n.5\n", "the rest")
        for keys in ("chat", "Yes, h", "\x7fHi\x1b[31m"):
            world.bob.send(keys)
        talking.wait_until(lambda _: "Yes, " in talking.screen and "Hi" in talking.screen, "what Bob writes")
        talking.type("\x04")
        assert talking.end() == 0
        assert talking.echoes
        after = talking.shown.rpartition("\x1b[?1049l")[2]
        assert "you: Hello, Grüße" in after
        assert "the call is over" in after
    world.bob.send(".")
    world.bob.wait_for("ended", since=mark)
    assert wisp("info", world.port)  # the board takes commands again


def test_a_conversation_from_a_file(world: World) -> None:
    """Where nobody is at a terminal: lines both ways, to the end of the file; it is longer than a terminal keeps."""
    text = "".join(f"{number} green bottles\n" for number in range(8)) + "."
    talking = subprocess.Popen(
        [WISP, "device", "text", world.port, "bob"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert talking.stdin is not None
    talking.stdin.write(text.encode())
    mark = end_of(world.bob)
    answer(world.bob)
    world.bob.send("write Nice")
    talking.stdin.close()
    assert talking.stdout is not None
    with talking.stdout:
        said = talking.stdout.read().decode()
    assert talking.wait(60) == 0, said
    assert "they: Nice" in said
    assert written(world.bob, mark) == text[:-1]
    world.bob.wait_for("ended", since=mark)


def test_a_conversation_in_the_call_that_stands(world: World) -> None:
    """It goes on afterwards, whether by a full stop or Ctrl-C."""
    mark = end_of(world.bob)
    world.board.send("call bob")
    answer(world.bob)
    for end in (".\r", "interrupt"):
        with Command("device", "text", world.port, "bob") as talking:
            begun = heard(world).count("chat\r")
            world.bob.wait_until(lambda begun=begun: heard(world).count("chat\r") > begun, "the chat")
            talking.type("Hi\r")
            world.bob.wait_until(lambda end=end: written(world.bob, mark) == "Hi\n" * (1 + (end != ".\r")), "the text")
            if end == "interrupt":
                talking.interrupt()
            else:
                talking.type(end)
            assert talking.end() == 0, talking.shown
    assert "talking" in wisp("info", world.port)
    said = wisp("text", world.port, "carol", status=1)
    assert "there is a call already, with sip:bob@a.example" in said


def test_a_call_without_text(world: World) -> None:
    """Said at once, or with the first letter where the board's program does not tell; it is no command to the board."""
    begun = len(heard(world))
    with Command("device", "text", world.port, "carol") as talking:
        mark = end_of(world.carol)
        answer(world.carol)
        world.carol.wait_until(
            lambda: "chat\r" in heard(world)[begun:] or "hangup" in heard(world)[begun:], "the end, or the beginning"
        )
        talking.type("quit\r")
        assert talking.end() == 1
        talking.wait_for("the call has no text")
    world.carol.wait_for("ended", since=mark)
    assert "quit\r" not in heard(world)[begun:].replace("chat\rquit\r", "")
    assert "registered" in wisp("info", world.port)


# The console.


def test_the_console(world: World) -> None:
    with Command("device", "console", world.port) as console:
        console.type("status\r")
        console.wait_for('"registration": "registered"')
        console.type("message bob Hi\r")
        console.wait_for('{"event": "sent"')
        console.type("\x1d")
        assert console.end() == 0
    with Command("device", "console", world.port, "--events") as console:
        console.type("status\r")
        console.wait_for("registered; idle; heap")
        console.type("\x04")
        assert console.end() == 0
    assert '"event": "status"' in wisp("console", world.port, given="status\n")


def test_the_console_leaves_a_chat(world: World) -> None:
    """Who leaves while they chat leaves a board that takes commands."""
    mark = end_of(world.bob)
    world.board.send("call bob")
    answer(world.bob)
    with Command("device", "console", world.port) as console:
        console.type("chat\r")
        console.type("So far\r")
        world.bob.wait_until(lambda: written(world.bob, mark) == "So far\n", "the text")
        world.bob.send("write \x1b[2J\u202eevil")
        console.wait_for("evil")
        assert "\u202e" not in console.shown
        console.interrupt()
        assert console.end() == 0
    assert "talking" in wisp("info", world.port)
    assert written(world.bob, mark) == "So far\n"
