"""Harnesses for what is text on the wire: messages, their URIs, Via and digest headers.

Each takes any bytes and returns where everything holds that has to; it lets an error of sipwire's tree pass only where
the codec may raise it.
"""

from fuzzing import reference
from sipwire.agreement import hop_nonce, hop_spi, parse_mechanisms
from sipwire.dialog import Dialog
from sipwire.digest import Challenge, Credentials, authenticate, choose, parse_scheme
from sipwire.digest_server import parse_credentials, serialize_challenge, verify
from sipwire.editing import remove, remove_first, set_via, set_via_param, tokens
from sipwire.errors import ParseError, SecurityError
from sipwire.headers import Address, CSeq, Via
from sipwire.message import MAX_HEAD_BYTES, MAX_HEADERS, Request, Response, parse
from sipwire.stream import StreamParser
from sipwire.transaction import ack_for, cancel_for, client_key, server_key
from sipwire.uri import Uri

__all__ = ["check_auth", "check_message", "check_refusal", "check_uri", "check_via"]

_ADDRESSES = ("contact", "route", "record-route", "path", "refer-to", "p-asserted-identity")
_SECRET = b"0" * 64


def check_refusal(error: ParseError) -> None:
    """An error can be told: in a status line and in a log."""
    assert 400 <= error.status < 700
    assert error.reason.isascii()
    assert error.reason.isprintable()


def check_message(data: bytes) -> None:
    """`sipwire.message`, `headers`, `editing`, `transaction` and `dialog`, on one message."""
    try:
        message = parse(data)
    except ParseError as error:
        check_refusal(error)
        if error.request is not None:
            _check_answer_to_refused(error.request, error)
        return
    wire = message.serialize()
    again = parse(wire)
    assert type(again) is type(message)
    assert again.start_line() == message.start_line()
    assert again.fields == message.fields
    assert again.body == message.body
    assert again.serialize() == wire
    _check_headers(message, wire)
    _check_framing(message, wire)
    _check_typed(message)
    _check_edited(parse(wire))
    if isinstance(message, Request):
        _check_copy(message)
        _check_request(message)
    else:
        client_key(message)
    _check_remembered(message)


def _check_answer_to_refused(request: Request, error: ParseError) -> None:
    """What is answered to a request that was refused is a response, as far as that is up to us."""
    response = request.refusal(error, b"tag")
    if response is None:
        assert request.get("via") is None
        return
    assert response.status == error.status
    assert response.get_all("via") == request.get_all("via")
    for key in ("from", "call-id", "cseq"):
        assert response.get_all(key) == request.get_all(key)[:1]
    wire = response.serialize()
    assert len(wire) < len(request.serialize()) + 100, "nobody gets more than they sent"
    try:
        again = parse(wire)
    except ParseError as failure:
        check_refusal(failure)
        return
    assert isinstance(again, Response)
    assert again.status == error.status
    assert again.to.tag


def _check_headers(message: "Request | Response", wire: bytes) -> None:
    """Nobody sees another header, another value or another list than we do."""
    seen = reference.headers(wire)
    assert [key for key, _ in message.fields] == [key for key, _ in seen]
    for key in {key for key, _ in seen}:
        values = [value for name, value in seen if name == key]
        assert message.get_all(key) == values
        assert message.get(key) == values[0]
        try:
            ours = message.values(key)
        except ParseError as error:
            check_refusal(error)
            ours = None
        try:
            theirs = reference.elements(values)
        except reference.FaultError:
            theirs = None
        assert ours == theirs, key
        if ours is not None and key in ("require", "proxy-require", "supported"):
            assert tokens(message, key) == [one.lower() for one in ours]
    start, _, rest = wire.partition(b"\r\n")
    head = rest.partition(b"\r\n\r\n")[0]
    assert head.replace(b"\r\n", b"").count(b"\r") == head.replace(b"\r\n", b"").count(b"\n") == 0
    assert b"\n" not in start


def _check_framing(message: "Request | Response", wire: bytes) -> None:
    """A stream is cut where the message ends, or not at all."""
    length = reference.length_of(wire)
    stream = StreamParser()
    found = stream.receive(wire + b"X")
    if length is None:
        assert found == []
        assert stream.fault is not None
    else:
        assert length == len(message.body)
        assert found == [wire]
        assert stream.fault is None
        assert stream.pending_bytes == 1


