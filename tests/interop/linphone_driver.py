"""Drives liblinphone without screen and sound card: ``python linphone_driver.py LIBRARY CONFIG HOSTS TONE RECORDING``.

Commands come on standard input, a line each: ``call URI``, ``answer``, ``hangup``, ``text`` (calls from now on have
real-time text), ``write TEXT``, ``press DIGITS``; SIGTERM ends it. Events go to standard output as JSON, with the names that `phones.Phone` lists. It is a program of its own because the library wants
to be called again and again from one thread, and because its end should be nobody else's.
"""

import ctypes
import json
import os
import select
import signal
import sys
from ctypes import CFUNCTYPE, c_char_p, c_int, c_uint32, c_void_p

_ITERATE_S = 0.02  # what the library asks for
_REGISTRATIONS = {2: "registered", 4: "refused"}
_INCOMING, _OUTGOING_ERROR, _RUNNING, _ENDED = 1, 13, 8, 14
_SRTP = 1
_LINE_END = 0x2028  # LINE SEPARATOR, as T.140 has it

_ON_REGISTRATION = CFUNCTYPE(None, c_void_p, c_void_p, c_int, c_char_p)
_ON_CALL = CFUNCTYPE(None, c_void_p, c_void_p, c_int, c_char_p)
_ON_DIGIT = CFUNCTYPE(None, c_void_p, c_void_p, c_int)


def _say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Linphone:
    """A core with its callbacks."""

    def __init__(self, library: str, config: str, hosts: str, tone: str, recording: str) -> None:
        self._library = ctypes.CDLL(library)
        self._connected: set[int] = set()
        self._message: c_void_p | None = None  # the line that is being written
        factory = self._pointer("linphone_factory_get")
        core = self._core = self._pointer("linphone_factory_create_core_3", factory, config.encode(), None, None)
        # Files in place of a sound card.
        self._call("linphone_core_set_use_files", core, 1)
        self._call("linphone_core_set_play_file", core, tone.encode())
        self._call("linphone_core_set_record_file", core, recording.encode())
        # It resolves names by itself and does not look into /etc/hosts.
        self._call("sal_set_dns_user_hosts_file", self._pointer("linphone_core_get_sal", core), hosts.encode())
        callbacks = self._pointer("linphone_factory_create_core_cbs", factory)
        # Kept here, or the garbage collector takes what the library still calls.
        self._kept = (_ON_REGISTRATION(self._on_registration), _ON_CALL(self._on_call), _ON_DIGIT(self._on_digit))
        self._call("linphone_core_cbs_set_account_registration_state_changed", callbacks, self._kept[0])
        self._call("linphone_core_cbs_set_call_state_changed", callbacks, self._kept[1])
        self._call("linphone_core_cbs_set_dtmf_received", callbacks, self._kept[2])
        self._call("linphone_core_add_callbacks", core, callbacks)
        if self._call("linphone_core_start", core) != 0:
            raise SystemExit("linphone_core_start failed")

    def _call(self, name: str, *arguments: object) -> int:
        """Call a function that returns a number, or nothing."""
        function = getattr(self._library, name)
        function.restype = c_int
        return int(function(*arguments))

    def _pointer(self, name: str, *arguments: object) -> c_void_p:
        """Call a function that returns a pointer; as a plain number ctypes would pass it on with 32 bits."""
        function = getattr(self._library, name)
        function.restype = c_void_p
        return c_void_p(function(*arguments))

    def _on_registration(self, core: int, account: int, state: int, message: bytes) -> None:
        if state in _REGISTRATIONS:
            _say(_REGISTRATIONS[state], reason=message.decode())

    def _on_call(self, core: int, call: int, state: int, message: bytes) -> None:
        if state == _INCOMING:
            _say("incoming")
        elif state == _RUNNING and call not in self._connected:
            self._connected.add(call)
            parameters = self._pointer("linphone_call_get_current_params", c_void_p(call))
            if self._call("linphone_call_params_get_media_encryption", parameters) == _SRTP:
                _say("secured")
            _say("connected")
        elif state in {_OUTGOING_ERROR, _ENDED}:
            self._connected.discard(call)
            self._message = None
            _say("ended", reason=message.decode())

    def _on_digit(self, core: int, call: int, digit: int) -> None:
        _say("dtmf", digit=chr(digit))

    def _room(self) -> c_void_p | None:
        """Where the text of the present call is."""
        call = self._pointer("linphone_core_get_current_call", self._core)
        return self._pointer("linphone_call_get_chat_room", call) if call else None

    def _write(self, text: str) -> None:
        """Write character by character, as a person does; a line ends with its message."""
        room = self._room()
        assert room is not None
        if self._message is None:
            self._message = self._pointer("linphone_chat_room_create_message_from_utf8", room, b"")
        for character in text:
            self._call("linphone_chat_message_put_char", self._message, c_uint32(ord(character)))

    def read_text(self) -> None:
        """Say what has come."""
        room = self._room() if self._connected else None
        text = ""
        while room and (character := self._call("linphone_chat_room_get_char", room)):
            text += chr(character)
        if text:
            _say("text", text=text.replace(chr(_LINE_END), "\n"))

    def command(self, line: str) -> None:
        """One line of standard input."""
        words = line.split()
        if words[:1] == ["call"]:
            self._pointer("linphone_core_invite", self._core, words[1].encode())
        elif words == ["answer"]:
            self._call("linphone_call_accept", self._pointer("linphone_core_get_current_call", self._core))
        elif words == ["hangup"]:
            self._call("linphone_core_terminate_all_calls", self._core)
        elif words == ["text"]:
            self._call("linphone_core_enable_realtime_text", self._core, 1)
        elif words[:1] == ["write"]:
            self._write(line.partition(" ")[2].replace("\\b", "\b") + chr(_LINE_END))
        elif words[:1] == ["press"]:
            call = self._pointer("linphone_core_get_current_call", self._core)
            self._call("linphone_call_send_dtmfs", call, words[1].encode())

    def iterate(self) -> None:
        """Let the library work."""
        self._call("linphone_core_iterate", self._core)

    def stop(self) -> None:
        """Unregister and end."""
        self._call("linphone_core_stop", self._core)


def main() -> None:
    """Run until SIGTERM."""
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    phone = Linphone(*sys.argv[1:])
    pending = b""
    while not stopping:
        phone.iterate()
        phone.read_text()
        if select.select([0], [], [], _ITERATE_S)[0]:
            pending += os.read(0, 4096)
            *lines, pending = pending.split(b"\n")
            for line in lines:
                phone.command(line.decode())
    phone.stop()


if __name__ == "__main__":
    main()
