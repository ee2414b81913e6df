import json
import unittest

from far import invite, offer, request
from scripted import settings
from whole import Whole

from sipwire.slip import TEXT, SlipDecoder, encode
from terminal import app, events, serial
from terminal.board import console, uart
from terminal.config import make_config
from terminal.settings import ConfigError

BUFFERS = {"rxbuf": 4096, "txbuf": 4096, "timeout": 0}


class FakeUart:
    """The board's end of a line.

    Attributes:
        inbox: bytes to read.
        room: how many bytes it takes of what is written, None for all.
        written: bytes that were.
        calls: what else was done with it.
    """

    def __init__(self):
        self.inbox = self.written = b""
        self.room = None
        self.calls = []
        self.heard = None  # called with what is written

    def read(self, size):
        got, self.inbox = self.inbox[:size], self.inbox[size:]
        return got or None

    def write(self, data):
        size = len(data) if self.room is None else min(self.room, len(data))
        if self.room is not None:
            self.room -= size
        if not size:
            return None
        self.written += data[:size]
        if self.heard:
            self.heard(data[:size])
        return size

    def init(self, baud):
        self.calls.append(("init", baud))

    def deinit(self):
        self.calls.append(("deinit",))


class FakeMachine:
    """Stands in for ``machine``.

    Attributes:
        made: the UARTs that were made.
        prompt: the number of the prompt's, as an ESP32 has it: it has no driver, whose buffers could be changed, and so
            raises OSError for what is behind speed and pins.
    """

    def __init__(self, uart):
        self.uart = uart
        self.made = []
        self.prompt = None
        self.exists = True

    def UART(self, number, baud, **options):
        if not self.exists or (number == self.prompt and "rxbuf" in options):
            raise ValueError("REPL UART buffer size is fixed" if self.exists else "UART(7) does not exist")
        self.made.append((number, baud, options))
        if number == self.prompt:
            raise OSError(-259, "ESP_ERR_INVALID_STATE")
        return self.uart


class FakeMicropython:
    def __init__(self):
        self.calls = []

    def kbd_intr(self, code):
        self.calls.append(code)


class FakeSelect:
    """Waiting makes the time pass."""

    POLLIN = 1

    def __init__(self, world):
        self.world = world

    def poll(self, ms=None):
        if ms is None:
            return self
        if ms and not self.world.uart.inbox:
            self.world.wait(ms)
        return [1] if self.world.uart.inbox else []

    def register(self, item, events):
        self.world.registered.append(item)


class AlwaysReadable(FakeSelect):
    """Says of anything that it can be read."""

    def poll(self, ms=None):
        self.world.wait(5)
        return [1]


class FakeStandard:
    """Standard input and output, on the world's line."""

    def __init__(self, uart):
        self.uart = uart
        self.stdin = self.stdout = self.buffer = self.implementation = self
        self._machine = "Somebody's board with a chip that nobody knows"

    def read(self, size):
        assert size == 1, "more would be waited for"
        return self.uart.read(1)

    def write(self, data):
        return self.uart.write(data)


class World:
    """What is around a `SerialLine`."""

    def __init__(self):
        self.uart = FakeUart()
        self.machine = FakeMachine(self.uart)
        self.micropython = FakeMicropython()
        self.registered = []
        self.now = 0
        self.real = (serial.select, serial.ticks_ms, uart.select, uart.sys, uart.machine, uart.micropython)
        serial.select = uart.select = FakeSelect(self)
        serial.ticks_ms = lambda: self.now
        uart.sys = FakeStandard(self.uart)
        uart.machine = self.machine
        uart.micropython = self.micropython

    def wait(self, ms):
        self.now += ms

    def close(self):
        del events.out[:]
        serial.select, serial.ticks_ms, uart.select, uart.sys, uart.machine, uart.micropython = self.real


