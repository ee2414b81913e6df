import io
import sys
import unittest

from terminal import board
from terminal.board import console, emulator
from terminal.settings import ConfigError

SILENCE = bytes(320)


def wav(samples):
    """A WAV file of 16 bits, mono, 8000 Hz."""
    size = len(samples)
    return (
        b"RIFF" + (size + 36).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data"
        + size.to_bytes(4, "little") + samples
    )  # fmt: skip


class FakeFile(io.BytesIO):
    """A file that can be looked at after it was closed."""

    is_closed = False

    def close(self):
        self.is_closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class FakeConsole:
    """Standard input, as text or by its buffer. A poll says that something is there until nothing is."""

    POLLIN = 1
    POLLOUT = 4

    def __init__(self, data=b""):
        self.data = data
        self.ended = False
        self.stdin = self.buffer = self
        self.registered = []

    def poll(self, ms=None):
        if ms is None:
            return self
        return [(self, 1)] if self.data or self.ended else []

    def register(self, item, events):
        self.registered.append((item, events))

    def unregister(self, item):
        self.registered = [one for one in self.registered if one[0] is not item]

    def read(self, size):
        got, self.data = self.data[:size], self.data[size:]
        return got


def refusal(make, **settings):
    """What is said of a board's settings."""
    try:
        make(**settings)
    except ConfigError as error:
        return str(error)
    return None


class OpenTest(unittest.TestCase):
    def test_the_unix_port_is_emulated(self):
        made = board.open_board({"address": "127.0.0.9"})
        self.assertIsInstance(made, emulator.Board)
        self.assertEqual(made.address(), "127.0.0.9")


