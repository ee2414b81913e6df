"""Messages to feed parsers with: the vectors and the corpora as they are, and what Hypothesis makes of them.

The corpora are other projects' data and not in this repository: they lie beside it, or where ``WISP_CORPORA`` says.
"""

import json
import os
import random
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import strategies as st

from fuzzing.harnesses import seeds

__all__ = ["ODD", "Protos", "corpora", "damaged", "examples", "header_lines", "messages", "mutants", "octets", "protos"]

ODD = [b"\0", b"\r\n", b"\r", b"\n", b" ", b"\t", b'"', b"\\", b"<", b">", b";", b",", b"=", b":", b"@", b"%", b"\xff",
       b"[", b"]", b"(", b"9" * 40, b"-1", b"a" * 300, b"\x0b", b"\x0c", b"\x7f", b"\xc3\xa9", b"\r\n ", b"\r\n\t",
       b"%00", b"::", b":::", b"SIP/2.0", b"sip:", b"4294967296", b"2147483648", b"65536"]  # fmt: skip


def corpora() -> Path:
    """The folder of the corpora; it need not be there."""
    return Path(os.environ.get("WISP_CORPORA") or ROOT.parent / "shared" / "corpora")


@cache
def examples() -> list[bytes]:
    """Whole messages, good and bad: vectors, seeds, and the corpora's small ones where they are there."""
    found = [path.read_bytes() for folder in seeds("message") for path in sorted(folder.iterdir())]
    found += [path.read_bytes() for path in sorted((corpora() / "fuzzseeds").glob("*/*.txt"))]
    return sorted({data for data in found if b"SIP/" in data})


class Protos:
    """One case of PROTOS c07-sip.

    Attributes:
        number: its number.
        group: the name of the field that it is about.
        invite, teardown: the two messages.
    """

    def __init__(self, number: int, group: str, invite: bytes, teardown: bytes) -> None:
        self.number = number
        self.group = group
        self.invite = invite
        self.teardown = teardown


# What the cases leave open, as one who sends them from 192.0.2.20 fills it in.
_PLACES = {
    b"<To>": b"bob@a.example",
    b"<From-Address>": b"192.0.2.20",
    b"<Local-Port>": b"5060",
    b"<Branch-ID>": b"%d",
    b"<From>": b"alice@a.example",
    b"<Call-ID>": b"call%d",
    b"<CSeq>": b"8193",
    b"<From-IP>": b"192.0.2.20",
    b"<Teardown-Method>": b"CANCEL",
}


def protos(*, srtp: bool = False, **places: str) -> Iterator[Protos]:
    """Every case that there is of PROTOS, which has gaps in its numbers; skips the test where none is.

    Args:
        srtp: offer SRTP where the cases offer RTP.
        places: other text for a placeholder, e.g. ``From_IP="127.0.0.2"``.
    """
    folder = corpora() / "protos"
    if not folder.is_dir():
        pytest.skip(f"PROTOS is not in {folder}; WISP_CORPORA names the folder of the corpora")
    groups = json.loads((folder / "groups.json").read_text())["groups"]
    filled = _PLACES | {b"<%s>" % name.replace("_", "-").encode(): text.encode() for name, text in places.items()}
    with tarfile.open(folder / "cases.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None:
                continue
            number = int(Path(member.name).name)
            group = [one["group"] for one in groups if one["first"] <= number][-1]
            raw = file.read()
            parts = [_secured(part) if srtp else part for part in _parts(raw)]
            invite, teardown = (_fill(part, number, filled) for part in parts)
            yield Protos(number, group, invite, teardown)


def _parts(raw: bytes) -> Iterator[bytes]:
    """What a case file holds: sizes in decimal, each followed by a space and so many bytes."""
    while raw:
        size, _, rest = raw.partition(b" ")
        yield rest[: int(size)]
        raw = rest[int(size) :]


def _secured(part: bytes) -> bytes:
    """A message whose body, where it has one, offers SRTP, and a key in its last line."""
    if not part.partition(b"\r\n\r\n")[2]:
        return part
    crypto = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n"
    return part.replace(b" RTP/AVP ", b" RTP/SAVP ") + crypto


def _fill(part: bytes, number: int, places: dict[bytes, bytes]) -> bytes:
    for name, text in places.items():
        part = part.replace(name, text.replace(b"%d", b"%d" % number))
    body = part.partition(b"\r\n\r\n")[2]
    return part.replace(b"<Content-Length>", b"%d" % len(body))


# Not st.binary(): with -bb, Hypothesis trips over its own comparisons of bytes with numbers.
def octets(maximum: int) -> st.SearchStrategy[bytes]:
    """Any bytes."""
    return st.lists(st.integers(0, 255), max_size=maximum).map(bytes)


@st.composite
def damaged(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """Something good with a few places changed, taken out, repeated, or taken from another one."""
    data = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 20)))
        kind = draw(st.integers(0, 5))
        if kind < 3:
            new = draw(st.sampled_from(ODD))
        elif kind == 3:
            new = draw(octets(6))
        elif kind == 4:
            new = data[start:end] * 2
        else:
            other = draw(st.sampled_from(good))
            at = draw(st.integers(0, len(other)))
            new = other[at : at + 30]
        data = data[:start] + new + data[end:]
    return data