class Case(unittest.TestCase):
    def setUp(self):
        self.world = World()
        self.uart = self.world.uart

    def tearDown(self):
        self.world.close()

    def line(self, number=0, baud=921600, media=2):
        self.console = console.Console()
        line = serial.SerialLine({"uart": number, "baud": baud}, self.console)
        self.sip, self.media, self.host = line.open(media)
        return line

    def sent(self):
        """What has gone out since the last time."""
        found = SlipDecoder().receive(self.uart.written)
        self.uart.written = b""
        return found

    def hear(self, line, *parts, wait_ms=0):
        """Let bytes come; returns the ports that have a datagram then."""
        for part in parts:
            self.uart.inbox += part
            ready = line.ipoll(wait_ms)
            while self.uart.inbox:
                ready = line.ipoll(wait_ms)
        return [port for port, _ in ready]

    def typed(self, line, *parts):
        """What the console reads when these pieces have come and the line has paused."""
        self.hear(line, *parts)
        line.ipoll(1000)
        return self.console.read()


class PortsTest(Case):
    def test_open(self):
        line = self.line(1)
        self.assertEqual(self.world.machine.made, [(1, 921600, BUFFERS)])
        self.assertEqual(self.world.registered, [self.uart])
        self.assertEqual(self.host, b"192.0.0.8")
        self.assertEqual((self.sip.number, [port.number for port in self.media]), (5060, [40000, 40001]))
        self.assertEqual(len(line.open(4)[1]), 4)

    def test_out(self):
        line = self.line()
        self.sip.send(b"frame")
        self.media[0].sendto(memoryview(bytearray(b"\xc0\xdb")), line.resolve(b"192.0.0.8", 40010))
        self.assertEqual(self.sent(), [(5060, b"frame"), (40010, b"\xc0\xdb")])
        with self.assertRaises(OSError):
            self.sip.send(bytes(1501))
        for port in (5061, 39999, 40256):
            with self.assertRaises(OSError):
                line.resolve(b"192.0.2.1", port)
        self.assertEqual(self.sent(), [])

    def test_in(self):
        line = self.line()
        ready = self.hear(line, encode(40001, b"report") + encode(5060, b"frame") + encode(40000, b"speech"))
        self.assertEqual(sorted([port.number for port in ready]), [5060, 40000, 40001])
        self.assertEqual(self.sip.recv(100), b"frame")
        self.assertEqual(self.media[0].recv(3), b"spe")  # the rest is cut off
        # It comes from where ours go to.
        self.media[1].sendto(b"x", 40011)
        self.assertEqual(self.media[1].recvfrom(100), (b"report", 40011))
        self.assertEqual(line.ipoll(7), [])
        self.assertEqual(self.world.now, 7)
        for port in (self.sip,) + self.media:
            with self.assertRaises(OSError):
                port.recv(100)

    def test_queues_are_bounded(self):
        line = self.line()
        for i in range(20):
            self.hear(line, encode(40000, bytes([i])))
        self.hear(line, encode(40002, b"of no stream of ours"), encode(5060, b"frame"))
        self.assertEqual([self.media[0].recv(9) for _ in range(6)], [bytes([i]) for i in range(6)])
        with self.assertRaises(OSError):
            self.media[0].recv(9)
        self.assertEqual(self.sip.recv(9), b"frame")
        self.assertEqual(line.dropped, 15)

    def test_bad_packets_cost_nothing(self):
        line = self.line()
        self.assertEqual(self.hear(line, b"\xc0\x13\xc4\xdb\xc0", b"\xc0\x9c\x40" + bytes(1501) + b"\xc0"), [])
        self.assertEqual(self.hear(line, encode(5060, b"frame")), [self.sip])

    def test_what_finds_no_room_waits(self):
        line = self.line()
        self.uart.room = 3
        self.sip.send(b"first")
        self.media[0].sendto(b"second", 40000)
        emit = events.emit
        emit("third")
        self.assertEqual(len(self.uart.written), 3)
        self.uart.room = None
        line.ipoll(0)
        self.assertEqual(self.sent(), [(5060, b"first"), (40000, b"second"), (TEXT, b'{"event": "third"}\r\n')])
        # What is too much is lost, and in one piece.
        self.uart.room = 10
        for _ in range(10):
            self.media[0].sendto(bytes(1000), 40000)
        self.assertEqual(line.dropped, 6)
        self.uart.room = None
        self.sip.send(b"after")
        self.assertEqual(self.sent(), [(40000, bytes(1000))] * 4 + [(5060, b"after")])

    def test_an_event_is_no_packet(self):
        self.line()
        self.sip.send(b"a")
        events.emit("message", text="\xc0\x13\xc4 \u00db ☎ \x13Ä")
        self.sip.send(b"b")
        first, text, _, last = self.sent()
        self.assertEqual((first, last), ((5060, b"a"), (5060, b"b")))
        self.assertEqual(json.loads(text[1]), {"event": "message", "text": "\xc0\x13\xc4 \u00db ☎ \x13Ä"})


