import re
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from pydantic import BaseModel

from neighbour.config import Config, ConfigError, SerialConfig, load, parse_address, user_name

SAMPLE = ROOT / "host" / "neighbour" / "sample.toml"


def mistakes(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "wisp.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return [line.removeprefix(f"{path}:") for line in caught.value.mistakes]


def changed(old: str, new: str) -> str:
    text = SAMPLE.read_text()
    assert text.count(old) >= 1, old
    return text.replace(old, new, 1)


def test_sample_is_valid() -> None:
    config = load(SAMPLE)
    assert config.domain == "a.example"
    assert [one.transport for one in config.listen] == ["udp", "tcp", "tls"]
    assert config.peer[0].address == ["127.0.0.2:5061"]
    assert config.peer[0].transport == "tls"


def uncommented() -> str:
    """The sample with every key that stands in a comment made a real one."""
    return re.sub(r'(?m)^# ([a-z0-9_]+ = ("[^"]*"|\S+)|\[\[[a-z]+\]\])', r"\1", SAMPLE.read_text())


def keys_of(model: type[BaseModel]) -> set[str]:
    return {name for name, field in model.model_fields.items() if not field.exclude}


def test_every_key_is_in_the_sample_and_valid_there(tmp_path: Path) -> None:
    path = tmp_path / "wisp.toml"
    path.write_text(uncommented())
    load(path)
    values = tomllib.loads(uncommented())
    assert set(values) == keys_of(Config)
    for name, field in Config.model_fields.items():
        annotation = field.annotation
        kind = getattr(annotation, "__args__", [annotation])[0] if field.annotation else None
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            tables = values[name] if isinstance(values[name], list) else [values[name]]
            shown = {key for table in tables for key in table}
            assert shown == keys_of(kind), name


def test_comments_show_the_defaults() -> None:
    """What stands in a comment is what holds without it."""
    shown = tomllib.loads(uncommented())
    real = load(SAMPLE)
    assert real.least_level("c.example") == shown["security"].pop("level")
    assert real.least_level("b.example") == shown["peer"][0].pop("level")
    for name in ("inside", "outside"):
        assert getattr(real.media, name) is None  # where we listen
        del shown["media"][name]
    for table in (shown["media"], shown["peer"][0]):
        assert table.pop("srtp") == "required"  # of what is relayed; of all calls where it is said
    for table in (
        "log", "store", "registrar", "auth", "proxy", "resolver", "security", "limits", "media", "accounting"
    ):  # fmt: skip
        for key, value in shown[table].items():
            assert getattr(getattr(real, table), key) == value, f"{table}.{key}"
    assert real.serial == []
    assert shown["serial"] == [SerialConfig(port="/dev/ttyUSB0", console="run/alice").model_dump()]
    for table in ("group", "peer"):
        for key, value in shown[table][0].items():
            assert getattr(getattr(real, table)[0], key) in (value, [value]), f"{table}.{key}"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('domain = "a.example"\n', "", "# Configuration", "domain: is missing"),
        ('domain = "a.example"', 'domain = "a example"', "domain", "domain: a domain name is wanted, like a.example"),
        ('domain = "a.example"', "domain = 5", "domain", "domain: should be a valid string"),
        (
            "port = 5060\n# adv",
            "port = 99999\n# adv",
            "port = 99999",
            "listen[0].port: should be less than or equal to",
        ),
        ("port = 5060\n# adv", 'port = "5060"\n# adv', 'port = "5060"', "listen[0].port: should be a valid integer"),
        (
            'transport = "tcp"',
            'transport = "sctp"',
            'transport = "sctp"',
            "listen[1].transport: should be 'udp', 'tcp'",
        ),
        ('address = "127.0.0.2:5061"', 'address = "b"', 'address = "b"', "peer[0].address: host:port is wanted"),
        ('domain = "b.example"', 'domain = "a.example"', "[[peer]]", "peer: a.example is this domain itself"),
        ("# md5 = false", 'md5 = "no"', "md5 =", "auth.md5: should be a valid boolean"),
        ("# timer_c_s = 200", "timer_d_s = 180", "timer_d_s", "proxy.timer_d_s: is not known"),
        (
            "[registrar]",
            "[registrar]\nmax_expires_s = 50",
            "[registrar]",
            "registrar: min_expires_s is above max_expires_s",
        ),
        (
            "# min_expires_s = 60",
            "min_expires_s = 3601",
            "min_exp",
            "registrar.min_expires_s: should be less than or equal",
        ),
        (
            "# edge_proxies = []",
            'edge_proxies = ["a b"]',
            "edge_p",
            "registrar.edge_proxies[0]: a domain name is wanted",
        ),
        ('# mode = "proxy"', 'mode = "b2bua"', "mode =", "proxy.mode: should be 'proxy' or 'redirect'"),
        ('key = "a.example.key"', "", "[tls]", "tls.key: is missing"),
        ("[metrics]", "[metric]", "[metric]", "metric: is not known"),
        ('address = "127.0.0.2:5061"', 'address = ["b:1", "b"]', "address =", "peer[0].address: host:port is wanted"),
        ('address = "127.0.0.2:5061"', "address = []", "address =", "peer[0].address: 1 to 8 addresses are wanted"),
        ('address = "127.0.0.2:5061"', "address = 5", "address =", "peer[0].address: should be a valid list"),
        ('# transport = "tls" ', 'transport = "sctp" #', "transport", "peer[0].transport: should be 'tls', 'tcp' or"),
        (
            'address = "127.0.0.2:5061"',
            'transport = "udp"\naddress = ["192.0.2.1:5060", "b.example:5060"]',
            "[[peer]]",
            "peer[0]: address: a numeric one is wanted for udp",
        ),
        (
            'address = "127.0.0.2:5061"',
            'transport = "tcp"\naddress = "0.0.0.0:5060"',
            "[[peer]]",
            "peer[0]: address: 0.0.0.0 is nobody's own, so that anybody would count as b.example",
        ),
        (
            'address = "127.0.0.2:5061"',
            'transport = "udp"\naddress = ["192.0.2.1:5060", "[::]:5060"]',
            "[[peer]]",
            "peer[0]: address: :: is nobody's own",
        ),
        (
            'address = "127.0.0.2:5061"',
            'transport = "udp"\naddress = "[ff02::1]:5060"',
            "[[peer]]",
            "peer[0]: address: ff02::1 is nobody's own",
        ),
        (
            'address = "127.0.0.2:5061"',
            'transport = "udp"\naddress = "255.255.255.255:5060"',
            "[[peer]]",
            "peer[0]: address: 255.255.255.255 is nobody's own",
        ),
        ("# transports =", "transports = [] #", "transports", "resolver.transports: List should have at least 1 item"),
        ("# transports =", 'transports = ["tls", "sctp"] #', "transports", "resolver.transports[1]: should be 'tls'"),
        ("# transports =", 'transports = ["udp", "udp"] #', "[resolver]", "resolver: transports: one of them is there"),
        (
            'address = "127.0.0.1"\nport = 5061',
            'address = "localhost"\nport = 5061',
            'address = "localhost"',
            "listen[2].address: a numeric",
        ),
        (
            '# level = "medium"\n# on',
            'level = "light"\n# on',
            'level = "light"',
            "security.level: should be 'none', 'medium'",
        ),
        ('# on_failure = "refuse"', 'on_failure = "warn"', "on_failure", "security.on_failure: should be 'refuse' or"),
        (
            '# crl_stale = "refuse"',
            'crl_stale = "plain"',
            "crl_stale",
            "security.crl_stale: should be 'accept', 'warn'",
        ),
        (
            "# crl_fresh_s = 0",
            "crl_fresh_s = -1",
            "crl_fresh_s",
            "security.crl_fresh_s: should be greater than or equal",
        ),
        ("# renew_days = 30", "renew_days = 0", "renew_days", "security.renew_days: should be greater than or equal"),
        ("# renew_days = 30", "renew_days = 400", "renew_days", "security.renew_days: should be less than or equal"),
        (
            '# folder = "certificates"',
            'folder = ""',
            "folder",
            "security.folder: String should have at least 1 character",
        ),
        ("# rfc6216 = false", "rfc6216 = 1", "rfc6216", "security.rfc6216: should be a valid boolean"),
        ('"sip:support@a.example"', '"support@a.example"', "uri", "group[0].uri: sip:user@domain is wanted"),
        ('"sip:support@a.example"', '"sips:support@a.example"', "uri", "group[0].uri: sip:user@domain is wanted"),
        ('"sip:support@a.example"', '"sip:a.example"', "uri", "group[0].uri: sip:user@domain is wanted"),
        ('"sip:support@a.example"', '"sip:../x@a.example"', "uri", "group[0].uri: 1 to 64 letters, digits"),
        ('"sip:support@a.example"', '"sip:support@a.example:5060"', "uri", "group[0].uri: a domain name is wanted"),
        (
            '"sip:support@a.example"',
            '"sip:support@b.example"',
            "[[group]]",
            "group: sip:support@b.example is not of a.example",
        ),
        (
            '"sip:support@a.example"',
            '"sip:domain@a.example"',
            "[[group]]",
            "group: sip:domain@a.example: `wisp account set",
        ),
        ('["alice", "carol"]', "[]", "members", "group[0].members: List should have at least 1 item"),
        ('["alice", "carol"]', '["alice", "x@y"]', "members", "group[0].members[1]: 1 to 64 letters, digits"),
        ('["alice", "carol"]', '["alice", "alice"]', "[[group]]", "group[0]: members: alice is there twice"),
        (
            '["alice", "carol"]',
            '["alice", "support"]',
            "[[group]]",
            "group: sip:support@a.example: support is a group itself",
        ),
        ('# mode = "parallel"', 'mode = "serial"', "mode", "group[0].mode: should be 'parallel' or 'hunt'"),
        (
            "# Domains with",
            '[[group]]\nuri = "sip:support@A.example"\nmembers = ["dave"]\n# Domains with',
            "[[group]]",
            "group: sip:support@a.example is there twice",
        ),
        ("# pin = []", 'pin = ["x"]', "pin", "peer[0].pin[0]: the base64 of a SHA-256 is wanted"),
        ("# pin = []", f'pin = ["{"A" * 44}"]', "pin", "peer[0].pin[0]: the base64 of a SHA-256 is wanted"),
        (
            '# profile = "rfc8591"',
            'profile = "rfc2543"',
            "profile",
            "peer[0].profile: should be 'rfc8591' or 'rfc3261'",
        ),
        (
            'address = "127.0.0.2:5061"',
            'transport = "tcp"\nlevel = "medium"\naddress = "192.0.2.1:5060"',
            "[[peer]]",
            "peer[0]: level: medium wants tls, and b.example is reached over tcp",
        ),
    ],
)
def test_mistakes_have_file_and_line(tmp_path: Path, old: str, new: str, line: str, message: str) -> None:
    text = changed(old, new)
    found = mistakes(tmp_path, text)
    assert len(found) == 1, found
    number, _, told = found[0].partition(": ")
    assert told.startswith(message), found
    assert text.splitlines()[int(number) - 1].startswith(line), found


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = changed('domain = "a.example"', 'domain = "?"').replace("[metrics]", "[metrics]\nx = 1")
    assert len(mistakes(tmp_path, text)) == 2


