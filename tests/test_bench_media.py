"""The media benchmark: its parties count and compare every packet, and rtpengine is told what it understands."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from pylibsrtp import Policy, Session

from benchmarks import media, media_load, rtpengine
from lab.processes import LabError

CM, GCM = "AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"


@pytest.mark.parametrize(
    "value",
    [{}, {b"a": 1, b"b": [b"x", -7, {b"": []}]}, [], b"", b"12:4", 0],
)
def test_bencode(value: Any) -> None:
    coded = rtpengine._bencode(value)
    assert rtpengine._bdecode(coded + b"more", 0) == (value, len(coded))


def test_bencode_as_others_write_it() -> None:
    assert rtpengine._bencode({"command": "ping", "ICE": ["a", 5]}) == b"d3:ICEl1:ai5ee7:command4:pinge"


@pytest.fixture
def streams() -> Any:
    socks = (media_load._sockets(), media_load._sockets())
    key, other = [CM, os.urandom(30).hex()], [CM, os.urandom(30).hex()]
    call = {"ports": [1, 2], "sends": [key, other], "gets": [other, key]}
    yield media_load._streams([call], socks, 5), socks
    for sock in socks[0] + socks[1]:
        sock.close()


def test_packets_that_are_lost_doubled_changed_or_strange(streams: Any) -> None:
    made, socks = streams
    first = made[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        where = socks[1][0].getsockname()
        for number in (0, 1, 3, 3):
            relay.sendto(first.packets[number], where)
        relay.sendto(media_load.rtp(0, 99), where)
        relay.sendto(media_load.rtp(7, 1), where)
    assert media_load._drain(socks[0] + socks[1], made) == 2
    assert list(first.seen) == [1, 1, 0, 2, 0]
    assert sum(made[2].seen) == 0
    first.kept.pop()
    assert media_load._wrong(first) == 0
    # What is authentic, and not what was sent.
    session = Session(Policy(bytes(30), Policy.SSRC_ANY_OUTBOUND))
    first.opener = Session(Policy(bytes(30), Policy.SSRC_ANY_INBOUND))
    first.kept[:] = [session.protect(media_load.rtp(1, 1)), session.protect(media_load.rtp(2, 1)[:-1] + b"?")]
    assert media_load._wrong(first) == 1


def test_a_relay_is_measured(tmp_path: Path) -> None:
    """A few calls of each kind, whole: processes, packets, figures."""
    for kind in media._KINDS:
        run = media._ours(kind, 3, 0.4, tmp_path)
        assert (run.packets, run.lost) == (120, 0)
        assert 0 < run.cpu_s < 10
        assert len(run.waits_ms) > 5
        assert kind.unread or media._floor(kind) > 1000


@pytest.mark.skipif(not rtpengine.is_there(), reason="rtpengine is not installed: tools/peers.py does it")
def test_rtpengine_is_measured(tmp_path: Path) -> None:
    for kind in media._KINDS:
        if not kind.unread:
            run = media._its(kind, 3, 0.4, tmp_path)
            assert (run.packets, run.lost) == (120, 0)
            assert run.cpu_s > 0


def test_media_that_come_out_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are not what the relay was told: nothing comes through, and that is no figure."""
    monkeypatch.setattr(media, "_exchange", tampered)
    with pytest.raises(LabError, match="dropped: tag"):
        media._ours(media._CM_CM, 2, 0.2, tmp_path)


def tampered(load: Any, pid: int, calls: Any, seconds: float, echo: int) -> Any:
    """The parties seal with other keys than the relay knows."""
    for call in calls:
        call["sends"] = [[CM, os.urandom(30).hex()] for _ in call["sends"]]
    load.tell({"calls": calls, "seconds": seconds})
    load.hear()
    load.tell()
    said = load.hear()
    assert said["lost"] == said["sent"]
    return media._Run(0, said["lost"], 1.0, 0, seconds, [], 0)
