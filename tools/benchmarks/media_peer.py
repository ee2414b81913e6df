"""The other side of a terminal whose media is measured: what it sends, and whether it can open what it is sent."""

from typing import Any

from lab.processes import LabError
from neighbour.aes import new_aes
from sipwire import rtcp
from sipwire.g711 import PCMU, Codec
from sipwire.reception import Reception
from sipwire.rtp import HEADER_BYTES, build_header, parse
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from sipwire.text import TextReceiver, TextSender, payload_bytes

__all__ = ["AGREED", "SSRC", "TYPED", "Peer"]

SUITE = b"AES_CM_128_HMAC_SHA1_80"
OURS, THEIRS = bytes(range(100, 130)), bytes(range(30))  # the terminal's keys and salts, and the peer's
SSRC = 0xA5A5A5A5  # the terminal's, see `media_on_device`
TYPED = "ab"  # within 300 ms, by somebody who types fast
T140, RED, GENERATIONS, CPS = 98, 100, 2, 30
_SSRC, _TIMESTAMP = 0xFEDCBA98, 0x89ABCDEF
_SAMPLES, _TEXT_MS = 160, 300


def _agreed(kind: bytes, **values: object) -> dict[str, object]:
    """What a `sipwire.agreed.Agreed` has."""
    index = int(kind == b"text")
    where = {"address": b"192.0.2.9", "port": 30000 + 2 * index, "rtcp_port": 30001 + 2 * index}
    return {"kind": kind, "index": index, **where, "suite": SUITE, "local_key": OURS, "remote_key": THEIRS, **values}


#: What the terminal and this side agreed on, by the kind of the call.
AGREED = {
    "speech": _agreed(b"audio", payload_type=PCMU),
    "heard": _agreed(b"audio", payload_type=PCMU, direction=b"recvonly"),
    "text": _agreed(b"text", payload_type=T140, red_type=RED, generations=GENERATIONS, cps=CPS),
}


class Peer:
    """The other side: what it sends, and whether what the terminal sends can be opened."""

    def __init__(self) -> None:
        self.sound = b"".join((at * 397 % 20000 - 10000).to_bytes(2, "little", signed=True) for at in range(_SAMPLES))
        self._codec = Codec(PCMU)

    def speech(self, count: int) -> list[bytes]:
        """SRTP packets of 20 ms each."""
        sender, payload = SrtpSender(SUITES[SUITE], THEIRS, new_aes), bytearray(_SAMPLES)
        found = []
        for at in range(count):
            self._codec.encode(bytearray(self.sound), payload, 0, _SAMPLES)
            packet = bytearray(HEADER_BYTES + _SAMPLES + sender.overhead_bytes)
            build_header(packet, PCMU, 100 + at & 0xFFFF, _TIMESTAMP + at * _SAMPLES & 0xFFFFFFFF, _SSRC)
            packet[HEADER_BYTES : HEADER_BYTES + _SAMPLES] = payload
            found.append(bytes(packet[: sender.protect(packet, HEADER_BYTES + _SAMPLES)]))
        return found

    def text(self, count: int) -> list[bytes]:
        """SRTP packets of text, with two generations that went before."""
        sender, writer = SrtpSender(SUITES[SUITE], THEIRS, new_aes), TextSender(T140, 0, RED, GENERATIONS, CPS)
        found = []
        for at in range(count):
            packet = bytearray(HEADER_BYTES + payload_bytes(GENERATIONS) + sender.overhead_bytes)
            writer.write(TYPED, at * _TEXT_MS)
            size = writer.build(packet, HEADER_BYTES, at * _TEXT_MS)
            build_header(packet, RED, 100 + at, writer.timestamp, _SSRC, writer.marker)
            found.append(bytes(packet[: sender.protect(packet, HEADER_BYTES + size)]))
        return found

    def reports(self, count: int) -> list[bytes]:
        """SRTCP packets: a sender's report with what it has received."""
        sender, source = SrtcpSender(SUITES[SUITE], THEIRS, new_aes), Reception(8)
        source.receive(self.speech(1)[0], 0)
        found = []
        for at in range(count):
            packet = bytearray(200)
            block = rtcp.block(source, SSRC, at * 1000)
            size = rtcp.build(packet, _SSRC, b"0123456789abcdef", at * 1000, (at, at * _SAMPLES, at), (block,))
            found.append(sender.protect(bytes(packet[:size])))
        return found

    def check(self, kind: str, said: dict[str, Any]) -> dict[str, tuple[int, int]]:
        """See that the terminal has done what it was to do.

        Returns:
            Bytes of the payload that is encrypted, and of the packet that is authenticated, of what it sent last.

        Raises:
            LabError: it has not.
        """
        sizes: dict[str, tuple[int, int]] = {}
        speech, reports, text, _ = (bytearray.fromhex(one) for one in said["last"])
        if kind in ("both ways", "report", "reports"):
            end = self._open(speech)
            payload = bytearray(_SAMPLES)
            self._codec.encode(bytearray(self.sound), payload, 0, _SAMPLES)
            if parse(speech, end)[0] != PCMU or speech[HEADER_BYTES:end] != payload:
                raise LabError("the terminal has sent other speech than it heard")
            sizes["speech"] = (end - HEADER_BYTES, end)
        if kind in ("heard", "both ways"):
            played, payload = bytearray(2 * _SAMPLES), bytearray(_SAMPLES)
            self._codec.encode(bytearray(self.sound), payload, 0, _SAMPLES)
            self._codec.decode(payload, 0, played, _SAMPLES)
            if said["played"] != played.hex():
                raise LabError("the terminal has played other speech than it was sent")
        if kind in ("report", "reports"):
            packet = SrtcpReceiver(SUITES[SUITE], OURS, new_aes).unprotect(bytes(reports))
            if [part[0] for part in rtcp.parse(packet, len(packet))][:1] != [rtcp.SR]:
                raise LabError("the terminal has sent another report than that of a sender")
            sizes["report"] = (len(packet) - 8, len(reports) - 10)
        if kind == "text sent":
            end = self._open(text)
            reader = TextReceiver(T140, RED)
            shown = reader.receive(text, HEADER_BYTES, end, 0)
            if not any(piece.endswith(TYPED) for _, piece in shown):
                raise LabError(f"the terminal has sent other text than was typed: {shown}")
            sizes["text"] = (end - HEADER_BYTES, end)
        return sizes

    @staticmethod
    def _open(packet: bytearray) -> int:
        return SrtpReceiver(SUITES[SUITE], OURS, new_aes).unprotect(packet, len(packet))
