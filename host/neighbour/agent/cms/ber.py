"""BER made DER (X.690): what senders that stream leave open is closed again.

    indefinite   30 80 ... 00 00              ->  30 <length> ...
    in pieces    24 80 04 02 .. 04 02 .. 0000 ->  04 04 ....
    long length  04 81 01 ..                  ->  04 01 ..
    SET          in any order                 ->  in order

Only lengths, pieces and order change; values stay as they are. Strings with an implicit tag can't be known without
their structure: ``[0] { 04 .. 04 .. }`` stays in pieces for its reader to join.
"""

from .errors import MalformedError

__all__ = ["MAX_SIZE_BYTES", "to_der"]

#: A message above this is refused unread: sixteen certificates and an INVITE are far below it.
MAX_SIZE_BYTES = 65_536
#: A signed message with certificates is 12 deep; beyond this it is an attack on the stack.
_MAX_DEPTH = 32
#: Sixteen certificates have some 2,000 elements. Beyond this it is an attack on the time.
_MAX_ELEMENTS = 8_192

_CONSTRUCTED = 0x20
_SET = 0x31
_BIT_STRING = 0x03
#: Universal types that may come in pieces: BIT, OCTET, UTF8 and the other strings, and the two times.
_STRINGS = frozenset({0x03, 0x04, 0x0C, *range(0x12, 0x1F)})


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes((size,))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.elements = 0

    def octet(self, end: int) -> int:
        if self.at >= end:
            raise MalformedError("it ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def element(self, end: int, depth: int) -> tuple[bytes, bytes]:
        """The next element as its tag and its value, both DER; an empty tag for the end of an indefinite one."""
        self.elements += 1
        if depth > _MAX_DEPTH or self.elements > _MAX_ELEMENTS:
            raise MalformedError("it is nested too deep or has too many elements")
        start = self.at
        first = self.octet(end)
        if first & 0x1F == 0x1F:  # a tag number above 30; no structure of ours has one, but certificates may
            while self.octet(end) & 0x80:
                if self.at - start > 4:
                    raise MalformedError("a tag is too long")
        tag = self.data[start : self.at]
        size = self.octet(end)
        if first == 0:
            if size:
                raise MalformedError("a tag is reserved")
            return b"", b""
        if size == 0x80:
            if not first & _CONSTRUCTED:
                raise MalformedError("a primitive element has no length")
            return self._built(tag, self._children(end, depth, until_end=True))
        if size > 0x80:
            octets = size & 0x7F
            if octets > 4 or self.at + octets > end:
                raise MalformedError("a length is too long")
            size = int.from_bytes(self.data[self.at : self.at + octets], "big")
            self.at += octets
        if self.at + size > end:
            raise MalformedError("it ends too early")
        if first & _CONSTRUCTED:
            return self._built(tag, self._children(self.at + size, depth, until_end=False))
        self.at += size
        return tag, self.data[self.at - size : self.at]

    def _children(self, end: int, depth: int, *, until_end: bool) -> list[tuple[bytes, bytes]]:
        found = []
        while until_end or self.at < end:
            tag, value = self.element(end, depth + 1)
            if not tag:
                if until_end:
                    break
                raise MalformedError("an end without a beginning")
            found.append((tag, value))
        return found

    @staticmethod
    def _built(tag: bytes, children: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        kind = tag[0] & ~_CONSTRUCTED
        if kind in _STRINGS:
            tag = bytes((kind,))
            if any(piece != tag for piece, _ in children):
                raise MalformedError("a string has pieces of another type")
            if kind != _BIT_STRING:
                return tag, b"".join(value for _, value in children)
            # Each piece starts with its number of unused bits, and only the last may have some.
            if not children or not all(value for _, value in children) or any(value[0] for _, value in children[:-1]):
                raise MalformedError("a string of bits has gaps")
            return tag, children[-1][1][:1] + b"".join(value[1:] for _, value in children)
        parts = [tag + _length(len(value)) + value for tag, value in children]
        if tag[0] == _SET:
            parts.sort()
        return tag, b"".join(parts)


def to_der(data: bytes) -> bytes:
    """Make DER of one BER element.

    Args:
        data: the element, and nothing after it.

    Raises:
        MalformedError: it is no BER, or too long, too deep or of too many elements.
    """
    if len(data) > MAX_SIZE_BYTES:
        raise MalformedError("it is too long")
    reader = _Reader(data)
    tag, value = reader.element(len(data), 0)
    if not tag or reader.at != len(data):
        raise MalformedError("there is more or less than one element")
    return tag + _length(len(value)) + value
