"""Binding requests that phones send to keep their NAT's mapping (RFC 5626 section 8, RFC 8489).

    | 0x0001 | length of what follows (2) | magic cookie (4) | transaction (12) | attributes ...

The answer is made from the request alone and goes where it came from: what the mapping is (XOR-MAPPED-ADDRESS), or 420
with the attributes that we would have to understand and don't. Nothing else is answered, and nothing else is said: a
request of 20 bytes from a forged address brings 32 to whom it belongs (IPv6: 44), the least the RFC allows.
"""

import ipaddress

__all__ = ["answer_binding", "is_stun"]

_COOKIE = 0x2112A442.to_bytes(4)
_HEADER_BYTES = 20
_MAX_BYTES = 1280  # what fits through every path (RFC 8489 section 6.1); nobody needs more, and nothing is answered
_BINDING_REQUEST = b"\x00\x01"
_BINDING_SUCCESS = b"\x01\x01"
_BINDING_ERROR = b"\x01\x11"
_ERROR_CODE = 0x0009
_UNKNOWN_ATTRIBUTES = 0x000A
_XOR_MAPPED_ADDRESS = 0x0020
_FAMILIES = {4: 1, 6: 2}
_OPTIONAL = 0x8000  # from here on attributes may be ignored
# Those of RFC 8489 that are known but mean nothing here, where nobody authenticates: "SHOULD be ignored".
_KNOWN = {0x0001, 0x0006, 0x0008, 0x0009, 0x000A, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E, 0x0020}
_UNKNOWN_ATTRIBUTE = bytes((0, 0, 4, 20))  # 420, with no words: they would make the answer larger than it has to be


def is_stun(data: bytes) -> bool:
    """Whether a datagram is STUN. No SIP message and no frame of the hop begins so."""
    return data[:1] in (b"\x00", b"\x01") and data[4:8] == _COOKIE


def answer_binding(data: bytes, source: tuple[str, int]) -> bytes | None:
    """The answer to a Binding request, None where nothing is to be answered.

    Args:
        data: the datagram.
        source: where it came from.
    """
    # "It checks that the first two bits are 0, that the Magic Cookie field has the correct value, that the message
    # length is sensible, and that the method value is a supported method." (RFC 8489 section 6.3)
    length = int.from_bytes(data[2:4])
    is_sensible = length % 4 == 0 and len(data) == _HEADER_BYTES + length <= _MAX_BYTES
    if data[:2] != _BINDING_REQUEST or not is_stun(data) or not is_sensible:
        return None
    unknown: dict[int, None] = {}
    at = _HEADER_BYTES
    while at < len(data):
        kind, size = int.from_bytes(data[at : at + 2]), int.from_bytes(data[at + 2 : at + 4])
        at += 4 + size + -size % 4
        if at > len(data):
            return None
        if kind < _OPTIONAL and kind not in _KNOWN:
            unknown[kind] = None
    if unknown:
        kinds = b"".join(kind.to_bytes(2) for kind in unknown)
        body = _attribute(_ERROR_CODE, _UNKNOWN_ATTRIBUTE) + _attribute(_UNKNOWN_ATTRIBUTES, kinds)
        return _message(_BINDING_ERROR, data, body)
    address = ipaddress.ip_address(source[0].partition("%")[0])
    port = source[1] ^ int.from_bytes(_COOKIE[:2])
    mask = data[4:_HEADER_BYTES]
    mapped = bytes(a ^ b for a, b in zip(address.packed, mask, strict=False))
    value = bytes((0, _FAMILIES[address.version])) + port.to_bytes(2) + mapped
    return _message(_BINDING_SUCCESS, data, _attribute(_XOR_MAPPED_ADDRESS, value))


def _attribute(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2) + len(value).to_bytes(2) + value + bytes(-len(value) % 4)


def _message(kind: bytes, request: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(2) + request[4:_HEADER_BYTES] + body
