"""Every case of PROTOS c07-sip at a running terminal: in frames of its agreement, and plain.

The terminal is an emulated one of each word size, with the heap of a plain ESP32. No case may end it, make it slow or
make it grow, nor cost it its registration, and after each the next good request is answered. The cases' descriptions
offer SRTP here: what offers RTP alone would be refused before most of it is read.
"""

from contextlib import suppress
from pathlib import Path

import pytest
from calls.conftest import make_terminal
from conftest import micropython

from lab.lab import Lab
from lab.processes import Terminal
from sipwire.errors import ParseError
from sipwire.hop import OVERHEAD_BYTES
from torture.hub import Hub
from torture.messages import protos
from torture.watching import Costs

MAX_DATAGRAM_BYTES = 65507
GROWTH_BYTES = 2048  # of the heap that lives, from the 500th case to the last: not one byte for each
EVERY = 500  # cases between two good calls
REPEATS = 6  # of a request over UDP before its sender gives up, at the least (RFC 3261 section 17.1)
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n"
)


def rings(terminal: Terminal) -> bool:
    terminal.read()
    told = (line["event"] for line in reversed(terminal.lines))
    return next((event for event in told if event in ("incoming", "ended")), "") == "incoming"


def good_call(hub: Hub, terminal: Terminal, number: int) -> None:
    """The terminal rings, is answered, and is hung up on."""
    call_id = b"call%d" % number
    mark = len(terminal.lines)
    invite = hub.request("INVITE", call_id, SDP)
    hub.send(invite.serialize())
    terminal.wait_for("incoming", since=mark, peer=hub.caller)
    terminal.send("answer")
    for _ in range(100):
        hub.probe()
        if [one for one in hub.taken if one.call_id == call_id and one.status == 200]:
            break
    tag = hub.answer_to(invite).to.tag
    ack = hub.request("ACK", call_id, b"", tag)
    hub.send(ack.serialize())
    terminal.wait_for("connected", since=mark)
    bye = hub.request("BYE", call_id, b"", tag, 2)
    hub.send(bye.serialize())
    hub.probe()
    assert hub.answer_to(bye).status == 200
    terminal.wait_for("ended", since=mark, reason="peer hung up")


def live_bytes(hub: Hub, terminal: Terminal) -> int:
    """What lives on the heap when all that is remembered is small: a terminal remembers its last eight answers."""
    for _ in range(12):
        hub.probe()
    hub.taken.clear()
    used: int = terminal.status()["heap_used"]
    return used


@pytest.mark.parametrize("bits", [32, 64])
def test_at_a_terminal(tmp_path: Path, image: Path, bits: int) -> None:
    with Lab(tmp_path / "lab", micropython(bits), str(image)) as lab:
        lab.make_domains("a.example")
        path = make_terminal(lab, "a.example", "alice", codecs=["PCMU", "PCMA"])
        hub = Hub(path, lab.next_address())
        try:
            terminal = lab.start_terminal(path)
            hub.join()
            terminal.wait_for("registered", 30)
            costs = Costs(terminal.pid)
            sizes = []
            statuses: dict[int, int] = {}
            place = hub.address
            for i, case in enumerate(protos(srtp=True, From_Address=place, From_IP=place)):
                if i % EVERY == 0:
                    good_call(hub, terminal, i)
                    sizes.append(live_bytes(hub, terminal))
                fits = [one for one in (case.invite, case.teardown) if len(one) <= MAX_DATAGRAM_BYTES - OVERHEAD_BYTES]
                for _ in range(2):
                    costs.begin()
                    for data in fits:
                        with suppress(ParseError):
                            hub.sent(data)
                        hub.send(data)
                        hub.send_plain(data)
                    hub.probe()
                    if costs.end():
                        break
                else:
                    raise AssertionError(f"case {case.number} ({case.group}): {costs.ms[-1]:.0f} ms")
                for _ in range(REPEATS):
                    if not rings(terminal):
                        break
                    # For want of memory it has not heard the CANCEL: over UDP that is sent again.
                    hub.send(case.teardown)
                    hub.probe()
                assert not rings(terminal), f"case {case.number} ({case.group}): it rings on"
                for told in hub.taken:
                    statuses[told.status] = statuses.get(told.status, 0) + 1
                hub.taken.clear()
            good_call(hub, terminal, i + 1)
            sizes.append(live_bytes(hub, terminal))
            print(f"{bits} bits: {costs}; {sizes} bytes live; {statuses}")
            malformed = terminal.status()["malformed"]
        finally:
            hub.close()
        assert terminal.is_running
        assert len(sizes) > 6
        assert sizes[-1] - sizes[1] < GROWTH_BYTES, sizes
        assert malformed > 2 * i, "what is plain is counted, and so is what is malformed in frames"
        assert statuses[180] > 500, "it rings"
        assert statuses[487] > 500, "and is cancelled"
        assert statuses[400] > 100
        events = {line["event"] for line in terminal.lines}
        assert not events & {"unregistered", "error"}, events
