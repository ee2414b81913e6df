"""What a parser reads in a message, told as one text: the same module on both Pythons.

    micropython tests/torture/reading.py

reads messages from standard input, each after its size in 4 bytes, and answers each with the first bytes of the SHA-256
of that text, until the input ends. A size of `WHOLE` asks for the whole text of the message that follows, size first.
"""

import sys
from hashlib import sha256

if __name__ == "__main__":
    sys.path.insert(0, __file__.rsplit("/", 1)[0] + "/../../shared")

from sipwire.agreement import parse_mechanisms
from sipwire.digest import Challenge
from sipwire.digest_server import parse_credentials
from sipwire.editing import tokens
from sipwire.errors import ParseError
from sipwire.message import Request, parse
from sipwire.sdp import Session
from sipwire.transaction import server_key
from sipwire.uri import Uri

__all__ = ["DIGEST_BYTES", "WHOLE", "tell", "tell_digest"]

DIGEST_BYTES = 8
WHOLE = 0xFFFFFFFF  # instead of a size: tell the text itself

_LISTS = ("via", "contact", "route", "record-route", "require", "supported", "allow", "accept")
_ADDRESSES = ("contact", "route", "record-route", "path", "refer-to", "referred-by", "reply-to", "p-asserted-identity")
_NUMBERS = ("max-forwards", "expires", "min-expires", "content-length")
_CHALLENGES = ("www-authenticate", "proxy-authenticate")
_CREDENTIALS = ("authorization", "proxy-authorization")
_AGREEMENTS = ("security-client", "security-server", "security-verify")


def _params(params):
    return b";".join([name if value is None else name + b"=" + value for name, value in params])


def _tried(out, label, work, *arguments):
    """Append what ``work`` tells, or the status and the words of its refusal."""
    try:
        told = work(*arguments)
    except ParseError as error:
        told = b"! %d %s" % (error.status, error.reason.encode())
    out.append(label + b" " + told)


def _uri(value):
    uri = Uri.parse(value)
    parts = [
        uri.scheme,
        b"-" if uri.user is None else uri.user,
        uri.host,
        str(uri.port).encode(),
        _params(uri.params),
        uri.headers,
        uri.opaque,
        uri.aor() if uri.is_sip else b"",
    ]
    return b"|".join(parts)


def _address(out, address):
    out.append(b"|".join((address.display, address.uri, _params(address.params), address.tag)))
    _tried(out, b"uri", _uri, address.uri)


def _via(via):
    port = str(via.port).encode()
    return b"|".join((via.version, via.transport, via.host, port, _params(via.params), via.branch))


def _values(message, key):
    return b"\0".join(message.values(key))


def _tokens(message, key):
    return b"\0".join(tokens(message, key))


def _number(message, key):
    return str(message.uint(key, 0x7FFFFFFF)).encode()


def _challenge(value):
    one = Challenge.parse(value)
    opaque = b"-" if one.opaque is None else one.opaque
    return b"|".join((one.realm, one.nonce, one.algorithm, b",".join(one.qop), opaque, b"%d" % one.stale))


def _credentials(value):
    return parse_credentials(value).serialize()


def _mechanisms(message, key):
    return b",".join([one.name + b";" + _params(one.params) for one in parse_mechanisms(message.values(key))])


def _session(body):
    session = Session.parse(body)
    out = [session.serialize()]
    for media in session.media:
        out.append(b"%d " % media.port + b" ".join(media.formats))
        out.extend([one.serialize() for one in media.cryptos()])
    return b"\n".join(out)


def _tell_message(message, out):
    is_request = isinstance(message, Request)
    out.append(message.start_line())
    for key, line in message.fields:
        out.append(key.encode() + b"\0" + line)
    out.append(message.body)
    out.append(_via(message.via))
    _address(out, message.from_)
    _address(out, message.to)
    out.append(message.cseq.serialize())
    out.append(message.call_id)
    seen = []
    for key, _ in message.fields:
        if key in seen:
            continue
        seen.append(key)
        label = key.encode()
        for value in message.get_all(key):
            out.append(value)
            if key in _CHALLENGES:
                _tried(out, label, _challenge, value)
            elif key in _CREDENTIALS:
                _tried(out, label, _credentials, value)
        if key in _LISTS:
            _tried(out, label, _values, message, key)
            if key in ("require", "supported"):
                _tried(out, label, _tokens, message, key)
        if key in _ADDRESSES:
            try:
                for address in message.addresses(key):
                    _address(out, address)
            except ParseError as error:
                out.append(b"! %d %s" % (error.status, error.reason.encode()))
        elif key in _NUMBERS:
            _tried(out, label, _number, message, key)
        elif key in _AGREEMENTS:
            _tried(out, label, _mechanisms, message, key)
    if message.body[:2] == b"v=":
        _tried(out, b"sdp", _session, message.body)
    if is_request:
        _tried(out, b"uri", _uri, message.uri)
        out.append(server_key(message))
        out.append(message.response(200, "OK", b"t").serialize())


def tell(data):
    """The text; it has no structure that matters, and leaves nothing out that was read."""
    out = []
    try:
        message = parse(data)
        out.append(b"request" if isinstance(message, Request) else b"response")
        _tell_message(message, out)
    except ParseError as error:
        out.append(b"! %d %s" % (error.status, error.reason.encode()))
        request = error.request
        if request is not None:
            out.append(request.start_line())
            out.extend([key.encode() + b"\0" + line for key, line in request.fields])
            out.append(request.body)
            response = request.refusal(error, b"t")
            out.append(response.serialize() if response else b"unanswerable")
    return b"\n".join(out)


def tell_digest(data):
    """The first bytes of the SHA-256 of the text."""
    return sha256(tell(data)).digest()[:DIGEST_BYTES]


def main():
    """Answer until the input ends."""
    read = sys.stdin.buffer.read
    write = sys.stdout.buffer.write
    while True:
        head = read(4)
        if not head:
            return
        size = int.from_bytes(head, "big")
        whole = size == WHOLE
        if whole:
            size = int.from_bytes(read(4), "big")
        data = read(size)
        if whole:
            text = tell(data)
            write(len(text).to_bytes(4, "big") + text)
        else:
            write(tell_digest(data))


if __name__ == "__main__":
    main()