def _check_typed(message: "Request | Response") -> None:
    """What was checked can be used, and what else may be read is read or refused."""
    via = message.via
    assert Via.parse(via.serialize()).serialize() == via.serialize()
    assert Via.parse(reference.elements([message.get("via") or b""])[0]).serialize() == via.serialize()
    for address in (message.from_, message.to):
        _check_address(address)
        assert address.param("tag") != b""
    assert CSeq.parse(message.cseq.serialize()).number == message.cseq.number
    assert message.call_id
    assert not set(message.call_id) & set(b" \t\r\n")
    for key in _ADDRESSES:
        try:
            found = message.addresses(key)
        except ParseError as error:
            check_refusal(error)
        else:
            for address in found:
                _check_address(address)
    for key in ("max-forwards", "expires", "min-expires"):
        try:
            number = message.uint(key, 0xFFFFFFFF)
        except ParseError as error:
            check_refusal(error)
        else:
            assert (number is None) == (message.get(key) is None)


def _check_address(address: Address) -> None:
    text = address.serialize()
    again = Address.parse(text)
    assert (again.display, again.uri, again.params) == (address.display, address.uri, address.params)
    assert reference.elements([text]) == [text], "an address is one element of a list"
    try:
        address.parsed_uri()
    except ParseError as error:
        check_refusal(error)


def _check_edited(message: "Request | Response") -> None:
    """What a proxy does to a message leaves everything else as it was."""
    before = message.serialize()
    vias = message.values("via") if _has_list(message, "via") else None
    others = [field for field in message.fields if field[0] not in ("via", "max-forwards", "record-route")]
    message.insert("Via", b"SIP/2.0/TLS a.example;branch=z9hG4bKtop")
    message.insert("Record-Route", b"<sip:a.example;lr>")
    message.set("Max-Forwards", b"1")
    wire = message.serialize()
    if len(message.fields) > MAX_HEADERS or wire.index(b"\r\n\r\n") + 4 > MAX_HEAD_BYTES:
        return  # it was as large as can be, and whoever gets it refuses it
    forwarded = parse(wire)
    assert forwarded.via.branch == b"z9hG4bKtop"
    assert forwarded.uint("max-forwards", 255) == 1
    assert [field for field in forwarded.fields if field[0] not in ("via", "max-forwards", "record-route")] == others
    assert forwarded.body == message.body
    remove_first(forwarded, "via")
    if vias is not None:
        assert forwarded.values("via") == vias
        via = forwarded.via
        set_via_param(via, b"received", b"192.0.2.1")
        set_via(forwarded, via)
        marked = parse(forwarded.serialize())
        assert marked.via.param("received") == b"192.0.2.1"
        assert marked.values("via")[1:] == vias[1:]
        remove_first(marked, "via")
        assert (marked.values("via") if len(vias) > 1 else marked.get_all("via")) == vias[1:]
    for key in ("contact", "subject"):
        remove(forwarded, key)
        assert forwarded.get(key) is None
    assert before == parse(before).serialize()


def _has_list(message: "Request | Response", key: str) -> bool:
    try:
        message.values(key)
    except ParseError:
        return False
    return True


