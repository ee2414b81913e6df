"""A long call of an emulated terminal on a bad line, with a far end whose clock is another.

A packet in a hundred is lost each way, every one is up to 30 ms late, and the far end's clock gains or loses 60 ms on
the terminal's in all: 100 ppm in the ten minutes that WISP_CALL_S=600 gives it, more in the 20 s of every day.
"""

import json
import os
import socket
import struct
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from interop.phones import add_account

from calls.conftest import make_terminal
from calls.far_end import FRAME_S, FarEnd, numbers_of, write_frames
from calls.phone import Phone
from calls.test_changes import CAROL, starved
from lab.lab import Lab
from sipwire.answer import make_answer
from sipwire.dialog import Dialog
from sipwire.message import Request
from sipwire.sdp import Session
from sipwire.streams import Speaks

_CALL_S = float(os.environ.get("WISP_CALL_S", "20"))
_LOST = 0.01
_LATE_S = 0.03
_LATE = 3  # packets that may come so late
_DRIFT_S = 0.06
_PPM = round(1e6 * _DRIFT_S / _CALL_S)
_OUR_HZ, _THEIR_HZ = 500, 1000  # of the terminal, of the far end
_GAP_S = 0.2  # nobody hears that somebody was gone for less
_LOOKS = 10  # at the heap, in a short call; in a long one every 10 s
_HEAP_MORE_BYTES = 1024
_UNDER_WAY = 10  # packets, 0.2 s: what neither side counts alike when it ends
_SUITE = b"AES_CM_128_HMAC_SHA1_80"


def take_call(phone: Phone, ppm: int) -> tuple[FarEnd, Dialog]:
    """Answer the call that comes, with media on one port."""
    invite = phone.wait("INVITE")
    assert isinstance(invite, Request)
    phone.respond(invite, 180)
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((phone.address, 0))
    speaks = Speaks(opened.getsockname()[1], [0], [_SUITE], lambda _: phone.our_key, mux=True)
    answer, [agreed] = make_answer(speaks, Session.parse(invite.body), phone.address.encode(), 1)
    assert agreed.rtcp_port == agreed.port
    far = FarEnd(
        opened,
        (agreed.address.decode(), agreed.port),
        (phone.our_key, agreed.remote_key),
        (_THEIR_HZ, _OUR_HZ),
        ppm,
        _LOST,
        _LATE_S,
    )
    phone.respond(invite, 200, answer.serialize())
    phone.wait("ACK")
    far.start()
    return far, phone.dialog(invite)


def check_played(slots: list[int | None], far: FarEnd, media: dict[str, Any]) -> dict[str, Any]:
    """What the terminal's speaker has played is what was sent: in order, each frame once, but for what was lost."""
    first = next(at for at, number in enumerate(slots) if number is not None)
    slots = slots[first:]
    fresh, gap, longest = [slots[0]], 0, 0
    for number in slots[1:]:
        if number is None or number == fresh[-1]:
            gap += 1
            longest = max(longest, gap)
        else:
            fresh.append(number)
            gap = 0
    played = [number for number in fresh if number is not None]
    assert all(before < after for before, after in pairwise(played))
    span = set(range(played[0], played[-1] + 1))
    lost, unheard = span & far.dropped, span - set(played)
    assert lost <= unheard
    assert len(unheard - lost) <= media["late"] + media["skipped"] // 160, sorted(unheard - lost)
    inserted = len(slots) - gap - (played[-1] - played[0] + 1) + len(unheard - lost)
    assert longest * FRAME_S <= _GAP_S
    return {"played": len(played), "lost": len(lost), "unheard": len(unheard), "longest": longest, "inserted": inserted}


def check_came(far: FarEnd) -> float:
    """What the terminal has sent is what its microphone heard, without a gap; returns the longest time between two."""
    came = sorted(far.came, key=lambda one: one[3])
    seq, timestamp, number = came[0][1:]
    for _, a, b, c in came:
        assert (a - seq & 0xFFFF, b - timestamp & 0xFFFFFFFF) == (c - number & 0xFFFF, 160 * (c - number))
    assert came[-1][3] - number + 1 - len(came) == far.missed
    # What the line lost is not the terminal's gap.
    gaps = [after[0] - before[0] - FRAME_S * (after[3] - before[3] - 1) for before, after in pairwise(came)]
    assert max(gaps) <= _GAP_S
    return max(gaps)


