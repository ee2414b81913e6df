"""What RFC 3261 and its friends want of a proxy and registrar, played by sipp at both ends of a neighbour."""

import shutil
from collections.abc import Iterator

import pytest

from interop.phones import skip_without
from interop.sipp import Callee, Exchange, Scenario
from lab.lab import Lab

CALLS = 10_000
CALLS_PER_S = 100  # which an otherwise loaded machine of two cores holds
SLACK = 1.5  # at most so many times as long as that takes: sipp falls behind where it is starved

#: What each kind of neighbour has otherwise than by default.
SETTINGS = {
    "plain": {},
    "impatient": {"timer_c_s": "4"},
    "forgetful": {"nonce_life_s": "5"},
    "redirecting": {"mode": '"redirect"'},
    # All calls are one user's, from one address, and other tests may want the processor, too.
    "busy": {
        "stranger_rate": "1000000",
        "stranger_burst": "1000000",
        "user_rate": "1000000",
        "user_burst": "1000000",
        "delay_ms": "10000",
    },
}
ANSWERS = Callee("answers")
CANCELLED = Callee("is-cancelled", values={"tag": "c"})


def refuses(status: int, **more: str) -> Callee:
    return Callee("refuses", values={"status": str(status), "more": "", **more})


def refused(status: int, expected: str = "INVITE", **more: str) -> dict[str, str]:
    return {"status": str(status), "expected": expected, **more}


def to_user(method: str, content: str, headers: str = "") -> dict[str, str]:
    return {"method": method, "target": "{{callee}}@{{domain}}", "content": content, "headers": headers}


NOTHING = "Content-Length: 0\n"
TEXT = "Content-Type: text/plain\nContent-Length: [len]\n\nGood morning"
OFFER = "Content-Type: application/sdp\nContent-Length: [len]\n\n{{sdp}}"
DTMF = "Content-Type: application/dtmf-relay\nContent-Length: [len]\n\nSignal=5\nDuration=160\n"
STATE = "Content-Type: application/pidf+xml\nContent-Length: [len]\n\n<presence/>"
#: As long as makes an INVITE larger than 1300 bytes.
LONG = "\nSubject: " + "long " * 300
PLAIN_CONTACT = "sip:{{user}}@[local_ip]:[local_port]"  # says nothing about transports
IGNORES = Callee("ignores", values={"method": "MESSAGE", "patience_ms": "36000"})  # more than Timer F


def request(name: str, method: str, content: str, expected: str, headers: str = "") -> Scenario:
    """A request that makes no dialog, from one phone to another."""
    callee = Callee("answers-request", values={"method": method, "expected": expected})
    return Scenario(name, "request", [callee], values=to_user(method, content, headers))


def in_dialog(name: str, method: str, content: str, expected: str, answered: str = "CSeq") -> Scenario:
    """A request within a call."""
    callee = Callee("answers-in-dialog", values={"method": method, "expected": expected, "more": "Server: test\n"})
    values = {"method": method, "content": content, "more": "User-Agent: test\n", "expected": answered}
    return Scenario(name, "in-dialog", [callee], values=values)