def test_broken_toml(tmp_path: Path) -> None:
    found = mistakes(tmp_path, 'domain = "a.example"\n[listen\n')
    assert found == ["2: expected ']' at the end of a table declaration"]
    found = mistakes(tmp_path, 'domain = "a.example\n')
    assert found[0].startswith("1: ")


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: No such file or directory"):
        load(tmp_path / "nothing.toml")
    (tmp_path / "latin").write_bytes(b'domain = "\xe9"')
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(tmp_path / "latin")


def test_several_addresses_of_a_peer(tmp_path: Path) -> None:
    path = tmp_path / "wisp.toml"
    wanted = '["192.0.2.1:5060", "[2001:db8::1]:5060"]\ntransport = "udp"'
    path.write_text(changed('"127.0.0.2:5061"  #', f"{wanted} #"))
    peer = load(path).peer[0]
    assert (peer.address, peer.transport) == (["192.0.2.1:5060", "[2001:db8::1]:5060"], "udp")


def test_same_socket_twice(tmp_path: Path) -> None:
    text = changed(
        'transport = "tcp"\naddress = "127.0.0.1"\nport = 5060', 'transport = "tcp"\naddress = "127.0.0.1"\nport = 5061'
    )
    assert "12: listen: two entries want the same socket" in mistakes(tmp_path, text)[0]
    text = changed('# listen = "127.0.0.1:9464"', 'listen = "127.0.0.1:5060"')
    number, _, told = mistakes(tmp_path, text)[0].partition(": ")
    assert told == "metrics.listen: is the socket of an entry of listen"
    assert text.splitlines()[int(number) - 1].startswith("listen = ")


