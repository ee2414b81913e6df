"""What `wisp check` finds, and `wisp serve` before it starts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from neighbour.agent.authority import Authority
from neighbour.check import Findings, check
from neighbour.cli import run_command
from neighbour.config import load


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders e and f of two domains."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("e", "f"):
        run_command("init", str(folder / name), "--domain", f"{name}.example")
    return folder


def changed(two: Path, old: str, new: str) -> tuple[Findings, str]:
    """What is found in e's configuration with a change, and how its lines begin."""
    good = (two / "e" / "wisp.toml").read_text()
    assert old in good
    path = two / "e" / "changed.toml"
    path.write_text(good.replace(old, new))
    return check(load(path)), f"{path}:"


def test_good(two: Path) -> None:
    assert check(load(two / "e" / "wisp.toml")) == Findings()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"e.example.key"', '"../f/f.example.key"', "30: tls.key: is not the key of tls.certificate"),
        ('"e.example.key"', '"none.key"', "30: tls.key: {e}/none.key: No such file or directory"),
        ('"e.example.key"', '"wisp.toml"', "30: tls.key: {e}/wisp.toml: no PEM private key without a pass phrase"),
        ('"e.example.pem"', '"none.pem"', "29: tls.certificate: {e}/none.pem: No such file or directory"),
        ('"e.example.pem"', '"wisp.toml"', "29: tls.certificate: {e}/wisp.toml: no PEM certificate"),
        (
            '"e.example.',
            '"../f/f.example.',
            "29: tls.certificate: {e}/../f/f.example.pem is of f.example, not of e.example",
        ),
        ('"ca/root.pem"', '"ca/root.pem", "none.pem"', "31: tls.ca[1]: {e}/none.pem: No such file or directory"),
        ('"ca/root.pem"', '"e.example.key"', "31: tls.ca[0]: {e}/e.example.key: no PEM certificate"),
        ("# url =", 'url = "nonsense" #', "35: store.url: Could not parse SQLAlchemy URL from given URL string"),
        ("# url =", 'url = "sqlite:///wisp.db" #', "35: store.url: The asyncio extension requires an async driver"),
        ("# url =", 'url = "sqlite+aiosqlite:///no/wisp.db" #', "35: store.url: {e}/no is no folder"),
        ("# url =", 'url = "sqlite+aiosqlite:///wisp.toml" #', "35: store.url: (sqlite3.DatabaseError) file is not a"),
    ],
)
def test_mistakes(two: Path, old: str, new: str, told: str) -> None:
    found, start = changed(two, old, new)
    assert len(found.mistakes) == 1, found
    assert found.mistakes[0].startswith(start + told.format(e=two / "e")), found


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("ca/root.pem", "../f/ca/root.pem", "tls.certificate: does not lead to a root in tls.ca"),
        ("# md5 = false", "md5 = true", "auth.md5: accounts made with --md5 may use MD5, which is broken"),
        ("# enabled = true ", "enabled = false", "resolver.enabled: off, and there is no [[peer]]"),
        (
            "# transports =",
            'transports = ["tls", "udp"] #',
            "resolver.transports: whoever is on the way reads and changes calls over udp",
        ),
        (
            '# [[peer]]\n# domain = "b.example"\n# address = "127.0.0.2:5061"',
            '[[peer]]\ndomain = "b.example"\ntransport = "udp"\naddress = ["192.0.2.2:5060", "192.0.2.3:5060"]',
            "peer[0].transport: whoever sends from, or forges, 192.0.2.2:5060 or 192.0.2.3:5060 is taken for b.example",
        ),
        (
            '# [[peer]]\n# domain = "b.example"\n# address = "127.0.0.2:5061"',
            '[[peer]]\ndomain = "b.example"\ntransport = "tcp"\naddress = "192.0.2.2:5060"',
            "peer[0].transport: whoever sends from 192.0.2.2:5060 is taken for b.example",
        ),
        (
            '"udp"           # udp, tcp or tls\naddress = "127.0.0.1"',
            '"tcp"\naddress = "127.0.0.2"',
            "listen: no udp, so that no terminal can register",
        ),
        ('"tls"', '"udp"', "listen: no tls, so that no other domain can call"),
        (
            'transport = "tcp"\naddress = "127.0.0.1"',
            'transport = "tcp"\naddress = "::"',
            "listen[1]: tcp on all interfaces without `advertise`",
        ),
    ],
)
def test_warnings(two: Path, old: str, new: str, told: str) -> None:
    found, start = changed(two, old, new)
    assert (found.mistakes, found.lapsed) == ([], [])
    assert len(found.warnings) == 1, found
    number, _, text = found.warnings[0].removeprefix(start).partition(": ")
    assert text.startswith(told), found
    # By what stands there: the sample grows.
    key = told.partition(":")[0].rpartition(".")[2].partition("[")[0]
    assert key in (two / "e" / "changed.toml").read_text().splitlines()[int(number) - 1]


def test_a_transport_without_a_listener(two: Path) -> None:
    text = (two / "e" / "wisp.toml").read_text()
    begin = text.index('[[listen]]\ntransport = "tcp"')
    end = text.index('[[listen]]\ntransport = "tls"')
    path = two / "e" / "changed.toml"
    path.write_text((text[:begin] + text[end:]).replace("# transports =", 'transports = ["tls", "tcp"] #'))
    told = [line.partition(": ")[2] for line in check(load(path)).warnings]
    assert told == [
        "resolver.transports: whoever is on the way reads and changes calls over tcp",
        "resolver.transports: no tcp in [[listen]], so that nothing can be sent over it",
    ]


def test_a_key_that_others_can_read(two: Path) -> None:
    key = two / "e" / "e.example.key"
    key.chmod(0o644)
    found, start = changed(two, "", "")
    key.chmod(0o600)
    assert found == Findings(warnings=[f"{start}30: tls.key: {key} can be read by others; chmod 600 it"])


@pytest.mark.parametrize(
    ("begin", "end", "told"), [(-2, -1, "expired on"), (1, 2, "holds only from"), (-1, 20, "expires on")]
)
def test_the_time_of_a_certificate(two: Path, begin: int, end: int, told: str) -> None:
    folder, now = two / "e", datetime.now(UTC)
    made = Authority(folder / "ca").issue_domain("e.example", now + timedelta(days=begin), now + timedelta(days=end))
    made.write(folder / "other.pem", folder / "other.key")
    found, start = changed(two, '"e.example.', '"other.')
    assert found.mistakes == []
    lines = found.warnings if told == "expires on" else found.lapsed
    assert len(lines) == 1
    assert lines[0].startswith(f"{start}29: tls.certificate: {folder}/other.pem {told} ")