class EmulatorTest(unittest.TestCase):
    def setUp(self):
        self.console = FakeConsole()
        self.real = emulator.sys, console.sys, console.select
        emulator.sys = console.sys = console.select = self.console
        self.files = {}
        emulator.open = self.open
        self.pcm = bytearray(320)

    def tearDown(self):
        emulator.sys, console.sys, console.select = self.real
        del emulator.open

    def open(self, name, mode):
        if mode == "wb":
            self.files[name] = FakeFile()
        elif name not in self.files:
            raise OSError(2)
        else:
            self.files[name].seek(0)
        return self.files[name]

    def make(self, **settings):
        return emulator.Board(settings)

    def test_address_and_no_wlan(self):
        self.assertEqual(self.make().address(), "127.0.0.1")
        self.assertEqual(self.make(address="127.0.0.3").address(), "127.0.0.3")
        self.assertIsNone(self.make().wlan({"ssid": "x"}))
        self.assertIsNone(self.make().show("ringing"))

    def test_mistakes(self):
        for settings, words in (
            ({"speeker": "out.wav"}, "board.speeker: unknown"),
            ({"address": 7}, "board.address: wrong type"),
            ({"microphone": True}, "board.microphone: wrong type"),
        ):
            self.assertEqual(refusal(self.make, **settings), words)

    def test_lines(self):
        made = self.make()
        self.assertEqual(made.commands(), [])
        self.console.data = b"call bob@b.exam"
        self.assertEqual(made.commands(), [])
        self.console.data = b"ple\r\n answer \n\nhang"
        self.assertEqual(made.commands(), ["call bob@b.example", "answer"])
        self.console.data = b"up\n"
        self.assertEqual(made.commands(), ["hangup"])

    def test_chat(self):
        """What is typed goes at once, but for half a character and a full stop that may end it."""
        made = self.make()
        for typed, expected in (
            (b"chat\n", ["chat"]),
            (b"H", ["\0H"]),
            (b"i.\xe2\x82", ["\0i."]),
            (b"\xac\r", ["\0\u20ac\n"]),
            (b".", []),
            (b"..", ["\0..."]),
            (b" no\n.\nhangup\n", ["\0 no\n", "hangup"]),
            (b"x\n", ["x"]),
        ):
            self.console.data = typed
            found = made.commands()
            if found == ["chat"]:
                made.console.is_chatting = True
            self.assertEqual(found, expected)
        self.console.data = b"chat\nstatus\n"  # both at once, and no call: what follows was no text
        self.assertEqual([made.commands(), made.commands()], [["chat"], ["status"]])
        self.console.data = b"chat\nyes\n.\nchat"
        self.assertEqual(made.commands(), ["chat"])
        made.console.is_chatting = True
        self.assertEqual(made.commands(), ["\0yes\n"])
        self.console.data += b"\n"
        self.assertEqual(made.commands(), ["chat"])
        made.console.is_chatting = True
        self.console.data = b"\xff\xfe\xe2a\xf0\x9f\x98"
        self.assertEqual(made.commands(), ["\0???a"])
        self.console.data = b"\x80 " + b"y" * 2000
        self.assertEqual(made.commands(), ["\0" + "\U0001f600 " + "y" * 2000])

    def test_text_that_comes_with_its_command(self):
        """What a person pastes, or a program writes, after ``chat`` is no command."""
        made = self.make()
        self.console.data = b"status\nchat\nanswer\n.\nhangup\n"
        self.assertEqual(made.commands(), ["status", "chat"])
        made.console.is_chatting = True
        self.assertEqual(made.commands(), ["\0answer\n", "hangup"])

    def test_end_of_input(self):
        made = self.make()
        self.assertEqual(made.inputs(), [self.console])
        self.console.ended = True
        self.assertEqual(made.commands(), ["quit"])
        self.assertEqual(made.commands(), [])
        self.assertEqual(made.inputs(), [])

    def test_long_line(self):
        made = self.make()
        self.console.data = b"x" * 2000 + b"\nanswer\n"
        first, second = made.commands()
        self.assertEqual((first, second), ("x" * 512, "answer"))

    def test_what_is_no_text(self):
        """Noise on the line is a line like any other, and the next is read."""
        made = self.make()
        for noise in (b"\xff\xfe\x80", b"\xc3", "é".encode() * 400, b"\0\x1b[A", b"x" * 511 + "é".encode()):
            self.console.data = noise + b"\nanswer\n"
            lines = made.commands()
            self.assertEqual((len(lines), lines[1]), (2, "answer"))

    def test_microphone_and_speaker(self):
        samples = bytes([i & 0xFF for i in range(800)])
        self.files["in.wav"] = FakeFile(wav(samples))
        audio = self.make(microphone="in.wav", speaker="out.wav").audio
        audio.start()
        heard = b""
        for _ in range(4):
            audio.read(self.pcm)
            heard += bytes(self.pcm)
            audio.write(self.pcm)
        self.assertEqual(heard, samples + bytes(1280 - 800))  # once, then silence
        audio.stop()
        self.assertEqual(self.files["out.wav"].getvalue(), wav(heard))
        self.assertTrue(self.files["in.wav"].is_closed and self.files["out.wav"].is_closed)

    def test_each_call_begins_anew(self):
        samples = bytes([7]) * 320
        self.files["in.wav"] = FakeFile(wav(samples))
        audio = self.make(microphone="in.wav", speaker="out.wav").audio
        for frames in (3, 1):
            audio.start()
            audio.read(self.pcm)
            self.assertEqual(bytes(self.pcm), samples)
            for _ in range(frames):
                audio.write(self.pcm)
            audio.stop()
            self.assertEqual(self.files["out.wav"].getvalue(), wav(samples * frames))

    def test_neither(self):
        audio = self.make().audio
        audio.start()
        self.pcm[:] = b"\x55" * 320
        audio.read(self.pcm)
        self.assertEqual(bytes(self.pcm), SILENCE)
        audio.write(self.pcm)
        audio.stop()
        audio.stop()
        self.assertEqual(self.files, {})

    def test_no_watchdog(self):
        self.assertIsNone(self.make().watch(60))

    def test_no_wav(self):
        """What is no recording of that form would be noise, and shows before anybody calls."""
        cd = wav(bytes(320))
        for data in (b"ID3" + bytes(500), b"", cd[:20], cd[:22] + b"\x02" + cd[23:], cd[:24] + b"\x44\xac" + cd[26:]):
            self.files["in.wav"] = FakeFile(data)
            words = refusal(self.make, microphone="in.wav")
            self.assertEqual(words, "board.microphone: in.wav: a WAV file of 8000 Hz, 16 bits, mono is wanted")
        self.assertEqual(refusal(self.make, microphone="no.wav"), "board.microphone: no.wav: can't be read")