def check_reports(far: FarEnd, media: dict[str, Any]) -> None:
    """Both sides have told each other how it goes (RFC 3550 section 6.4), and the terminal has said goodbye."""
    assert len(far.reports) > _CALL_S / 8
    names, counts = set(), []
    for at, report in far.reports:
        kind, _, ssrc = struct.unpack_from("!xBHI", report)
        info = 0
        if kind == 200:
            info = 20
            counts.append((at, *struct.unpack_from("!20xII", report)))
        about, lost, highest, jitter, last_sr, delay = struct.unpack_from("!IIIIII", report, 8 + info)
        assert about == 0x5EED
        assert (lost & 0xFFFFFF) <= len(far.dropped) + _LATE  # some come yet
        assert highest <= max(far.sent)
        assert jitter <= 8 * 1000 * _LATE_S
        if last_sr:
            now = int((time.time() - time.monotonic() + at + 2208988800) * 65536) & 0xFFFFFFFF
            assert now - last_sr - delay & 0xFFFFFFFF < 0.2 * 65536
        sdes = report[8 + info + 24 :]
        assert (sdes[1], sdes[4:8]) == (202, struct.pack("!I", ssrc))
        names.add(sdes[10 : 10 + sdes[9]])
    assert len(names) == 1
    assert sum(report[-8:-4] == b"\x81\xcb\0\1" for _, report in far.reports) == 1
    for (before, packets, octets), (after, more, more_octets) in pairwise(counts):
        assert more - packets == pytest.approx((after - before) / FRAME_S, abs=_UNDER_WAY)
        assert more_octets - octets == 160 * (more - packets)
    assert 0 <= far.claimed - media["far_lost"] <= 2 * _UNDER_WAY
    assert media["far_jitter_ms"] == 10
    assert media["round_trip_ms"] < 100
    assert 2 <= media["jitter_ms"] <= 1000 * _LATE_S


@pytest.mark.parametrize(
    ("ppm", "where"), [(_PPM, "rom"), (-_PPM, "rom"), (_PPM, "image")], ids=["fast", "slow", "code in the heap"]
)
def test_a_long_call(lab: Lab, ppm: int, where: str, request: pytest.FixtureRequest) -> None:
    lab.code = str(request.getfixturevalue(where))
    lab.make_domains("a.example")
    add_account(lab, CAROL)
    path = make_terminal(lab, "a.example", "alice", 440)
    write_frames(lab.folder / "alice-says.wav", round((_CALL_S + 30) / FRAME_S), _OUR_HZ)
    lab.start_neighbour("a.example")
    address = json.loads(path.read_text())["neighbour"].partition(":")[0]
    alice = lab.start_terminal(path)
    alice.wait_for("registered", 20)
    with Phone(lab.next_address(), address, CAROL.user, CAROL.domain, CAROL.password) as phone:
        phone.register()
        alice.send(f"call {CAROL.aor}")
        far, _ = take_call(phone, ppm)
        alice.wait_for("connected")
        begun = time.monotonic()
        heap = []
        step = min(10.0, _CALL_S / _LOOKS)
        while time.monotonic() < begun + _CALL_S:
            time.sleep(step)
            heap.append(alice.status()["heap_used"])
        alice.send("hangup")
        bye = phone.wait("BYE")
        assert isinstance(bye, Request)
        far.stop()  # its goodbye has come before
        phone.respond(bye, 200)
        media = alice.wait_for("ended")["media"]
    assert starved(alice) == []
    played = check_played(numbers_of(alice.speaker, _THEIR_HZ), far, media)
    longest = check_came(far)
    check_reports(far, media)
    report(lab, ppm=ppm, heap=heap, media=media, played=played, longest_s=longest, peak=alice.status()["heap_peak"])
    later = heap[len(heap) // 3 :]
    assert max(later) - min(later) < _HEAP_MORE_BYTES, heap
    assert media["rejected"] == 0
    assert abs(media["lost"] - len(far.dropped)) <= _UNDER_WAY
    assert abs(media["received"] - len(far.sent)) <= _UNDER_WAY
    # The two clocks have come 60 ms apart, and what is heard has not: it was left out, or waited for. What the delay
    # has changed from its first 60 ms is neither.
    assert 40 <= media["delay_ms"] <= 120
    drift_ms = 1000 * _DRIFT_S * (1 if ppm > 0 else -1)
    left_out_ms = media["skipped"] / 8 - 1000 * FRAME_S * played["inserted"]
    assert left_out_ms == pytest.approx(drift_ms - (media["delay_ms"] - 60), abs=40)


def report(lab: Lab, **figures: Any) -> None:
    """Leave the figures beside the lab, for who made the call a long one."""
    Path(lab.folder, "figures.json").write_text(json.dumps(figures))
