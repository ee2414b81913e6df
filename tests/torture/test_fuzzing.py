"""tools/fuzz: every harness holds for its seeds, sees what breaks, and holds for very many inputs.

``WISP_FUZZ=1000000 tools/test -k fuzzing`` takes that many for each; 100,000 by default.
"""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from cryptography import x509

from fuzzing import __main__ as command
from fuzzing import harnesses, packets, reference, sealed, sending, texts
from fuzzing.harnesses import HARNESSES, LIMIT_MS, SlowError, judge, max_bytes, seeds
from neighbour.agent import aib, freshness, mime, path, revocation, security, trust
from neighbour.agent.cms import enveloped, signed
from sipwire import (
    answer,
    dtmf,
    headers,
    hop,
    message,
    offer,
    reception,
    replay,
    rtcp,
    sdp,
    srtcp,
    srtp,
    stream,
    streams,
    text,
    uri,
)

RUNS = int(os.environ.get("WISP_FUZZ", "100000"))


def examples(name: str) -> list[bytes]:
    files = [path for folder in seeds(name) for path in sorted(folder.iterdir())]
    return [path.read_bytes() for path in files if path.suffix != ".json"]


@pytest.mark.parametrize("name", HARNESSES)
def test_seeds(name: str) -> None:
    found = examples(name)
    assert len(found) > 4
    assert sum(map(len, found)) < 1 << 18, "small ones are worth more"
    for data in found:
        assert len(data) <= max_bytes(name)
        assert judge(name, data) > 0


def test_packets_of_the_seeds_open() -> None:
    """Keys and packets in the repository belong together, or nothing would ever open."""
    for name, sent in (("srtp", packets.RTP), ("srtp", packets.RTCP), ("frame", packets.FRAMES)):
        held = {piece for data in examples(name) for piece in packets.pieces(data)}
        assert set(sent) <= held
        assert held - set(sent), "and some do not"


