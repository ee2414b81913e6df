"""baresip without screen and sound card, driven over its control connection.

Installs: Debian's baresip-core (see ``tools/peers.py``). What has to be known about 1.0:

* It knows no digest but MD5.
* With ``uanew`` an account is made while somebody listens: an account in its file would register before anybody could
  hear how that went.
* It resolves names by itself, by NAPTR, SRV and A, with the server of its configuration, and knows no hosts file.
* It checks no certificate.
* Its TCP, TLS and RTP leave from 127.0.0.1, whatever its address is, and its RTP ports are those of every address; SIP
  over UDP leaves from its own.
* It cuts off paths of files at 128 characters: they are relative to its working directory.
* Its sine generator wants 48 kHz; a file of 8 kHz goes into PCMU as it is.
* A call that is dialled gets the account's transport in its URI, and goes where that URI says without ``outbound``.
* A standard input that can't be polled (/dev/null) ends it if the module "stdio" is loaded.
* SIGTERM makes it unregister first, and it waits for the answer.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from interop.phones import Account, Phone, Place, skip_without
from lab.processes import LabError

__all__ = ["Baresip"]

_PORT = 5060  # TLS gets the next one
_CONTROL_PORT = 4444
_DIGIT_S = 0.2  # that it sends a digit for
_MODULE_FOLDERS = ("/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules")

_CONFIG = """\
sip_listen {address}:{port}
net_interface {address}
dns_server {nameserver}
ctrl_tcp_listen {address}:{control}
rtp_ports 20000-21000
audio_source aufile,{tone}
audio_player aubridge,nobody
snd_path {recordings}
ringback_disabled yes
menu_bell no
module_path {modules}
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module srtp.so
module_app menu.so
module_app ctrl_tcp.so
"""


class Baresip(Phone):
    """A baresip.

    Args:
        place: where it is.
        account: whose it is.
        transport: "udp", "tcp" or "tls".
    """

    digest = "MD5"

    def __init__(self, place: Place, account: Account, transport: str) -> None:
        self.account = account
        self._recordings = place.folder / "recordings"
        self._recordings.mkdir(parents=True)
        (place.folder / "config").write_text(
            _CONFIG.format(
                address=place.address,
                port=_PORT,
                nameserver=place.nameserver,
                control=_CONTROL_PORT,
                tone=os.path.relpath(place.tone, place.folder),
                recordings=self._recordings.name,
                modules=_modules(),
            )
        )
        self._control: socket.socket | None = None
        self._received = b""
        self._commands = 0
        super().__init__(f"baresip over {transport}", ["baresip", "-f", "."], place.folder / "output", place.folder)
        try:
            self.wait_until(lambda: self._connect(place.address), "its control connection")
            self._command(
                "uanew",
                f"<{account.aor};transport={transport}>;auth_pass={account.password};regint=600"
                f';outbound="sip:{account.domain};transport={transport}"'
                # Mandatory: a call without SRTP fails.
                ";mediaenc=srtp-mand;audio_codecs=PCMU",
            )
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def skip_if_missing() -> None:
        """Skip the test where there is no baresip."""
        if shutil.which("baresip") is None or _modules() is None:
            skip_without("baresip", "baresip-core")

    @staticmethod
    def knows_md5_only() -> bool:
        """Whether it is one of the old ones."""
        told = subprocess.run(["baresip", "-h"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return "baresip v1.0." in told.stdout + told.stderr

    def _connect(self, address: str) -> bool:
        try:
            self._control = socket.create_connection((address, _CONTROL_PORT), 1)
        except ConnectionRefusedError:
            return False
        self._control.setblocking(False)
        return True

    def read(self) -> None:
        """Take in the events of the control connection: netstrings of JSON."""
        if self._control is None:
            return
        try:
            while data := self._control.recv(65536):
                self._received += data
        except BlockingIOError:
            pass
        except ConnectionResetError:
            pass  # it has ended, which whoever waits sees by its process
        while True:
            length, colon, rest = self._received.partition(b":")
            if not colon or len(rest) <= int(length):
                return
            text, self._received = rest[: int(length)], rest[int(length) + 1 :]
            self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("response"):
            self.lines.append({"event": "reply", **message})
        else:
            self.lines.append(_translated(message))

    def _command(self, command: str, parameters: str = "") -> None:
        """Give a command; a refused one is an error here, not a timeout later."""
        assert self._control is not None
        self._commands += 1
        token = str(self._commands)
        text = json.dumps({"command": command, "params": parameters, "token": token}).encode()
        self._control.sendall(b"%d:%s," % (len(text), text))
        reply = self.wait_for("reply", token=token)
        if not reply["ok"]:
            raise LabError(f"{self.name}: {command} {parameters}: {reply['data']}")

    def dial(self, uri: str) -> None:
        self._command("dial", uri)

    def answer(self) -> None:
        self._command("accept")

    def hang_up(self) -> None:
        self._command("hangup")

    def press(self, digits: str) -> None:
        for digit in digits:
            self._command("sndcode", digit)
            time.sleep(_DIGIT_S)

    def forget_recordings(self) -> None:
        for path in self._recordings.iterdir():
            path.unlink()

    def recording(self) -> Path | None:
        # One file for each direction: "dec" is what was decoded.
        found = list(self._recordings.glob("*-dec.wav"))
        if len(found) > 1:
            raise LabError(f"{self.name}: more than one recording: {found}")
        return found[0] if found else None

    def stop(self) -> None:
        super().stop()
        if self._control is not None:
            self._control.close()


def _modules() -> str | None:
    return next((folder for folder in _MODULE_FOLDERS if Path(folder).is_dir()), None)


def _translated(said: dict[str, Any]) -> dict[str, Any]:
    """An event in the words of `Phone`; one that has none keeps its own."""
    kind = said["type"]
    value = said.get("param", "")
    match kind:
        case "REGISTER_OK":
            return {"event": "registered"}
        case "REGISTER_FAIL":
            return {"event": "refused", "reason": value}
        case "CALL_INCOMING":
            return {"event": "incoming"}
        case "CALL_MENC":
            # "0,audio,AES_CM_128_HMAC_SHA1_80", when both keys are known and set.
            return {"event": "secured", "suite": value.split(",")[2]}
        case "CALL_ESTABLISHED":
            return {"event": "connected"}
        case "CALL_DTMF_START":
            return {"event": "dtmf", "digit": value}
        case "CALL_CLOSED":
            return {"event": "ended", "reason": value}
    return {"event": kind, "value": value}