class TextTest(Case):
    def test_commands(self):
        line = self.line()
        self.assertEqual(self.typed(line, b"call bob\r\nsta", b"tus\n"), ["call bob", "status"])
        # A packet ends a text, and may be anywhere.
        self.hear(line, b"ans" + encode(5060, b"x") + b"wer\n" + encode(40000, b"y"))
        self.assertEqual(self.console.read(), ["answer"])

    def test_text_waits_for_a_pause(self):
        line = self.line()
        self.hear(line, b"hangup\n")
        self.assertEqual(self.console.read(), [])
        self.assertEqual(line.ipoll(1000), [])
        self.assertEqual(self.world.now, 5)  # and not for longer
        self.assertEqual(self.console.read(), ["hangup"])

    def test_what_was_typed_wakes(self):
        line = self.line()
        self.hear(line, b"chat\nhello\n" + encode(5060, b"x"))
        self.sip.recv(9)
        self.assertEqual(self.console.read(), ["chat"])
        self.console.is_chatting = True
        before = self.world.now
        line.ipoll(1000)  # the rest is there already
        self.assertEqual(self.world.now, before)
        self.assertEqual(self.console.read(), [console.TYPED + "hello\n"])

    def test_characters_in_pieces(self):
        line = self.line()
        self.console.is_chatting = True
        self.assertEqual(
            self.typed(line, "Gr\u00fc".encode()[:-1], "\u00fc".encode()[-1:] + b"n"), [console.TYPED + "Grün"]
        )

    def test_readable_without_anything(self):
        """A line that always says that it can be read does not keep what was typed waiting."""
        line = self.line()
        self.hear(line, b"status\n")
        line._select = AlwaysReadable(self.world)
        for _ in range(3):
            line.ipoll(1000)
        self.assertEqual(self.console.read(), ["status"])

    def test_noise_is_no_text(self):
        line = self.line()
        self.console.is_chatting = True
        speech = bytes([0x80, 0, 1, 3, 0x0A, 3, 0xFF, 0x41, 3, 0x0D])
        broken = b"X" + encode(40000, speech)[1:]  # its first C0 is lost
        for pieces in (
            [broken],
            [broken[:1], broken[1:]],
            [broken[i : i + 1] for i in range(len(broken))],
            [b"\x00"],
            [b"\x1b[A"],
            [b"\xff\x03"],
        ):
            self.hear(line, *pieces)
            self.hear(line, encode(5060, b"frame"))
            self.assertEqual(self.sip.recv(9), b"frame")
            line.ipoll(1000)
            self.assertEqual(self.console.read(), [])
        self.assertEqual(line.noise, 6)
        self.assertEqual(self.typed(line, b"text"), [console.TYPED + "text"])

    def test_flood_of_text(self):
        line = self.line()
        for _ in range(100):
            self.hear(line, b"x" * 400)
            self.assertTrue(len(line._pending) <= 1024)
        line.ipoll(1000)
        self.assertEqual(self.typed(line, b"\nstatus\n"), ["status"])
        # What is pasted has lines; what is too much of it is lost.
        for _ in range(100):
            self.hear(line, b"write hello there\n" * 20)
            self.assertTrue(len(line._pending) <= 1024 and len(line._typed) <= 2048)
        self.assertTrue("write hello there" in self.typed(line, b"\n"))

    def test_ctrl_c(self):
        for keys in (b"\x03", b"\r\x03", b"call b\x03"):
            line = self.line()
            self.hear(line, keys)
            with self.assertRaises(KeyboardInterrupt):
                line.ipoll(1000)
        line = self.line()
        with self.assertRaises(KeyboardInterrupt):
            self.hear(line, b"\x03" + encode(5060, b"x"))
        self.assertEqual(self.hear(line, encode(40000, b"\x03")), [self.media[0]])


