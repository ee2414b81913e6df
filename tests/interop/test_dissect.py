"""What Wireshark reads in packets of ours: RTCP, redundant text, telephone events."""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

from interop.phones import skip_without
from sipwire import rtcp
from sipwire.dtmf import DtmfSender
from sipwire.reception import Reception
from sipwire.rtp import build_header
from sipwire.text import TextSender, payload_bytes

RTCP_PORT, TEXT_PORT, EVENT_PORT = 5005, 5006, 5008
LINKTYPE_RAW = 101
SSRC = 0x12345678

Fields = list[tuple[str, str]]


def captured(port: int, payload: bytes) -> bytes:
    """A UDP datagram over IPv4, as a capture file has it."""
    udp = struct.pack(">HHHH", port, port, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    packet = head + bytes((127, 0, 0, 1)) * 2 + udp
    return struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet


def leaves(layers: object) -> Fields:
    """The fields with a value, however deep they are, in their order."""
    found: Fields = []
    assert isinstance(layers, list)
    for name, value in layers:
        found += leaves(value) if isinstance(value, list) else [(name, value)]
    return found


def dissect(folder: Path, packets: list[tuple[int, bytes]]) -> list[Fields]:
    """What tshark says of packets on ports."""
    if shutil.which("tshark") is None:
        skip_without("tshark", "tshark")
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW)
    file = folder / "packets.pcap"
    file.write_bytes(head + b"".join(captured(port, payload) for port, payload in packets))
    command = ["tshark", "-n", "-r", str(file), "-T", "json", "-d", f"udp.port=={RTCP_PORT},rtcp"]
    for rule in (
        f"udp.port=={TEXT_PORT},rtp",
        f"udp.port=={EVENT_PORT},rtp",
        "rtp.pt==100,rtp_rfc2198",
        "rtp.pt==101,rtpevent",
    ):
        command += ["-d", rule]
    # Its own settings are read from a home of the test's.
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    frames = [dict(frame)["_source"] for frame in json.loads(done.stdout, object_pairs_hook=list)]
    found = [leaves(dict(source)["layers"]) for source in frames]
    assert len(found) == len(packets)
    for fields in found:
        assert not [one for one in fields if "malformed" in one[0] or "expert" in one[0]], fields
    return found


def values(fields: Fields, *names: str) -> list[tuple[str, ...]]:
    """The values under each name."""
    return [tuple(value for name, value in fields if name == wanted) for wanted in names]


def test_rtcp(tmp_path: Path) -> None:
    reception = Reception(8)
    packet = bytearray(200)
    for seq in (65534, 65535, 2, 3):
        build_header(packet, 0, seq, 160 * seq, 0xCAFEBABE)
        reception.receive(packet, 20 * seq + seq % 3)
    rtcp.note_report(reception, 0x01020304, 1000)
    report = rtcp.block(reception, 0xCAFEBABE, 3500)
    sizes = [rtcp.build(packet, SSRC, b"abcd", 123456, (7, 1120, 4242), (report,), True)]
    compounds = [bytes(packet[: sizes[0]])]
    sizes.append(rtcp.build(packet, SSRC, b"receiver", 123456, None, (report,)))
    compounds.append(bytes(packet[: sizes[1]]))
    sender, receiver = dissect(tmp_path, [(RTCP_PORT, compound) for compound in compounds])
    assert values(sender, "rtcp.pt", "rtcp.senderssrc", "rtcp.sdes.text", "rtcp.length_check") == [
        ("200", "202", "203"),
        ("0x12345678",),
        ("abcd",),
        ("1",),
    ]
    assert values(
        sender,
        "rtcp.timestamp.ntp.msw",
        "rtcp.timestamp.ntp.lsw",
        "rtcp.timestamp.rtp",
        "rtcp.sender.packetcount",
        "rtcp.sender.octetcount",
    ) == [("123",), (str(456 * 2**32 // 1000),), ("4242",), ("7",), ("1120",)]
    assert values(receiver, "rtcp.pt", "rtcp.sdes.text", "rtcp.length_check") == [("201", "202"), ("receiver",), ("1",)]
    for fields in (sender, receiver):
        assert values(
            fields,
            "rtcp.ssrc.fraction",
            "rtcp.ssrc.cum_nr",
            "rtcp.ssrc.high_cycles",
            "rtcp.ssrc.high_seq",
            "rtcp.ssrc.jitter",
            "rtcp.ssrc.lsr",
            "rtcp.ssrc.dlsr",
        ) == [
            (str(2 * 256 // 6),),
            ("2",),
            ("1",),
            ("3",),
            (str(reception.jitter >> 4),),
            (str(0x01020304),),
            (str(5 * 65536 // 2),),
        ]


def test_redundant_text(tmp_path: Path) -> None:
    sender = TextSender(98, 0, 100, offset=0xFFFFFFFF)
    packets = []
    for i, text in enumerate(("H\u00e9", "llo", "", "", "")):
        sender.write(text, 300 * i)
        packet = bytearray(12 + payload_bytes(2))
        size = sender.build(packet, 12, 300 * i)
        if size >= 0:
            build_header(packet, sender.payload_type, i, sender.timestamp, SSRC, sender.marker)
            packets.append((TEXT_PORT, bytes(packet[: 12 + size])))
    frames = dissect(tmp_path, packets)
    blocks = [b"\xef\xbb\xbfH\xc3\xa9", b"llo", b"", b""]
    assert len(frames) == len(blocks)
    for i, fields in enumerate(frames):
        inside = fields[[name for name, _ in fields].index("rtp.follow") :]
        old = blocks[max(0, i - 2) : i]
        assert values(inside, "rtp.follow", "rtp.p_type") == [("1",) * len(old) + ("0",), ("98",) * (len(old) + 1)]
        assert values(inside, "rtp.block-length")[0] == tuple(str(len(block)) for block in old)
        assert values(inside, "rtp.timestamp-offset")[0] == ("600", "300")[2 - len(old) :]
        texts = [bytes.fromhex(data.replace(":", "")) for data in values(inside, "rtp.payload")[0]]
        assert b"".join(texts) == b"".join(old) + blocks[i]
        assert values(fields, "rtp.marker", "rtp.timestamp") == [
            ("1" if i == 0 else "0",),
            (str(300 * i - 1 & 0xFFFFFFFF),),
        ]


def test_telephone_event(tmp_path: Path) -> None:
    sender = DtmfSender()
    sender.press("#", 60)
    packets = []
    for i in range(9):
        packet = bytearray(16)
        if sender.build(packet, 12, 1000 + 160 * i, 160):
            build_header(packet, 101, i, sender.timestamp, SSRC, sender.marker)
            packets.append((EVENT_PORT, bytes(packet)))
    frames = dissect(tmp_path, packets)
    names = ("rtpevent.event_id", "rtpevent.duration", "rtpevent.end_of_event", "rtp.marker", "rtp.timestamp")
    assert [values(fields, *names) for fields in frames] == [
        [("11",), (duration,), (end,), (marker,), ("1000",)]
        for duration, end, marker in (
            ("160", "0", "1"),
            ("320", "0", "0"),
            ("480", "1", "0"),
            ("480", "1", "0"),
            ("480", "1", "0"),
        )
    ]