def _check_request(request: Request) -> None:
    """What is made of a request: its responses, its ACK and CANCEL, a dialog."""
    assert b" " not in request.uri
    assert parse(request.serialize()).start_line() == request.start_line()
    server_key(request)
    response = parse(request.response(200, "OK", b"ours").serialize())
    assert isinstance(response, Response)
    assert response.get_all("via") == request.get_all("via")
    assert response.to.tag == (request.to.tag or b"ours")
    assert (response.call_id, response.from_.tag) == (request.call_id, request.from_.tag)
    assert client_key(response) == client_key(request)
    for made in (ack_for(request, response), cancel_for(request)):
        sent = parse(made.serialize())
        assert sent.via.branch == request.via.branch
        assert sent.get("call-id") == request.get("call-id")
    try:
        dialog = Dialog.as_callee(request, b"ours")
        bye = dialog.new_request("BYE")
    except ParseError as error:
        check_refusal(error)
        return
    bye.insert("Via", b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKbye")
    assert parse(bye.serialize()).to.tag == request.from_.tag


def _check_copy(request: Request) -> None:
    """What is done to a copy does not show in the original."""
    wire = request.serialize()
    copy = request.copy()
    assert copy.serialize() == wire
    copy.set("From", b"<sip:x@y>;tag=z")
    copy.set("CSeq", b"9 X")
    copy.insert("Via", b"SIP/2.0/UDP y")
    copy.uri = b"sip:y"
    assert (copy.from_.tag, copy.cseq.number, copy.via.host) == (b"z", 9, b"y")
    assert request.serialize() == wire
    assert request.from_.serialize() == Address.parse(request.get("from") or b"").serialize()
    assert request.via.serialize() == parse(wire).via.serialize()


def _check_remembered(message: "Request | Response") -> None:
    """Addresses and URIs that many messages share are still what is written, whatever was done to one of them."""
    for address, key in ((message.from_, "from"), (message.to, "to")):
        written = Address.parse(message.get(key) or b"")
        assert (address.display, address.uri, address.params) == (written.display, written.uri, written.params)
        assert address.tag == written.tag
        try:
            fresh = Uri.parse(written.uri)
        except ParseError:
            continue
        uri = address.parsed_uri()
        assert uri.serialize() == fresh.serialize()
        assert (uri.user, uri.host, uri.port, uri.params) == (fresh.user, fresh.host, fresh.port, fresh.params)
    written_cseq = CSeq.parse(message.get("cseq") or b"")
    assert (message.cseq.number, message.cseq.method) == (written_cseq.number, written_cseq.method)


def check_uri(data: bytes) -> None:
    """`sipwire.uri`: any bytes as a URI."""
    try:
        uri = Uri.parse(data)
    except ParseError as error:
        check_refusal(error)
        return
    text = uri.serialize()
    again = Uri.parse(text)
    assert again.serialize() == text
    parts = ("scheme", "user", "host", "port", "params", "headers", "opaque")
    assert [getattr(again, name) for name in parts] == [getattr(uri, name) for name in parts]
    assert not set(text) & set(b' \t\r\n<>"\0\x7f')
    assert text.isascii()
    assert Address.parse(b"<" + data + b">;tag=1").uri == data, "a URI stands in a header as it is"
    if not uri.is_sip:
        return
    scheme, user, host, port, params = reference.sip_uri(data)
    assert (uri.scheme, uri.user, uri.host, uri.port) == (scheme, user, host, port)
    assert [name if value is None else name + b"=" + value for name, value in uri.params] == params
    aor = uri.aor()
    assert Uri.parse(aor).aor() == aor, "who somebody is does not change by saying it again"
    assert Uri.parse(aor).host == uri.host.lower()


def check_via(data: bytes) -> None:
    """`sipwire.headers.Via`: any bytes as its value, alone and in a message."""
    try:
        via = Via.parse(data)
    except ParseError as error:
        check_refusal(error)
        return
    text = via.serialize()
    again = Via.parse(text)
    assert again.serialize() == text
    assert (again.transport, again.host, again.port) == (via.transport, via.host, via.port)
    assert (again.params, again.version) == (via.params, via.version)
    for name, _ in via.params:
        again.param(name.decode().lower())
    assert reference.elements([text]) == [text], "one Via is one element of a list"


def check_auth(data: bytes) -> None:
    """`sipwire.digest`, `digest_server`, `agreement`: any bytes as a challenge, as credentials, as mechanisms."""
    try:
        scheme, _ = parse_scheme(data)
        assert scheme == scheme.lower()
    except ParseError as error:
        check_refusal(error)
    _check_challenge(data)
    _check_credentials(data)
    try:
        for mechanism in parse_mechanisms([data]):
            assert 0 <= mechanism.q <= 1000
            assert 0 < hop_spi(mechanism) < 1 << 32
            assert len(hop_nonce(mechanism)) == 16
    except ParseError as error:
        check_refusal(error)


def _check_challenge(data: bytes) -> None:
    try:
        challenge = Challenge.parse(data)
    except ParseError as error:
        check_refusal(error)
        return
    text = serialize_challenge(challenge)
    again = Challenge.parse(text)
    for name in ("realm", "nonce", "algorithm", "qop", "opaque", "stale"):
        assert getattr(again, name) == getattr(challenge, name), name
    chosen = choose([data], challenge.realm, md5_allowed=True)
    if chosen is None:
        return
    for integrity in (False, True):
        try:
            made = authenticate(chosen, b"u", _SECRET, "INVITE", b"sip:a@b", b"cnonce", 1, b"body", integrity=integrity)
        except ParseError as error:
            check_refusal(error)
            continue
        except SecurityError as error:
            if not integrity or error.check != "digest":
                raise
            continue
        _check_own(made)


def _check_own(made: Credentials) -> None:
    """Credentials of ours are read as they were made, and hold; with another response they don't."""
    read = parse_credentials(made.serialize())
    for name in ("username", "realm", "nonce", "uri", "algorithm", "qop", "nc", "cnonce", "opaque", "response"):
        assert getattr(read, name) == getattr(made, name), name
    verify(read, _SECRET, "INVITE", b"body")
    read.response = made.response[:-1] + (b"0" if made.response[-1:] != b"0" else b"1")
    try:
        verify(read, _SECRET, "INVITE", b"body")
    except SecurityError:
        return
    raise AssertionError("a wrong response was taken")


def _check_credentials(data: bytes) -> None:
    try:
        credentials = parse_credentials(data)
    except ParseError as error:
        check_refusal(error)
        return
    text = credentials.serialize()
    assert parse_credentials(text).serialize() == text
    try:
        verify(credentials, _SECRET, "REGISTER")
    except (ParseError, SecurityError):
        return
    raise AssertionError("nobody could know the response")