# What follows stands in for hardware that the machine of the tests has not. It shows what our code asks of MicroPython's
# `machine` and `network`, and what it makes of their answers; whether a real board answers like that only a board shows.


class FakePin:
    IN, OUT, PULL_UP = "in", "out", "up"
    made = {}

    def __init__(self, number, mode=None, pull=None):
        if number > 48:
            raise ValueError("invalid pin")
        self.number, self.mode, self.pull = number, mode, pull
        self.level = 1
        FakePin.made[number] = self

    def value(self, level=None):
        if level is None:
            return self.level
        self.level = int(level)
        return None


class FakeI2S:
    """An I2S unit.

    Attributes:
        ready: what the microphone has.
        taken: what the speaker was given.
    """

    RX, TX, MONO = "rx", "tx", "mono"
    made = []
    units = 2

    def __init__(self, number, **settings):
        if number >= FakeI2S.units:
            raise ValueError("invalid id")
        self.number, self.settings = number, settings
        self.ready = b""
        self.taken = b""
        self.is_on = True
        FakeI2S.made.append(self)

    def readinto(self, buffer):
        if not self.ready:
            return None  # non-blocking, and nothing there
        got, self.ready = self.ready[: len(buffer)], self.ready[len(buffer) :]
        buffer[: len(got)] = got
        return len(got)

    def write(self, data):
        self.taken += bytes(data)
        return len(data)

    def deinit(self):
        self.is_on = False

    @staticmethod
    def shift(buf, bits, shift):
        assert bits == 16
        for i in range(0, len(buf), 2):
            value = (buf[i] | buf[i + 1] << 8) << shift & 0xFFFF
            buf[i], buf[i + 1] = value & 0xFF, value >> 8


class FakeWDT:
    """A watchdog as the ESP32's: making it anew gives it another time.

    Attributes:
        log: the times that it was given, and "fed".
        most_ms: the longest time that it can wait.
    """

    log = []
    most_ms = 1000000000

    def __init__(self, timeout):
        if timeout > FakeWDT.most_ms:
            raise ValueError("timeout too long")
        FakeWDT.log.append(timeout)

    def feed(self):
        FakeWDT.log.append("fed")


class FakeMachine:
    Pin = FakePin
    I2S = FakeI2S
    WDT = FakeWDT


class FakeStation:
    connected = False
    power = []

    def active(self, on):
        pass

    def config(self, **settings):
        FakeStation.power.append(settings)

    def isconnected(self):
        return self.connected

    def ifconfig(self):
        return ("192.0.2.44", "255.255.255.0", "192.0.2.1", "192.0.2.1")


class FakeNetwork:
    STA_IF = 0
    station = FakeStation()

    class WLAN:
        PM_NONE = 0
        PM_PERFORMANCE = 1

        def __new__(cls, interface):
            return FakeNetwork.station


class FakeTime:
    def __init__(self):
        self.ms = 1000

    def ticks_ms(self):
        return self.ms & 0x3FFFFFFF

    @staticmethod
    def ticks_diff(one, two):
        return ((one - two + 0x20000000) & 0x3FFFFFFF) - 0x20000000


