"""rtpengine beside our relay: Debian's, in userspace, on loopback, told what to do by its ng protocol.

The ng protocol is a cookie, a space and a bencoded dictionary in a datagram, and an answer likewise (rtpengine's
``docs/ng_control_protocol``). A call is two descriptions: an offer and its answer, each with one audio line.
"""

import os
import shutil
import socket
import subprocess
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from lab.processes import LabError

__all__ = ["Rtpengine", "is_there"]

_START_S = 10.0
_ANSWER_S = 5.0
_PORTS = (20_000, 59_998)


def is_there() -> bool:
    """Whether it is installed."""
    return shutil.which("rtpengine") is not None


class Rtpengine:
    """A running one; stopped at the end of the block.

    Args:
        folder: for what it says.

    Raises:
        LabError: it does not start.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._said = folder / "rtpengine.log"
        with self._said.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "rtpengine",
                    "--config-file=none",
                    "--foreground",
                    "--log-stderr",
                    "--log-level=4",
                    "--table=-1",
                    "--num-threads=1",
                    "--timeout=0",
                    "--delete-delay=0",
                    "--interface=127.0.0.1",
                    f"--listen-ng=127.0.0.1:{port}",
                    f"--port-min={_PORTS[0]}",
                    f"--port-max={_PORTS[1]}",
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                start_new_session=True,
            )
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(_ANSWER_S)
        self._socket.connect(("127.0.0.1", port))
        self._cookie = 0

    def __enter__(self) -> "Rtpengine":
        end = time.monotonic() + _START_S
        self._socket.settimeout(0.2)
        while True:
            try:
                self.ask({"command": "ping"})
                break
            except OSError as error:
                if time.monotonic() > end or self._process.poll() is not None:
                    self.__exit__()
                    raise LabError(f"rtpengine does not start: {self._said.read_text()[-500:]}") from error
                time.sleep(0.1)
        self._socket.settimeout(_ANSWER_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, command: dict[str, Any]) -> dict[bytes, Any]:
        """Send a command, and return what it answers.

        Raises:
            LabError: it says that something is wrong.
            OSError: it says nothing.
        """
        self._cookie += 1
        cookie = b"%d_%d" % (os.getpid(), self._cookie)
        self._socket.send(cookie + b" " + _bencode(command))
        while True:
            got, _, body = self._socket.recv(65536).partition(b" ")
            if got == cookie:
                break
        answer, _ = _bdecode(body, 0)
        assert isinstance(answer, dict)
        if answer.get(b"result") not in {b"ok", b"pong"}:
            raise LabError(f"rtpengine: {answer}")
        return answer

    def call(
        self,
        name: str,
        addresses: list[list[Any]],
        lines: "list[tuple[str, bytes] | None]",
    ) -> tuple[list[int], "list[tuple[str, bytes] | None]"]:
        """Make a call of two parties that both multiplex RTCP.

        Args:
            name: its Call-ID.
            addresses: of the parties.
            lines: suite, and key and salt, of the crypto line of each; None for plain RTP.

        Returns:
            The ports that it has for each, and the keys of the packets that it sends to each.
        """
        ask = {"call-id": name, "from-tag": "f", "replace": ["origin"], "ICE": "remove"}
        profile = "RTP/SAVP" if lines[1] else "RTP/AVP"
        flags = ["port-latching"]
        offer = self.ask(
            {**ask, "command": "offer", "transport-protocol": profile, "flags": flags}
            | {"sdp": _description(addresses[0], lines[0], 1)}
        )
        to_answerer = _read(offer[b"sdp"])
        tag = 1
        if lines[1] is not None:
            # The answerer takes the line that has its suite, whoever's keys are in it.
            tag = next((at for at, suite, _ in to_answerer[1] if suite == lines[1][0]), 0)
            if not tag:
                raise LabError(f"rtpengine offers no {lines[1][0]}")
        answer = self.ask(
            {**ask, "command": "answer", "to-tag": "t", "flags": flags}
            | {"sdp": _description(addresses[1], lines[1], tag)}
        )
        to_offerer = _read(answer[b"sdp"])
        sent: list[tuple[str, bytes] | None] = [
            to_offerer[1][0][1:] if to_offerer[1] else None,
            next((line[1:] for line in to_answerer[1] if line[0] == tag), None) if lines[1] else None,
        ]
        return [to_offerer[0], to_answerer[0]], sent


def _description(address: list[Any], line: "tuple[str, bytes] | None", tag: int) -> bytes:
    profile = "RTP/SAVP" if line else "RTP/AVP"
    lines = ["v=0", f"o=- 1 1 IN IP4 {address[0]}", "s=-", f"c=IN IP4 {address[0]}", "t=0 0"]
    lines += [f"m=audio {address[1]} {profile} 0", "a=rtcp-mux"]
    if line is not None:
        lines.append(f"a=crypto:{tag} {line[0]} inline:{b64encode(line[1]).decode()}")
    return ("\r\n".join(lines) + "\r\n").encode()


def _read(description: bytes) -> tuple[int, list[tuple[int, str, bytes]]]:
    """The port, and tag, suite and key of each crypto line."""
    port, found = 0, []
    for line in description.decode().splitlines():
        if line.startswith("m="):
            port = int(line.split()[1])
        elif line.startswith("a=crypto:"):
            tag, suite, key = line.removeprefix("a=crypto:").split()[:3]
            inline = key.removeprefix("inline:").split("|")[0]
            found.append((int(tag), suite, b64decode(inline + "=" * (-len(inline) % 4))))
    return port, found


def _bencode(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"d" + b"".join(_bencode(key) + _bencode(value[key]) for key in sorted(value)) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(map(_bencode, value)) + b"e"
    if isinstance(value, int):
        return b"i%de" % value
    data = value.encode() if isinstance(value, str) else value
    return b"%d:%s" % (len(data), data)


def _bdecode(data: bytes, at: int) -> tuple[Any, int]:
    """The value that begins at a place, and where it ends."""
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in {b"l", b"d"}:
        items = []
        at += 1
        while data[at : at + 1] != b"e":
            item, at = _bdecode(data, at)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2], strict=True))), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end], end