class PromptTest(Case):
    """Whose the line was before, and is afterwards."""

    def test_uart_of_the_prompt(self):
        line = self.line(0)
        events.emit("a")
        line.close()
        self.assertEqual((self.uart.calls, self.world.micropython.calls), ([("init", 115200)], []))
        self.assertEqual(events.out, [])

    def test_other_uart(self):
        self.line(1).close()
        self.assertEqual(self.uart.calls, [("deinit",)])

    def test_what_waits_goes_out_before(self):
        line = self.line(0)
        self.uart.room = 2
        events.emit("last")
        self.uart.room = None
        line.close()
        self.assertEqual(self.uart.written, b'{"event": "last"}\r\n')

    def test_stuck(self):
        line = self.line(0)
        self.uart.room = 0
        events.emit("last")
        line.close()  # and does not wait for ever
        self.assertEqual(self.uart.calls, [("init", 115200)])

    def test_usb(self):
        line = self.line(-1)
        # What is written to USB goes to the prompt's UART, too: with its own speed that would take longer than speech.
        self.assertEqual((self.world.machine.made, self.world.micropython.calls), ([(0, 921600, {})], [-1]))
        self.assertEqual(self.hear(line, encode(5060, b"frame") * 3), [self.sip])
        self.assertEqual([self.sip.recv(9) for _ in range(3)], [b"frame"] * 3)
        self.hear(line, bytes(600) + encode(5060, b"long"))
        line.ipoll(0)
        self.assertEqual(self.sip.recv(9), b"long")
        events.emit("a")
        self.assertEqual(self.sent(), [(TEXT, b'{"event": "a"}\r\n')])
        line.close()
        self.assertEqual((self.uart.calls, self.world.micropython.calls), ([], [-1, 3]))
        self.assertEqual(self.world.machine.made[1:], [(0, 115200, {})])

    def test_prompt_of_an_esp32(self):
        """Its UART hears nothing while another one has its pins."""
        self.world.machine.prompt = 0
        for machine, pins in (
            ("Generic ESP32 module with SPIRAM with ESP32", {"tx": 1, "rx": 3}),
            ("Generic ESP32S3 module with ESP32S3", {"tx": 43, "rx": 44}),
            ("Generic ESP32C3 module with ESP32C3", {"tx": 21, "rx": 20}),
        ):
            uart.sys._machine = machine
            line = self.line(0)
            self.assertEqual(self.world.machine.made, [(1, 921600, dict(BUFFERS, **pins))])
            self.assertEqual(self.hear(line, encode(5060, b"frame")), [self.sip])
            self.sip.recv(9)
            line.close()
            self.assertEqual((self.uart.calls, self.world.micropython.calls), ([("deinit",)], [-1, 3]))
            self.assertEqual(self.world.machine.made[1:], [(0, 115200, pins)])
            self.world.registered.clear()
            for made in (self.world.machine.made, self.uart.calls, self.world.micropython.calls):
                made.clear()
            del events.out[:]

    def test_uart_that_is_standard_input(self):
        """As on an ESP32 whose pins nobody knows: the prompt's UART is set up but not read."""
        self.world.machine.prompt = 0
        line = self.line(0, 230400)
        self.assertEqual(self.world.machine.made, [(0, 230400, {})])
        self.assertEqual(self.hear(line, encode(5060, b"frame")), [self.sip])
        line.close()
        self.assertEqual(self.world.machine.made[1:], [(0, 115200, {})])
        self.assertEqual(self.world.micropython.calls, [-1, 3])

    def test_no_such_uart(self):
        self.world.machine.exists = False
        with self.assertRaises(ConfigError):
            self.line(7)
        self.assertEqual((events.out, self.world.micropython.calls), ([], []))


class ConfigTest(unittest.TestCase):
    def test_good(self):
        values = settings(serial={"uart": 1})
        del values["neighbour"]
        config = make_config(values)
        self.assertEqual((config.serial, config.neighbour[1]), ({"uart": 1, "baud": 921600}, 5060))
        self.assertEqual(make_config(settings()).serial, {})
        self.assertEqual(make_config(settings(serial={"baud": 115200})).serial, {"uart": 0, "baud": 115200})

    def test_bad(self):
        for changes in (
            {"serial": {"uart": 0}, "wifi": {"ssid": "x"}},
            {"serial": {"uart": 0}, "address": "192.0.2.7"},
            {"serial": {"uart": 0}, "sip_port": 5070},
            {"serial": {"uart": 0}, "rtp_port": 40002},
        ):
            with self.assertRaises(ConfigError):
                make_config(settings(**changes))