@pytest.mark.parametrize(
    ("changes", "peer", "others"),
    [
        ({}, "medium", "medium"),
        ({"# transports =": 'transports = ["tls", "udp"] #'}, "none", "none"),
        ({"# transports =": 'transports = ["udp"] #', "# enabled = true": "enabled = false"}, "medium", "medium"),
        (
            {"# transports =": 'transports = ["tls", "tcp"] #', '# level = "medium"\n# on': 'level = "heavy"\n# on'},
            "heavy",
            "heavy",
        ),
        ({'# level = "medium"\n# on': 'level = "none"\n# on'}, "none", "none"),
        (
            {'# level = "medium"\n# on': 'level = "heavy"\n# on', '# transport = "tls" ': 'transport = "udp" #'},
            "none",
            "heavy",
        ),
        ({'# level = "medium"          # the': 'level = "heavy" # the'}, "heavy", "medium"),
        ({'# level = "medium"          # the': 'level = "none" # the'}, "none", "medium"),
    ],
)
def test_the_least_level(tmp_path: Path, changes: dict[str, str], peer: str, others: str) -> None:
    """A peer's own, else none where it has no TLS, else the domain's, else what the transports allow."""
    text = SAMPLE.read_text().replace('"127.0.0.2:5061"', '"192.0.2.1:5061"')
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = tmp_path / "wisp.toml"
    path.write_text(text)
    config = load(path)
    assert (config.least_level("b.example"), config.least_level("c.example")) == (peer, others)


