"""One generator feeds the parsers of CPython and of MicroPython, 32 and 64 bits: they read the same in everything.

No header is seen by one and not by another, and what one refuses the others refuse with the same status and words.
``WISP_DIFFERENTIAL=1000000 tools/test -k differential`` takes that many messages; 100,000 by default.
"""

import os
import subprocess
from collections.abc import Iterator

import pytest
from conftest import ROOT, micropython
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sipwire.errors import ParseError
from sipwire.message import MAX_MESSAGE_BYTES, parse
from torture.messages import examples, messages, mutants, protos
from torture.reading import DIGEST_BYTES, WHOLE, tell, tell_digest

COUNT = int(os.environ.get("WISP_DIFFERENTIAL", "100000"))
BATCH = 50  # messages for each that Hypothesis makes: itself, and copies with damage


class Reader:
    """A MicroPython that reads messages."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        command = [micropython(bits), "-X", "heapsize=16M", str(ROOT / "tests" / "torture" / "reading.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, batch: list[bytes]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"".join(len(data).to_bytes(4, "big") + data for data in batch))
        self._process.stdin.flush()

    def receive(self, count: int) -> list[bytes]:
        assert self._process.stdout is not None
        told = self._process.stdout.read(count * DIGEST_BYTES)
        assert len(told) == count * DIGEST_BYTES, f"MicroPython of {self.bits} bits ended"
        return [told[i : i + DIGEST_BYTES] for i in range(0, len(told), DIGEST_BYTES)]

    def tell(self, data: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(WHOLE.to_bytes(4, "big") + len(data).to_bytes(4, "big") + data)
        self._process.stdin.flush()
        return self._process.stdout.read(int.from_bytes(self._process.stdout.read(4), "big"))

    def stop(self) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait(10)


@pytest.fixture(scope="module")
def readers() -> Iterator[list[Reader]]:
    made = [Reader(bits) for bits in (32, 64)]
    try:
        yield made
        assert [one.stop() for one in made] == [0, 0]
    finally:
        for one in made:
            one._process.kill()
            one._process.wait()


def compare(readers: list[Reader], batch: list[bytes]) -> None:
    """All of them read the same in a batch of messages."""
    for reader in readers:
        reader.send(batch)
    try:
        ours = [tell_digest(data) for data in batch]
    finally:
        told = [reader.receive(len(batch)) for reader in readers]
    for reader, theirs in zip(readers, told, strict=True):
        if theirs != ours:
            at = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
            lines = zip(tell(batch[at]).split(b"\n"), reader.tell(batch[at]).split(b"\n"), strict=False)
            difference = next(((one, two) for one, two in lines if one != two), "in length")
            raise AssertionError(f"{reader.bits} bits: {batch[at]!r}\nCPython, MicroPython: {difference!r}")


def test_corpora(readers: list[Reader]) -> None:
    """The vectors, the seeds, and what is there of other projects' messages, as they are."""
    found = [*examples(), b"", b"\r\n", bytes(MAX_MESSAGE_BYTES + 1)]
    assert len(found) > 200
    for i in range(0, len(found), BATCH):
        compare(readers, found[i : i + BATCH])


def test_protos(readers: list[Reader]) -> None:
    count = 0
    for case in protos():
        compare(readers, [case.invite, case.teardown])
        count += 1
    assert count > 3000


def test_generated(readers: list[Reader]) -> None:
    seen = {"accepted": 0}
    fed = 0

    @settings(
        max_examples=-(-COUNT // BATCH),
        deadline=None,
        database=None,
        derandomize="WISP_DIFFERENTIAL" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(messages(), st.integers(0, 1 << 30))
    def work(base: bytes, seed: int) -> None:
        nonlocal fed
        batch = [base, *mutants(base, seed, BATCH - 1)]
        compare(readers, batch)
        fed += len(batch)
        for data in batch[:5]:
            try:
                parse(data)
                kind = "accepted"
            except ParseError as error:
                kind = str(error.status)
            seen[kind] = seen.get(kind, 0) + 1

    work()
    assert fed >= COUNT
    # Neither is all of it refused, nor all for the same reason.
    assert 10 * seen["accepted"] > sum(seen.values())
    assert 10 * seen["400"] > sum(seen.values())
    assert seen["505"] > 10


@pytest.mark.parametrize("status", [400, 505])
def test_a_difference_is_seen(readers: list[Reader], status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CPython's parser alone is another one, in one header or in one status."""
    data = examples()[0]
    compare(readers, [data])
    if status == 400:
        monkeypatch.setattr("torture.reading._NUMBERS", ())
        changed = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: 1\r\n"
        changed += b"CSeq: 1 OPTIONS\r\nMax-Forwards: 1\r\n\r\n"
    else:
        monkeypatch.setattr("sipwire.message._VERSION", b"SIP/7.0")
        changed = data
    with pytest.raises(AssertionError, match="CPython, MicroPython"):
        compare(readers, [changed])