class OnLine(Whole):
    """A whole terminal whose neighbour is at the other end of a line.

    Attributes:
        media: (port, datagram) of what it has sent beside SIP.
    """

    def __init__(self, **changes):
        changes["address"] = ""
        super().__init__(serial={"uart": 0}, **changes)
        self.around = World()
        self.uart = self.around.uart
        self.around.wait = self.wait
        serial.ticks_ms = lambda: self.now
        self.uart.heard = self._heard
        self._decoder = SlipDecoder()
        self.media = []
        self.said = b""

    def close(self):
        self.around.close()
        super().close()

    def _heard(self, data):
        for port, part in self._decoder.receive(data):
            if port == TEXT:
                self.said += part
            elif port == 5060:
                self.sent(part)
            else:
                self.media.append((port, part))

    @property
    def sip(self):
        return self

    @property
    def inbox(self):
        return self

    def append(self, datagram):
        self.uart.inbox += encode(5060, datagram)

    def run(self, *script):
        super().run(*script)
        return self.told()

    def told(self):
        return [json.loads(line) for line in self.said.split(b"\r\n") if line]


class TerminalTest(unittest.TestCase):
    def setUp(self):
        self.world = OnLine()

    def tearDown(self):
        self.world.close()

    def accepted(self):
        """The terminal's 200 to the INVITE."""
        return next(one for one in self.world.messages if not hasattr(one, "method") and one.status == 200)

    def test_registers_calls_and_quits(self):
        world = self.world

        def ring():
            world.deliver(invite(body=offer().replace(b"audio 30000", b"audio 40010")))

        def acknowledge():
            ok = self.accepted()
            world.deliver(request("ACK", ok.call_id, ok.get("from"), ok.get("to"), ok.cseq.number))

        told = world.run((1000, ring), (1500, "answer"), (1600, acknowledge), (2500, "hangup"))
        self.assertEqual([one["event"] for one in told], ["started", "registered", "incoming", "connected", "ended"])
        self.assertEqual(world.contact, b"<sip:alice@192.0.0.8:5060>")
        ok = self.accepted()
        self.assertTrue(b"c=IN IP4 192.0.0.8\r\n" in ok.body)
        self.assertTrue(b"m=audio 40000 " in ok.body)
        speech = [data for port, data in world.media if port == 40010]
        self.assertTrue(40 <= len(speech) <= 46, len(speech))  # 0.9 s
        self.assertEqual({port for port, _ in world.media}, {40010, 40011})
        self.assertEqual(world.sockets, [])  # there is no network

    def test_typed(self):
        world = self.world

        def key_in(keys):
            def act():
                world.uart.inbox += keys

            return act

        world.board.commands = world.board.console.read
        world.terminal = app.Terminal(world.config)
        world.board.commands = world.board.console.read
        world.script = [(1000, key_in(b"status\r\n")), (2000, key_in(b"quit\r\n"))]
        world.terminal.run()
        self.assertEqual([one["event"] for one in world.told()], ["started", "registered", "status"])
        self.assertEqual(world.registers, 3)

    def test_the_line_is_given_back(self):
        world = self.world

        def interrupt():
            world.uart.inbox += b"\x03"

        def crash():
            raise ValueError("as told")

        real = app.call
        app.call = lambda name, *rest: world.config if name == "terminal.config" else real(name, *rest)
        try:
            for what, error in ((interrupt, KeyboardInterrupt), (crash, ValueError)):
                world.uart.calls = []
                world.now = 0
                world.script = [(1000, what)]
                with self.assertRaises(error):
                    app.run("wisp.json")
                self.assertEqual(world.uart.calls, [("init", 115200)])
                self.assertEqual(events.out, [])
        finally:
            app.call = real


if __name__ == "__main__":
    unittest.main()