_STARTS = [
    b"INVITE sip:bob@b.example SIP/2.0",
    b"OPTIONS sip:[2001:db8::1]:5070;x=y SIP/2.0",
    b"REGISTER sips:a.example sip/2.0",
    b"!odd%4d SIP:a%40b:c@d SIP/2.0",
    b"ACK tel:+1;x SIP/2.0",
    b"BYE sip:b SIP/3.0",
    b"BYE sip:b SIP/2.0",
    b"SIP/2.0 200 OK",
    b"SIP/2.0 401 Unauthorized",
    b"SIP/2.0 699 ",
    b"SIP/2.0 100 T r y",
    b"SIP/2.1 200 OK",
]
_SEPARATORS = [b": ", b":", b" : ", b"\t:\t", b":\r\n ", b" :\r\n\t \r\n "]
_LONG_SHORT = [b"Via", b"v", b"From", b"f", b"To", b"t", b"Call-ID", b"i", b"Contact", b"m", b"Content-Length", b"l",
               b"Subject", b"s", b"Supported", b"k", b"Referred-By", b"b", b"Refer-To", b"r", b"Event", b"o"]  # fmt: skip


@st.composite
def _made(draw: st.DrawFn, lines: list[bytes]) -> bytes:
    """A message of parts: what has to be there, more or less, in any order, written in any of the ways there are."""
    start = draw(st.sampled_from(_STARTS))
    method = b"INVITE" if start[:4] == b"SIP/" else start.partition(b" ")[0]
    needed = [
        (b"Via", b"SIP/2.0/UDP a.example:5060;branch=z9hG4bK1"),
        (b"From", b'"A, B" <sip:a@a.example>;tag=1'),
        (b"To", b"<sip:b@b.example>"),
        (b"Call-ID", b"c@1"),
        (b"CSeq", b"1 " + method),
    ]
    body = draw(st.sampled_from([b"", b"v=0\r\n", b"\r\n\r\n", b"hello"]))
    if draw(st.booleans()):
        needed.append((b"Content-Length", b"%d" % (len(body) + draw(st.sampled_from([0, 0, 0, 1, -1])))))
    out = []
    for name, value in needed:
        written = draw(st.sampled_from([name, name, name.upper(), _short(name)]))
        if draw(st.integers(0, 40)):
            out.append(written + draw(st.sampled_from(_SEPARATORS)) + value)
    for line in draw(st.lists(st.sampled_from(lines), max_size=4)):
        out.append(line)
        if draw(st.integers(0, 3)) == 0:
            name = draw(st.sampled_from(_LONG_SHORT))
            out[-1] = name + line[line.find(b":") :]
    if draw(st.booleans()):
        out.reverse()
    return start + b"\r\n" + b"\r\n".join(out) + b"\r\n\r\n" + body


def _short(name: bytes) -> bytes:
    for long, short in zip(_LONG_SHORT[::2], _LONG_SHORT[1::2], strict=True):
        if long == name:
            return short
    return name.lower()


def mutants(base: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Copies of a message, damaged or only written otherwise: a hundred times as fast as `damaged`.

    The same for the same seed. About half of what a parser takes stays something that it takes.
    """
    rng = random.Random(seed)
    for _ in range(count):
        data = base
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = _damaged_at_random(data, rng) if rng.randrange(4) == 0 else _written_otherwise(data, rng)
        yield data


def _damaged_at_random(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    end = start + rng.randrange(12)
    kind = rng.randrange(6)
    if kind < 2:
        new = rng.choice(ODD)
    elif kind == 2:
        new = data[start:end] * 2
    elif kind == 3:
        new = b""
    elif kind == 4:
        at = rng.randrange(len(data) + 1)
        new, end = data[at : at + 30], start
    else:
        new, end = bytes([rng.randrange(256)]), start + 1
    return data[:start] + new + data[end:]


def _written_otherwise(data: bytes, rng: random.Random) -> bytes:
    """Another line, another order, another case, a fold, white space: most of it changes nothing that matters."""
    head, blank, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    at = rng.randrange(min(1, len(lines) - 1), len(lines))
    kind = rng.randrange(7)
    if kind == 0:
        lines.insert(at + 1, rng.choice(header_lines()))
    elif kind == 1:
        lines.insert(at + 1, lines[rng.randrange(len(lines))])
    elif kind == 2 and at:
        lines.append(lines.pop(at))
    elif kind == 3:
        name, colon, value = lines[at].partition(b":")
        lines[at] = name.swapcase() + colon + value
    elif kind == 4 and b" " in lines[at]:
        lines[at] = lines[at].replace(b" ", rng.choice((b"\r\n ", b"\t", b"  ", b" \r\n\t")), rng.randrange(3))
    elif kind == 5:
        mark = rng.choice((b":", b";", b",", b"=", b"<"))
        lines[at] = lines[at].replace(mark, b" " + mark + b" ", rng.randrange(1, 3))
    elif kind == 6:
        body = rng.choice((body * 2, b"", body[:-1], b"\r\n\r\n" + body))
    return b"\r\n".join(lines) + blank + body


@cache
def header_lines() -> list[bytes]:
    """The header lines of the examples, but for very long ones and those that a message has once."""
    lines = {line for data in examples() for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]}
    once = (b"from", b"to", b"f", b"t", b"call-id", b"i", b"cseq", b"content-length", b"l")
    return sorted(one for one in lines if b":" in one and len(one) < 300 and _name_of(one) not in once)


def _name_of(line: bytes) -> bytes:
    """The name of a header line in lower case."""
    return line.partition(b":")[0].strip().lower()


def messages() -> st.SearchStrategy[bytes]:
    """Messages of all kinds: most are nearly right, which is where parsers part."""
    good = examples()
    made = _made(header_lines())
    return st.one_of(st.sampled_from(good), damaged(good), made)