class Esp32Test(unittest.TestCase):
    def setUp(self):
        self.before = {name: sys.modules.get(name) for name in ("machine", "network")}
        sys.modules["machine"] = FakeMachine
        sys.modules["network"] = FakeNetwork
        from terminal.board import esp32

        self.module = esp32
        self.real = esp32.sys, esp32.select, esp32.time, console.sys, console.select
        self.console = FakeConsole()
        self.time = FakeTime()
        esp32.sys = esp32.select = console.sys = console.select = self.console
        esp32.time = self.time
        FakePin.made = {}
        FakeI2S.made = []
        FakeI2S.units = 2
        FakeMachine.I2S = FakeI2S
        FakeStation.connected = False
        FakeStation.power = []
        FakeWDT.log = []
        self.pcm = bytearray(320)

    def tearDown(self):
        module = self.module
        module.sys, module.select, module.time, console.sys, console.select = self.real
        for name, module in self.before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module

    def make(self, **settings):
        made = self.module.Board(settings)
        for unit in FakeI2S.made:  # it has tried them, and let go of them
            self.assertFalse(unit.is_on)
        FakeI2S.made = []
        return made

    def test_is_picked_where_there_are_pins(self):
        self.assertIsInstance(board.open_board({}), self.module.Board)

    def test_one_unit(self):
        """As on an ESP32-C3: either the microphone or the speaker, and it says so before anybody calls."""
        FakeI2S.units = 1
        for settings, name in (({}, "speaker"), ({"mic_sd": -1}, None), ({"speaker_sd": -1}, None)):
            words = refusal(self.make, **settings)
            if name:
                self.assertIn("board.%s_sd: no I2S unit for it (invalid id): " % name, words)
                self.assertIn("-1 for none", words)
                self.assertEqual([unit.is_on for unit in FakeI2S.made], [False])
            else:
                self.assertIsNone(words)
        self.assertEqual([one for one, _ in self.console.registered if isinstance(one, FakeI2S)], [])
        for settings, mode in (({"mic_sck": -1}, "tx"), ({"speaker_sck": -1}, "rx")):
            audio = self.make(**settings).audio
            audio.start()
            (unit,) = FakeI2S.made
            self.assertEqual((unit.number, unit.settings["mode"]), (0, mode))
            audio.write(self.pcm)
            audio.read(self.pcm)
            audio.stop()
            FakeI2S.made = []

    def test_firmware_without_i2s(self):
        """Text can be had with it."""
        del FakeMachine.I2S
        self.assertIn("board.mic_sd: no I2S unit for it (", refusal(self.make))
        self.assertIn("board.speaker_sd: no I2S unit for it (", refusal(self.make, mic_sd=-1))
        self.make(mic_sd=-1, speaker_sd=-1)
        self.assertIsInstance(board.open_board({"mic_sd": -1, "speaker_sd": -1}), self.module.Board)

    def test_address(self):
        made = self.make()
        self.assertIsNone(made.address())
        FakeStation.connected = True
        self.assertEqual(made.address(), "192.0.2.44")

    def test_wlan(self):
        from terminal.wlan import Wlan

        self.assertIsInstance(self.make().wlan({"ssid": "x"}), Wlan)
        self.assertIsNone(self.make().wlan({}))

    def test_pins(self):
        self.make()
        self.assertEqual((FakePin.made[0].mode, FakePin.made[0].pull), ("in", "up"))
        self.assertEqual(FakePin.made[2].mode, "out")
        for number in (32, 25, 33, 26, 27, 22):
            self.assertIsNone(FakePin.made[number].mode)  # its unit sets it up
        FakePin.made = {}
        made = self.make(button=-1, led=-1, mic_sd=-1, speaker_sd=-1)
        self.assertEqual(sorted(FakePin.made), [25, 26, 27, 32])
        made.show("ringing")
        self.assertEqual(made.commands(), [])

    def test_mistakes(self):
        for settings, words in (
            ({"lamp": 2}, "board.lamp: unknown"),
            ({"led": "2"}, "board.led: wrong type"),
            ({"led": 99}, "board.led: 99: invalid pin"),
            ({"mic_sd": 99}, "board.mic_sd: 99: invalid pin"),
            ({"mic_shift": 16}, "board.mic_shift: -15 to 15 wanted"),
            ({"mic_shift": -16}, "board.mic_shift: -15 to 15 wanted"),
        ):
            self.assertEqual(refusal(self.make, **settings), words)

    def test_neither_microphone_nor_speaker(self):
        audio = self.make(mic_sck=-1, speaker_ws=-1).audio
        audio.start()
        self.assertEqual(FakeI2S.made, [])
        self.pcm[:] = b"\x55" * 320
        audio.write(self.pcm)
        audio.read(self.pcm)
        self.assertEqual(bytes(self.pcm), SILENCE)
        audio.stop()

    def test_lines(self):
        made = self.make()
        self.assertEqual(made.inputs(), [self.console])
        self.console.data = b"call bob\r\n\r\nans"
        self.assertEqual(made.commands(), ["call bob"])
        self.console.data = b"wer\r"
        self.assertEqual(made.commands(), ["answer"])
        self.console.data = b"y" * 2000 + b"\nquit\n"
        self.assertEqual(made.commands(), ["y" * 512, "quit"])

    def test_noise_on_the_line(self):
        made = self.make()
        self.console.data = b"\xff\xe0\x80\0\n\xe0\ranswer\n" + "é".encode() * 300 + b"\nquit\n"
        lines = made.commands()
        self.assertEqual((len(lines), lines[2], lines[4]), (5, "answer", "quit"))

    def press(self, made, ms):
        """Hold the button down and look every 10 ms; returns what the board makes of it."""
        FakePin.made[0].level = 0
        told = []
        for _ in range(ms // 10):
            told += made.commands()
            self.time.ms += 10
        FakePin.made[0].level = 1
        return told + made.commands()

    def test_button(self):
        """Each press counts once, however long; what is shorter than 50 ms is a bounce."""
        made = self.make()
        self.assertEqual(made.commands(), [])
        for ms, told in (
            (500, ["button"]),
            (5000, ["button"]),
            (70, ["button"]),
            (40, []),
            (10, []),
            (100, ["button"]),
        ):
            self.assertEqual(self.press(made, ms), told)
            self.time.ms += 100

    def test_button_that_bounces(self):
        made = self.make()
        told = []
        for ms in (10, 20, 10, 200, 10, 20):
            told += self.press(made, ms)
            self.time.ms += 5
        self.assertEqual(told, ["button"])

    def test_button_across_the_wrap_of_the_ticks(self):
        made = self.make()
        for start in (0x3FFFFFFF - 20, 0x40000000 - 1, 0x40000000):
            self.time.ms = start
            self.assertEqual(self.press(made, 200), ["button"])

    def test_lamp(self):
        made = self.make()
        for state, lit in (("idle", 0), ("talking", 1), ("answered", 1), ("cancelling", 1), ("idle", 0)):
            made.show(state)
            self.assertEqual(FakePin.made[2].level, lit)
        for state in ("ringing", "calling"):
            levels = []
            for _ in range(20):
                made.show(state)
                levels.append(FakePin.made[2].level)
                self.time.ms += 50
            self.assertEqual(sorted(levels), [0] * 10 + [1] * 10)

    def test_power_save(self):
        """Off from the moment that it rings, here or there, to the end of the call."""
        made = self.make(led=-1)
        made.show("talking")  # without Wi-Fi there is nothing to do
        made.wlan({"ssid": "x"})
        for state in ("idle", "idle", "ringing", "answered", "talking", "idle", "calling", "cancelling", "idle"):
            made.show(state)
        self.assertEqual([one["pm"] for one in FakeStation.power], [1, 0, 1, 0, 1])

    def test_watchdog(self):
        """It can't be stopped: at the end it has a week."""
        made = self.make()
        self.assertIsNone(made.watch(0))
        self.assertEqual(FakeWDT.log, [])  # never begun, so there is nothing to end
        feed = made.watch(60)
        feed()
        feed()
        self.assertIsNone(made.watch(0))
        self.assertEqual(FakeWDT.log, [60000, "fed", "fed", 604800000])
        # ESP-IDF counts half milliseconds, and twice the time until its second stage, in 32 bits.
        self.assertLess(604800000 // 1000 * 4, 4294967)

    def test_no_watchdog(self):
        """A chip without one, or with one for a few seconds as the RP2040 has it."""
        made = self.make()
        most, FakeWDT.most_ms = FakeWDT.most_ms, 8388
        try:
            self.assertIsNone(made.watch(60))
            self.assertIsNone(made.watch(0))
        finally:
            FakeWDT.most_ms = most
        del FakeMachine.WDT
        try:
            self.assertIsNone(made.watch(60))
            self.assertIsNone(made.watch(0))
        finally:
            FakeMachine.WDT = FakeWDT
        self.assertEqual(FakeWDT.log, [])

    def test_audio_units(self):
        audio = self.make(mic_sd=35, speaker_sd=21).audio
        self.assertEqual(FakeI2S.made, [])
        audio.start()
        microphone, speaker = FakeI2S.made
        for unit, number, mode, pins in ((microphone, 0, "rx", (32, 25, 35)), (speaker, 1, "tx", (26, 27, 21))):
            settings = unit.settings
            self.assertEqual((unit.number, settings["mode"]), (number, mode))
            self.assertEqual(tuple([settings[name].number for name in ("sck", "ws", "sd")]), pins)
            self.assertEqual((settings["bits"], settings["format"], settings["rate"]), (16, "mono", 8000))
            self.assertGreaterEqual(settings["ibuf"], 3200)  # 200 ms: what the pump makes up after a pause
        # Polling is what puts a unit into its non-blocking mode.
        registered = [item for item, _ in self.console.registered]
        self.assertTrue(microphone in registered and speaker in registered)
        audio.stop()
        self.assertFalse(microphone.is_on or speaker.is_on)
        registered = [item for item, _ in self.console.registered]
        self.assertFalse(microphone in registered or speaker in registered)
        audio.stop()
        audio.start()
        self.assertEqual(len(FakeI2S.made), 4)
        self.assertTrue(FakeI2S.made[2].is_on)

    def test_microphone(self):
        audio = self.make().audio
        audio.start()
        microphone = FakeI2S.made[0]
        self.pcm[:] = b"\x55" * 320
        audio.read(self.pcm)
        self.assertEqual(bytes(self.pcm), SILENCE)  # nothing there yet
        microphone.ready = b"\1\2" * 100
        audio.read(self.pcm)
        self.assertEqual(bytes(self.pcm), b"\1\2" * 100 + bytes(120))
        microphone.ready = b"\3\4" * 200
        audio.read(self.pcm)
        self.assertEqual(bytes(self.pcm), b"\3\4" * 160)
        self.assertEqual(microphone.ready, b"\3\4" * 40)

    def test_quiet_microphone(self):
        audio = self.make(mic_shift=3).audio
        audio.start()
        FakeI2S.made[0].ready = b"\1\0\xff\xff\0\1" + bytes(314)
        audio.read(self.pcm)
        self.assertEqual(bytes(self.pcm[:6]), b"\x08\0\xf8\xff\0\x08")

    def test_speaker(self):
        audio = self.make().audio
        audio.start()
        self.pcm[:] = bytes([i & 0xFF for i in range(320)])
        audio.write(self.pcm)
        self.assertEqual(FakeI2S.made[1].taken, bytes(self.pcm))


if __name__ == "__main__":
    unittest.main()