SCENARIOS = [
    # Registration.
    Scenario("registers", "register", uri="{{domain}}"),
    Scenario(
        "refreshes",
        "register-again",
        uri="{{domain}}",
        values={"again": "Contact: <{{contact}}>\nExpires: 300", "expected": "expires=300"},
    ),
    Scenario("unregisters", "register-nothing", uri="{{domain}}", values={"again": "Contact: *\nExpires: 0"}),
    Scenario(
        "fetches",
        "register-again",
        uri="{{domain}}",
        values={"again": "User-Agent: curious", "expected": "Contact: *.sip:{{user}}@"},
    ),
    Scenario(
        "too-brief",
        "register-refused",
        uri="{{domain}}",
        values={"expires": "5", "status": "423", "expected": "Min-Expires: *60"},
    ),
    Scenario("wrong-password", "register-wrong-password", uri="{{domain}}", password="wrong"),
    Scenario("stale", "register-stale", uri="{{domain}}", values={"old_ms": "6000"}, neighbour="forgetful"),
    # Calls.
    Scenario("udp-to-udp", "call", [ANSWERS]),
    Scenario("udp-to-tcp", "call", [Callee("registers-and-answers", "tcp", "")]),
    Scenario("tcp-to-udp", "call", [ANSWERS], "tcp"),
    Scenario("early-media", "early-media", [Callee("early-media-answers")]),
    Scenario("late-offer", "late-offer", [Callee("offers")], values={"offer": NOTHING}),
    Scenario("busy", "refused", [refuses(486)], values=refused(486)),
    Scenario("decline", "refused", [refuses(603)], values=refused(603)),
    Scenario("unknown", "refused", values=refused(404, callee="nobody")),
    Scenario("unregistered", "refused", values=refused(480)),
    Scenario(
        "redirected",
        "refused",
        [refuses(302, more="Contact: <sip:carol@{{domain}}>\n")],
        values=refused(302, "Contact: *.sip:carol@"),
    ),
    Scenario(
        "redirects",
        "refused",
        [Callee("answers", quiet=True)],
        values=refused(302, "Contact: *.sip:{{callee}}@[0-9]"),
        neighbour="redirecting",
    ),
    Scenario("cancelled", "cancel", [CANCELLED]),
    Scenario(
        "cancelled-too-late",
        "cancel-too-late",
        [Callee("answers-though-cancelled", values={"late_ms": "100"})],
    ),
    Scenario("rings-long", "rings-long", [Callee("only-rings", values={"ring_ms": "2200"})], neighbour="impatient"),
    # Forks.
    Scenario("one-answers", "call", [Callee("answers", values={"ring_ms": "500"}), CANCELLED]),
    Scenario(
        "both-answer",
        "two-answers",
        [
            Callee("answers", values={"ring_ms": "300"}),
            Callee("answers-though-cancelled", values={"late_ms": "1500", "tag": "c"}),
        ],
    ),
    Scenario(
        "preferred-first",
        "call",
        [
            Callee("answers", values={"contact_params": ";q=1.0", "ring_ms": "500"}),
            Callee("answers", values={"contact_params": ";q=0.5", "tag": "c"}, quiet=True),
        ],
    ),
    Scenario(
        "preferred-busy",
        "call",
        [
            refuses(486, contact_params=";q=1.0", ring_ms="300"),
            Callee("answers", values={"contact_params": ";q=0.5", "tag": "c"}),
        ],
    ),
    Scenario("all-busy", "refused", [refuses(503), refuses(486, tag="c", ring_ms="300")], values=refused(486)),
    Scenario("nobody-wants", "refused", [refuses(603, ring_ms="500"), CANCELLED], values=refused(603)),
    # Within a dialog.
    Scenario("hold", "hold", [Callee("is-held")]),
    in_dialog("update", "UPDATE", OFFER, "m=audio 40000"),
    in_dialog("info", "INFO", DTMF, "Signal=5"),
    in_dialog("unknown-in-dialog", "FROBNICATE", TEXT, "Good morning"),
    Scenario("prack", "prack", [Callee("pracked")], values={"headers": "\nSupported: 100rel"}),
    Scenario("refer", "refer", [Callee("is-referred")]),
    Scenario(
        "session-timer",
        "session-timer",
        [Callee("refreshed")],
        values={"headers": "\nSupported: timer\nSession-Expires: 1800;refresher=uac"},
    ),
    # Other requests.
    Scenario(
        "subscribe",
        "subscribe",
        [Callee("notifies")],
        values=to_user(
            "SUBSCRIBE",
            NOTHING,
            "\nContact: <sip:{{caller}}@[local_ip]:[local_port]>\nEvent: dialog\nExpires: 600",
        ),
    ),
    request("message", "MESSAGE", TEXT, "Good morning"),
    request("publish", "PUBLISH", STATE, "[[:cntrl:]].presence", "\nEvent: presence\nExpires: 600"),
    request("unknown-method", "FROBNICATE", TEXT, "Good morning"),
    request("options", "OPTIONS", NOTHING, "Accept: *application/sdp", "\nAccept: application/sdp"),
    Scenario(
        "options-of-domain",
        "options-of-domain",
        uri="{{domain}}",
        values={"method": "OPTIONS", "target": "{{domain}}", "content": NOTHING},
    ),
    Scenario(
        "unanswered",
        "request-unanswered",
        [IGNORES],
        # From the 100 on, which comes after 3.5 s: until after Timer F, and before sipp, which never has enough, repeats.
        values={**to_user("MESSAGE", TEXT), "patience_ms": "30000"},
    ),
    # Routes, loops and what else a proxy looks at.
    Scenario(
        "loose-routes",
        "call",
        [Callee("looks-at-routes")],
        values={"headers": "\nRoute: <sip:{{neighbour}}:5060;lr>"},
    ),
    Scenario("strict-router", "strict-router", [ANSWERS]),
    Scenario("many-vias", "many-vias", [ANSWERS]),
    Scenario("compact", "compact", [Callee("answers-compactly")]),
    Scenario("loop", "refused", [Callee("sends-back")], values=refused(482)),
    Scenario(
        "too-many-hops",
        "refused-at-once",
        [Callee("answers", quiet=True)],
        values=refused(483, max_forwards="0"),
    ),
    Scenario(
        "proxy-require",
        "refused-at-once",
        [Callee("answers", quiet=True)],
        values=refused(420, "Unsupported: *frobnication", max_forwards="70", headers="\nProxy-Require: frobnication"),
    ),
    # Transports.
    Scenario("large-by-udp", "call", [ANSWERS], "tcp", values={"headers": LONG}),
    Scenario(
        "large-by-tcp",
        "refused",
        [Callee("refuses", "tcp", "udp", {"status": "486", "more": "", "contact": PLAIN_CONTACT})],
        "tcp",
        values=refused(486, headers=LONG),
    ),
    Scenario(
        "moves-to-tcp",
        "call",
        [Callee("answers", "tcp", "udp", {"contact": PLAIN_CONTACT})],
        "tcp",
        values={"headers": LONG},
    ),
    Scenario("new-connection", "call", [Callee("answers", "tcp", "tcp")]),
    Scenario(
        "lossy",
        "call-lossily",
        [Callee("answers-lossily")],
        calls=30,
        patience_ms=30_000,
        forgiving=True,
        seen="message lost (recv)",
        timeout_s=90,
    ),
]
LOAD = Scenario(
    "load",
    "call",
    [Callee("answers-many", endless=True)],
    calls=CALLS,
    calls_per_s=CALLS_PER_S,
    neighbour="busy",
    forgiving=True,
    timeout_s=CALLS / CALLS_PER_S * SLACK,
)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    if shutil.which("sipp") is None:
        skip_without("sipp", "sip-tester")
    with Lab(tmp_path_factory.mktemp("exchange")) as lab:
        yield Exchange(lab, [*SCENARIOS, LOAD], SETTINGS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(exchange: Exchange, scenario: Scenario) -> None:
    exchange.play(scenario)


def test_ten_thousand_calls(exchange: Exchange) -> None:
    """At a fixed rate, and none of them fails."""
    assert exchange.play(LOAD) > CALLS / CALLS_PER_S - 1