def test_what_was_sent_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and messages in the repository belong together: what alice and bob have sent opens, and is theirs."""
    taken: list[bytes] = []
    check = sealed._check_genuine
    monkeypatch.setattr(
        sealed,
        "_check_genuine",
        lambda message, *rest, **said: (check(message, *rest, **said), taken.append(message.call_id)),
    )
    for data in examples("sealed"):
        judge("sealed", data)
    # At both levels the INVITE in four forms, the answer in two, and two more messages; at medium two forms more.
    assert {one: taken.count(one) for one in set(taken)} == {b"fuzz1": 14, b"fuzz2": 2, b"fuzz3": 2}
    assert len(sending.known()) == 7
    held: list[sending.Known] = []
    known = sending.known()
    monkeypatch.setattr(sealed, "known", lambda: Noting(known, held))
    for data in examples("mime"):
        judge("mime", data)
    assert len(set(held)) > 3


class Noting:
    """A set that notes what was found in it."""

    def __init__(self, known: frozenset[sending.Known], held: list[sending.Known]) -> None:
        self._known = known
        self._held = held

    def __contains__(self, one: sending.Known) -> bool:
        if one in self._known:
            self._held.append(one)
        return one in self._known

    def __iter__(self) -> Iterator[sending.Known]:
        return iter(self._known)


def replaced(function: Callable[..., object], change: Callable[..., object]) -> Callable[..., object]:
    """A function whose result is changed."""

    def other(*arguments: object) -> object:
        return change(function(*arguments))

    return other


def ignored(_: object) -> bool:
    return True


def ignored_all(*_: object, **__: object) -> bool:
    return True


REMEMBERING = (headers.address_of, headers.cseq_of, headers._sender_of, uri.uri_of, message._key_of)


def spoil(via: headers.Via, name: bytes, value: bytes) -> None:
    """Write to what other messages have, too."""
    for address in (headers.address_of(b"<sip:alice@a.example>;tag=f1"), headers.address_of(b"sip:user@example.com")):
        address.params.append((name, value))
    via.params.append((name, value))


def forget() -> None:
    """Whatever is remembered was read by what is broken, or is before it is."""
    for function in REMEMBERING:
        function.cache_clear()  # type: ignore[attr-defined]


def forgetful(receive: Callable[..., list[bytes]]) -> Callable[..., list[bytes]]:
    """A stream parser that looks for the end of a head too far on when more comes."""

    def other(parser: stream.StreamParser, data: bytes) -> list[bytes]:
        found = receive(parser, data)
        parser._searched += 3
        return found

    return other


def hasty(cut: Callable[..., None]) -> Callable[..., None]:
    """A stream parser that tells a message before it is complete."""

    def other(parser: stream.StreamParser, found: list[bytes]) -> None:
        parser._need = min(parser._need, len(parser._buffer))
        cut(parser, found)

    return other


def unchecked(
    info: object, content: bytes, certificates: list[tuple[x509.Certificate, object]], *_: object, **__: object
) -> signed.Verified:
    """A signature that holds whatever it is over."""
    return signed.Verified(content, certificates[0][0], (), None)


# What is broken, and the harness that sees it with nothing but its seeds.
BROKEN: list[tuple[str, object, str, object]] = [
    ("message", message, "unfold", lambda value: value),
    ("message", message, "_value", replaced(message._value, bytes.lower)),
    ("message", message, "_key_of", lambda before: before.rstrip().decode().lower()),
    ("message", message.Request, "copy", lambda one: one),
    ("message", texts, "set_via_param", spoil),
    ("message", stream, "_content_length", replaced(stream._content_length, lambda size: size + 1)),  # type: ignore[operator]
    ("message", message, "split_list", lambda value, mark: value.split(mark)),
    ("message", message.Message, "serialize", replaced(message.Message.serialize, lambda data: data + b"\n")),  # type: ignore[operator]
    ("message", message.Request, "refusal", lambda *_: message.Response(200, b"OK")),
    ("message", message.Request, "response", lambda one, status, *_: message.Response(status, b"OK")),
    ("message", texts, "set_via", lambda one, via: one.set("Via", via.serialize())),
    ("message", texts, "remove_first", texts.remove),
    ("uri", uri, "_least_escaped", uri.unescape),
    ("uri", uri, "_URI", uri._URI + b"<> \0"),
    ("uri", uri.Uri, "serialize", lambda one: b"sip:" + one.host),
    ("uri", uri, "parse_port", lambda value: int(value) & 0xFFF),
    ("via", headers.Via, "serialize", lambda one: b"SIP/2.0/UDP " + one.host),
    ("via", headers, "parse_params", lambda parts: [(part, b"x") for part in parts]),
    ("auth", texts, "verify", ignored),
    ("auth", texts, "serialize_challenge", lambda one: b'Digest realm="%s", nonce="%s"' % (one.realm, one.nonce)),
    ("auth", texts, "parse_scheme", lambda value: (value, [])),
    ("sdp", answer, "SAVP", b"RTP/AVP"),
    ("sdp", answer, "_refusal", lambda *_: ""),
    ("sdp", offer, "_protect", ignored_all),
    ("sdp", streams.Speaks, "takes", lambda *_: True),
    ("sdp", sdp.Session, "serialize", replaced(sdp.Session.serialize, lambda text: text + b"a=x")),  # type: ignore[operator]
    ("sdp", answer, "formats", lambda _: [(b"0", b"pcmu/8000"), (b"98", b"t140/1000")]),
    ("srtp", srtp, "differs", lambda *_: 0),
    ("srtp", srtcp, "same", ignored),
    ("srtp", replay.ReplayWindow, "is_fresh", ignored),
    ("rtcp", rtcp, "_fits", ignored_all),
    ("rtcp", rtcp, "_blocks_at", lambda part: part[2] + 8),
    ("rtcp", rtcp, "_BLOCK_BYTES", 20),
    ("rtcp", reception.Reception, "expected", lambda one: one.received << 12),
    ("text", text, "decode", lambda data: str(data, "utf-8")),
    ("text", text, "_hold", lambda stream, *block: stream.held.append(block)),
    ("text", text, "_WAIT_MS", 2000),
    ("text", text.TextReceiver, "_release", ignored_all),
    ("text", text.TextReceiver, "_stream", lambda _, packet: text._Stream(bytes(packet[8:12]))),
    ("dtmf", dtmf, "_LATE_MS", 0),
    ("dtmf", dtmf, "_TIMEOUT_MS", 400),
    ("dtmf", dtmf.DtmfReceiver, "close", lambda _: []),
    ("frame", hop, "same", ignored),
    ("frame", replay.ReplayWindow, "is_fresh", ignored),
    ("stream", stream.StreamParser, "receive", forgetful(stream.StreamParser.receive)),
    ("stream", stream.StreamParser, "_cut", hasty(stream.StreamParser._cut)),
    ("cms", signed, "check", ignored_all),
    ("cms", signed, "_verify", unchecked),
    ("cms", enveloped, "_open_gcm", lambda *_: b"nonsense"),
    ("cms", signed, "load_certificate", lambda _: {}["an error of another layer"]),
    ("mime", signed, "_verify", unchecked),
    ("mime", mime, "_split", replaced(mime._split, lambda parts: parts[:-1])),  # type: ignore[operator,index]
    ("mime", aib, "_same_cseq", ignored_all),
    ("x509", path, "check_signature", ignored_all),
    ("x509", revocation, "check_signature", ignored_all),
    ("x509", revocation, "_reason", lambda _: x509.ReasonFlags.remove_from_crl),
    ("sealed", freshness.Freshness, "check_first", ignored_all),
    ("sealed", security.SecurityAgent, "_enforce", ignored_all),
    ("sealed", security, "compare", lambda *_, **__: b"sip:alice@a.example"),
    ("sealed", trust, "proves", ignored_all),
    ("sealed", signed, "_verify", unchecked),
]


@pytest.mark.parametrize(("name", "where", "what", "other"), BROKEN, ids=[f"{one[0]}-{one[2]}" for one in BROKEN])
def test_what_is_broken_is_seen(
    name: str, where: object, what: str, other: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examples(name)
    forget()
    monkeypatch.setattr(where, what, other)
    seen = 0
    for data in found:
        try:
            judge(name, data)
        except Exception:
            seen += 1
    assert seen > 0
    forget()


def test_what_is_slow_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By processor time, three times in a row: waiting costs nothing, and a hiccup is none."""

    def work(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    times = iter([0.07, 0.07, 0.0])
    monkeypatch.setitem(HARNESSES, "uri", lambda _: work(0.07))
    with pytest.raises(SlowError, match=r"\d+ ms for 3 bytes"):
        judge("uri", b"abc")
    monkeypatch.setitem(HARNESSES, "uri", lambda _: work(next(times)))
    assert judge("uri", b"abc") < LIMIT_MS * 1_000_000
    monkeypatch.setitem(HARNESSES, "uri", lambda _: time.sleep(0.07))
    judge("uri", b"abc")


WIRE = b'INVITE sip:a SIP/2.0\r\nVia : x\r\n\t , y\r\nl: 5\r\nContact: "a, \\"b" <sip:c,d>, e\r\nZ:\r\n\r\nhello'  # fmt: skip


def test_reference() -> None:
    """The second reader, which takes nothing of sipwire, reads what there is to read."""
    assert reference.headers(WIRE) == [
        ("via", b"x , y"),
        ("content-length", b"5"),
        ("contact", b'"a, \\"b" <sip:c,d>, e'),
        ("z", b""),
    ]
    assert reference.length_of(WIRE) == 5
    assert reference.elements([b'"a, \\"b" <sip:c,d>, e', b"f"]) == [b'"a, \\"b" <sip:c,d>', b"e", b"f"]
    for values in ([b"a,,b"], [b'"a'], [b"<a"], [b""]):
        with pytest.raises(reference.FaultError):
            reference.elements(values)
    assert reference.sip_uri(b"sip:u:p@[::1]:5070;x=y;z?h=i") == (b"sip", b"u:p", b"[::1]", 5070, [b"x=y", b"z"])
    assert reference.sip_uri(b"SIPS:h") == (b"sips", None, b"h", None, [])
    with pytest.raises(reference.FaultError):
        reference.sip_uri(b"tel:1")
    for wire in (b"no end", b"A\r\nno colon\r\n\r\n"):
        with pytest.raises(reference.FaultError):
            reference.headers(wire)
    for lengths in (b"l: 1\r\nl: 2", b"l: x"):
        with pytest.raises(reference.FaultError):
            reference.length_of(b"A\r\n" + lengths + b"\r\n\r\n")


# The tool.


def need_atheris() -> None:
    if importlib.util.find_spec("atheris") is not None:
        return
    if os.environ.get("WISP_TEST_ALL"):
        raise AssertionError("atheris is not installed")
    pytest.skip("atheris is not installed: it has no wheel for this Python or this machine")


@pytest.mark.parametrize("name", HARNESSES)
def test_very_many_inputs(name: str) -> None:
    need_atheris()
    done = subprocess.run(
        [str(ROOT / "tools" / "fuzz"), name, "--runs", str(RUNS)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(rf"^{name} +(\d+) inputs +\d+ s +\d+/s  slowest +([\d.]+) ms$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    assert int(found[1]) >= RUNS
    assert 0 < float(found[2]) <= LIMIT_MS


def test_what_is_found_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the traceback, and the input in a file that shows it again."""
    need_atheris()
    child = tmp_path / "child.py"
    child.write_text(
        "from fuzzing.child import main\nfrom sipwire.uri import Uri\n"
        "Uri.serialize = lambda uri: b'sip:x@y' if b'bob' in uri.user else b'sip:' + uri.host\nmain()\n"
    )
    monkeypatch.setattr(command, "_CHILD", child)
    monkeypatch.setattr(command, "_FOUND", tmp_path / "found")
    monkeypatch.setattr(sys, "argv", ["fuzz", "uri", "--runs", "5000", "--jobs", "2"])
    assert command.main() == 1
    said = capsys.readouterr().out
    assert re.search(r"^Traceback.*^AssertionError|^TypeError", said, re.MULTILINE | re.DOTALL)
    told = re.findall(r"^found: tools/fuzz uri --input (.+)$", said, re.MULTILINE)
    assert told
    assert {Path(one).resolve() for one in told} == {path.resolve() for path in (tmp_path / "found/uri").iterdir()}
    monkeypatch.setattr(sys, "argv", ["fuzz", "uri", "--input", told[0]])
    assert command.main() == 0, "it is good where nothing is broken"
    assert "all that has to hold does" in capsys.readouterr().out
    monkeypatch.setattr(uri.Uri, "serialize", lambda _: b"sip:x@y")
    assert command.main() == 1
    assert "Traceback" in capsys.readouterr().err


def test_storm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "storm", "--runs", str(max(20_000, RUNS // 10))])
    assert command.main() == 0
    said = capsys.readouterr().out
    assert re.search(r"storm +\d+ packets .+ 24 kinds of receiver", said), said
    monkeypatch.setattr(replay.ReplayWindow, "is_fresh", lambda *_: True)
    assert command.main() == 1
    assert "a packet was taken that was" in capsys.readouterr().err


def test_without_atheris(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["fuzz", "uri"])
    assert command.main() == 2
    assert re.search(r"atheris is not installed: it has wheels for .+ and this is \w+ \d", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["dns"], "no harness 'dns'; there are message, uri"), (["uri", "--runs", "0"], "begin at 1")],
)
def test_mistakes(
    arguments: list[str], word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", *arguments])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 2
    assert word in capsys.readouterr().err


def test_all_harnesses_are_told_of() -> None:
    text = (ROOT / "tools" / "fuzz").read_text()
    assert ", ".join(HARNESSES) in text
    assert f"more than {harnesses.LIMIT_MS} ms" in text