def test_groups_and_pins(tmp_path: Path) -> None:
    path = tmp_path / "wisp.toml"
    pin = "A" * 43 + "="
    text = changed("# pin = []", f'pin = ["{pin}"]')
    path.write_text(
        text.replace('uri = "sip:support@a.example"', 'uri = "SIP:Support@A.Example"').replace(
            '# mode = "parallel"', 'mode = "hunt"'
        )
    )
    config = load(path)
    group = config.group_of("Support")
    assert group is not None
    assert (group.uri, group.user, group.members, group.mode) == (
        "sip:Support@a.example",
        "Support",
        ["alice", "carol"],
        "hunt",
    )
    assert config.group_of("alice") is None
    assert config.peer[0].pin == [pin]


def test_user_names() -> None:
    for name in ("a", "alice", "Alice.B", "a+b", "1", "a_b-c", "y" * 64):
        assert user_name(name) == name
    for name in ("", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "a@b", "ä", "y" * 65, "a\0"):
        with pytest.raises(ValueError, match="1 to 64 letters, digits"):
            user_name(name)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wisp.toml"
    path.write_text(SAMPLE.read_text())
    config = load(path)
    assert config.path(config.tls.key) == tmp_path / "a.example.key"
    assert config.store_url == f"sqlite+aiosqlite:///{tmp_path}/wisp.db"


def test_parse_address() -> None:
    assert parse_address("192.0.2.1:5061") == ("192.0.2.1", 5061)
    assert parse_address("[2001:db8::1]:5061") == ("2001:db8::1", 5061)
    for text in ("", "a", "a:", ":1", "a:0", "a:65536", "a:x", "a:-1", "a:5²"):
        with pytest.raises(ValueError, match="host:port is wanted"):
            parse_address(text)
