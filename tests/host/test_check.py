"""What `wisp check` finds, and `wisp serve` before it starts."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pki import URI

from neighbour.agent.authority import Authority
from neighbour.agent.credential import Credential
from neighbour.agent.keyring import Keyring
from neighbour.check import Findings, check
from neighbour.cli import run_command
from neighbour.config import load


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders e and f of two domains."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("e", "f"):
        run_command("init", str(folder / name), "--domain", f"{name}.example")
    for name, spoiled in (
        ("half", None),
        ("other", folder / "f" / "ca" / "intermediate.key"),
        ("broken", folder / "e" / "wisp.toml"),
    ):
        made = shutil.copytree(folder / "e" / "ca", folder / "e" / name) / "intermediate.key"
        made.unlink()
        if spoiled is not None:
            made.write_bytes(spoiled.read_bytes())
            made.chmod(0o600)
    return folder


def user(two: Path, name: str, made: Credential) -> Path:
    """Put a certificate into e's folder; returns where."""
    path = two / "e" / "certificates" / f"{name}.pem"
    made.write(path, path.with_suffix(".key"))
    return path


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
        ('"e.example.key"', '"../f/f.example.key"', "tls.key: is not the key of tls.certificate"),
        ('"e.example.key"', '"none.key"', "tls.key: {e}/none.key: No such file or directory"),
        ('"e.example.key"', '"wisp.toml"', "tls.key: {e}/wisp.toml: no PEM private key without a pass phrase"),
        ('"e.example.pem"', '"none.pem"', "tls.certificate: {e}/none.pem: No such file or directory"),
        ('"e.example.pem"', '"wisp.toml"', "tls.certificate: {e}/wisp.toml: no PEM certificate"),
        (
            '"e.example.',
            '"../f/f.example.',
            "tls.certificate: {e}/../f/f.example.pem is of f.example, not of e.example",
        ),
        ('"ca/root.pem"', '"ca/root.pem", "none.pem"', "tls.ca[1]: {e}/none.pem: No such file or directory"),
        ('"ca/root.pem"', '"e.example.key"', "tls.ca[0]: {e}/e.example.key: no PEM certificate"),
        ("# url =", 'url = "nonsense" #', "store.url: Could not parse SQLAlchemy URL from given URL string"),
        ("# url =", 'url = "sqlite:///wisp.db" #', "store.url: The asyncio extension requires an async driver"),
        ("# url =", 'url = "sqlite+aiosqlite:///no/wisp.db" #', "store.url: {e}/no is no folder"),
        ("# url =", 'url = "sqlite+aiosqlite:///wisp.toml" #', "store.url: (sqlite3.DatabaseError) file is not a"),
        ('authority = "ca"', 'authority = "."', "security.authority: {e}/root.pem: No such file or directory"),
        (
            'authority = "ca"',
            'authority = "half"',
            "security.authority: {e}/half/intermediate.key: No such file or directory",
        ),
        (
            'authority = "ca"',
            'authority = "other"',
            "security.authority: {e}/other/intermediate.key: is not the key of",
        ),
        (
            'authority = "ca"',
            'authority = "broken"',
            "security.authority: {e}/broken/intermediate.key: no PEM private",
        ),
        ("# crl = []", 'crl = ["none.crl"]', "security.crl[0]: {e}/none.crl: No such file or directory"),
        (
            "# crl = []",
            'crl = ["ca/root.pem"]',
            "security.crl[0]: {e}/ca/root.pem: no list of revoked certificates",
        ),
        (
            '# folder = "certificates"',
            'folder = "wisp.toml"',
            "security.folder: {e}/wisp.toml is no folder that we may read",
        ),
    ],
)
def test_mistakes(two: Path, old: str, new: str, told: str) -> None:
    found, start = changed(two, old, new)
    assert len(found.mistakes) == 1, found
    number, _, text = found.mistakes[0].removeprefix(start).partition(": ")
    assert text.startswith(told.format(e=two / "e")), found
    # By what stands there: the sample grows.
    key = told.partition(":")[0].rpartition(".")[2].partition("[")[0]
    assert (two / "e" / "changed.toml").read_text().splitlines()[int(number) - 1].startswith(key)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("ca/root.pem", "../f/ca/root.pem", "tls.certificate: does not lead to a root in tls.ca"),
        ("# md5 = false", "md5 = true", "auth.md5: accounts made with --md5 may use MD5, which is broken"),
        (
            "# last_port = 49999",
            "last_port = 41999",
            "media.last_port: 40000 to 41999 are enough for 500 relays, and max_relays is 2000",
        ),
        ("# first_port = 40000", "first_port = 5000", "listen[0].port: 5060 is among the ports for media"),
        (
            '# srtp = "required"\n# own',
            'srtp = "off"\n# own',
            "media.srtp: off: relayed media are protected for nobody",
        ),
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
            '"e.example.',
            '"new/e.example.',
            "tls.certificate: {e}/new/e.example.pem and its key are not there; `wisp serve` has it made by ca",
        ),
        ("# crl = []", 'crl = ["stale.crl"]', "security.crl[0]: {e}/stale.crl is stale since 2024-01-02"),
        (
            'transport = "tcp"\naddress = "127.0.0.1"',
            'transport = "tcp"\naddress = "::"',
            "listen[1]: tcp on all interfaces without `advertise`",
        ),
    ],
)
def test_warnings(two: Path, old: str, new: str, told: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateRevocationListBuilder(
        x509.Name([]), datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    )
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    (two / "e" / "stale.crl").write_bytes(der)
    found, start = changed(two, old, new)
    assert (found.mistakes, found.lapsed) == ([], [])
    assert len(found.warnings) == 1, found
    number, _, text = found.warnings[0].removeprefix(start).partition(": ")
    assert text.startswith(told.format(e=two / "e")), found
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


def test_a_level_that_cannot_be_reached(two: Path) -> None:
    text = (two / "e" / "wisp.toml").read_text()
    path = two / "e" / "changed.toml"
    text = text.replace("# transports =", 'transports = ["tls", "udp"] #')
    path.write_text(text.replace('# level = "medium"\n', 'level = "heavy"\n', 1))
    told = [line.partition(": ")[2] for line in check(load(path)).warnings]
    assert told == [
        "resolver.transports: whoever is on the way reads and changes calls over udp",
        "security.level: heavy wants tls, so that nobody is called over udp, which resolver.transports allows",
    ]


def test_no_certificate_and_no_authority(two: Path) -> None:
    path = two / "e" / "changed.toml"
    text = (two / "e" / "wisp.toml").read_text().replace('"e.example.', '"new/e.example.')
    path.write_text(text.replace('authority = "ca"', 'authority = ""').replace("ca/root.pem", "none.pem"))
    found = check(load(path))
    assert [line.partition(": ")[2] for line in found.warnings] == [
        f"tls.certificate: {two}/e/new/e.example.pem and its key are not there; `wisp serve` makes it, self-signed"
    ]
    assert [line.partition(": ")[2] for line in found.mistakes] == [
        f"tls.ca[0]: {two}/e/none.pem: No such file or directory"
    ]


def test_certificates_of_users(two: Path) -> None:
    """The agent's signs where a user's can't be used: that may not be what is wanted, and is told."""
    authority, other = Authority(two / "e" / "ca"), Authority(two / "f" / "ca")
    now = datetime.now(UTC)
    soon, gone = now + timedelta(days=9), now - timedelta(days=1)
    begin = now - timedelta(days=2)
    user(two, "good", authority.issue_user("sip:good@e.example"))
    user(two, "ours", authority.issue_user("sip:ours@e.example", begin, soon))  # made anew in time
    paths = [
        (
            user(two, "a-theirs", other.issue_user("sip:a-theirs@e.example", begin, soon)),
            f" expires on {soon:%Y-%m-%d}, and it is not us who made it",
        ),
        (
            user(two, "b-gone", authority.issue_user("sip:b-gone@e.example", begin, gone)),
            f" expired on {gone:%Y-%m-%d}",
        ),
        (user(two, "c-other", authority.issue_user("sip:x@e.example")), ": is not of sip:c-other@e.example"),
    ]
    made = authority.issue_user("sip:d-lone@e.example")
    lone = user(two, "d-lone", made)
    lone.with_suffix(".key").unlink()
    open_key = user(two, "e-open", authority.issue_user("sip:e-open@e.example")).with_suffix(".key")
    open_key.chmod(0o640)
    try:
        found, _ = changed(two, "", "")
    finally:
        shutil.rmtree(two / "e" / "certificates")
    assert (found.mistakes, found.lapsed) == ([], [])
    assert [line.partition(": security.folder: ")[2] for line in found.warnings] == [
        *(f"{path}{told}" for path, told in paths),
        f"{lone.with_suffix('.key')}: No such file or directory",
        f"{open_key} can be read by others; chmod 600 it",
    ]


def test_heavy_with_nothing_to_sign_with(two: Path) -> None:
    """Where there is no authority, and nobody has given us a certificate for it."""
    peer = '[[peer]]\ndomain = "f.example"\naddress = "127.0.0.2:5061"\nlevel = "heavy"\n\n[metrics]'
    text = (
        (two / "e" / "wisp.toml").read_text().replace("[metrics]", peer).replace('authority = "ca"', 'authority = ""')
    )
    path = two / "e" / "changed.toml"
    path.write_text(text.replace('# level = "medium"\n', 'level = "heavy"\n', 1))
    config, now = load(path), datetime.now(UTC)
    keyring, authority = Keyring(config), Authority(two / "e" / "ca")
    wanted = [
        f"{config.where(*where)}: heavy wants messages signed, and there is nothing to sign with for who has no"
        " certificate of its own; set security.authority, or begin with `wisp cert export @agent --csr`"
        for where in (("security", "level"), ("peer", 0, "level"))
    ]
    assert check(config) == Findings(warnings=wanted)
    try:
        for made, fits in (
            (authority.issue_agent("e.example", now - timedelta(days=2), now - timedelta(days=1)), False),
            (authority.issue_agent("e.example", now + timedelta(days=1), now + timedelta(days=99)), False),
            (authority.issue_domain("e.example"), False),
            (authority.issue_agent("e.example"), True),
        ):
            made.write(keyring.agent.certificate, keyring.agent.key)
            found = check(config).warnings
            assert [line for line in found if "nothing to sign with" in line] == ([] if fits else wanted)
        assert check(config) == Findings()
    finally:
        shutil.rmtree(two / "e" / "certificates")
    path.write_text(path.read_text().replace('authority = ""', 'authority = "ca"'))
    assert check(load(path)) == Findings(), "it makes what is missing"
    path.write_text(text.replace('authority = "ca"', 'authority = ""').replace('level = "heavy"', 'level = "medium"'))
    assert check(load(path)) == Findings(), "nothing is signed"


def test_the_agents_certificate(two: Path) -> None:
    config = load(two / "e" / "wisp.toml")
    keyring, authority = Keyring(config), Authority(two / "e" / "ca")
    tls = keyring.read(keyring.domain)
    same = x509.CertificateSigningRequestBuilder(
        x509.Name([]),
        [
            x509.Extension(
                x509.OID_SUBJECT_ALTERNATIVE_NAME, False, x509.SubjectAlternativeName([URI("sip:e.example")])
            ),
            x509.Extension(x509.OID_EXTENDED_KEY_USAGE, False, x509.ExtendedKeyUsage([x509.OID_EMAIL_PROTECTION])),
        ],
    )
    certificate, *chain = authority.sign_request(same.sign(tls.key, hashes.SHA256()))
    cases = [
        (tls, f"{keyring.agent.certificate}: is not for S/MIME: its extended key usage has no emailProtection"),
        (
            Credential(certificate, tls.key, tuple(chain)),
            f"{keyring.agent.key} is tls.key: whoever steals it signs in everybody's name",
        ),
    ]
    try:
        for made, told in cases:
            made.write(keyring.agent.certificate, keyring.agent.key)
            assert check(config) == Findings(warnings=[f"{config.where('security', 'folder')}: {told}"])
    finally:
        shutil.rmtree(two / "e" / "certificates")


def test_a_certificate_that_nobody_can_encrypt_to(two: Path) -> None:
    """Those that were made before there was S/MIME are for signatures only."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    for name, aor, renew in (
        ("user", "sip:user@e.example", ""),
        ("domain", "sip:e.example", "; renew it with `wisp cert renew domain`"),
    ):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder(
                subject, subject, key.public_key(), 5, now - timedelta(days=1), now + timedelta(days=99)
            )
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(aor)]), critical=False)
            .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = user(two, name, Credential(made, key))
        found, _ = changed(two, '"e.example.', '"certificates/domain.') if name == "domain" else changed(two, "", "")
        shutil.rmtree(two / "e" / "certificates")
        assert [one for one in found.warnings if f"{path}: nobody can encrypt to it" in one and one.endswith(renew)]


def test_groups(two: Path) -> None:
    store = ("-c", str(two / "e"))
    run_command("account", "add", "carol", *store, "--phone")
    run_command("account", "add", "sales", *store, "--phone")
    groups = """
[[group]]
uri = "sip:support@e.example"
members = ["carol"]
[[group]]
uri = "sip:sales@e.example"
members = ["carol", "dave", "erin"]
"""
    path = two / "e" / "changed.toml"
    path.write_text((two / "e" / "wisp.toml").read_text() + groups)
    config = load(path)
    assert check(config).warnings == [
        f"{config.where('group', 1, 'uri')}: sales is an account, too; calls to it ring the group",
        f"{config.where('group', 1, 'members')}: no such account: dave, erin; add it with `wisp account add`",
    ]
    path.write_text(path.read_text().replace("# url =", 'url = "sqlite+aiosqlite:///not-yet.db" #'))
    assert check(load(path)) == Findings(), "who has no database has no accounts either"
    assert not (two / "e" / "not-yet.db").exists()


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
