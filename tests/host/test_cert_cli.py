"""``wisp cert``: what goes out to an outside authority, and what is taken of what comes back."""

import io
import shutil
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from pki import EMAIL, SIP_DOMAIN

from neighbour.agent.certificates import Certificates, issuer_of, pin_of
from neighbour.agent.credential import Credential
from neighbour.agent.enrolment import MAX_FILE_BYTES, seal_pkcs12
from neighbour.agent.keyring import Keyring, is_for_smime, names_it
from neighbour.cli import run_command
from neighbour.config import load

Wisp = Callable[..., str]
OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
PHRASE = "correct horse"
TLS = (x509.OID_SERVER_AUTH, x509.OID_CLIENT_AUTH, SIP_DOMAIN)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cert") / "a"
    run_command("init", str(folder), "--domain", "a.example")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "a")


@pytest.fixture
def wisp(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Wisp:
    """Run ``wisp cert`` in this process; returns what it says, errors included."""

    def run(*arguments: object, status: int = 0, given: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        found = 0
        try:
            run_command("cert", *map(str, arguments), "--config", str(folder))
        except SystemExit as error:
            found = int(str(error.code))
        said = capsys.readouterr()
        assert found == status, said
        assert "PRIVATE KEY" not in said.out + said.err
        assert PHRASE not in said.out + said.err
        return said.out + said.err

    return run


class Outside:
    """An authority that is not ours; it takes what names it is told, not those of the request."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._build("Outside root", "Outside root", self.root_key, self.root_key.public_key(), [], 3650)
        self.certificate = self._build("Outside", "Outside root", self.root_key, self.key.public_key(), [], 3650)

    @staticmethod
    def _build(
        subject: str,
        issuer: str,
        signer: ec.EllipticCurvePrivateKey,
        key: "x509.types.CertificatePublicKeyTypes",  # type: ignore[name-defined]
        aors: list[str],
        end: int,
        begin: int = -1,
        extensions: tuple[x509.ExtensionType, ...] = (),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]),
            key,
            x509.random_serial_number(),
            now + timedelta(days=begin),
            now + timedelta(days=end),
        )
        if aors:
            names = [x509.UniformResourceIdentifier(aor) for aor in aors]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(signer, hashes.SHA256())

    def answer(
        self,
        key: object,
        *aors: str,
        end: int = 365,
        begin: int = -1,
        extensions: tuple[x509.ExtensionType, ...] = (),
    ) -> x509.Certificate:
        return self._build("somebody", "Outside", self.key, key, list(aors), end, begin, extensions)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def rows(listed: str) -> list[list[str]]:
    return [line.strip().split(maxsplit=3) for line in listed.splitlines()[1:]]


# Seeing.


def test_list_and_show(wisp: Wisp, folder: Path) -> None:
    assert [(row[0], row[3]) for row in rows(wisp("list"))] == [("sip:a.example", "a.example intermediate")]
    assert (
        wisp("show", "alice", status=1) == "sip:alice@a.example: has no certificate of its own; @agent signs for it\n"
    )
    wisp("renew", "alice")
    wisp("renew", "@agent")
    known = Certificates(load(folder / "wisp.toml"))
    alice = known.for_signing("alice", None).certificate
    listed = rows(wisp("list"))
    assert [row[0] for row in listed] == ["sip:a.example", "@agent", "sip:alice@a.example"]
    assert listed[2][1:3] == [f"{alice.serial_number:x}", f"{alice.not_valid_after_utc:%Y-%m-%d}"]
    for who in ("alice", "alice@a.example", "sip:alice@a.example", "sip:alice@A.Example"):
        said = wisp("show", who)
        assert f"pin:      {pin_of(alice)}\n" in said
        assert "whose:    sip:alice@a.example\n" in said
        assert alice.fingerprint(hashes.SHA256()).hex(":").upper() in said
        assert "made by:  a.example intermediate < a.example root\n" in said
        assert "key:      EC secp256r1\n" in said
        assert "encrypts: yes\n" in said
    for who in ("domain", "a.example", "sip:a.example"):
        assert pin_of(known.domain.certificate) in wisp("show", who)
    assert known.agent is not None
    said = wisp("show", "@agent")
    assert f"pin:      {pin_of(known.agent.certificate)}\n" in said
    assert "whose:    sip:a.example\n" in said
    assert "encrypts: yes\n" in said
    assert "is not in" in wisp("show", "bob@b.example", status=1)
    for who in ("../x", "a b", "bob@b_example", "", "@", "@domain", "sip:@agent"):
        assert "wanted" in wisp("show", who, status=2)


def test_what_cannot_be_used_is_told(wisp: Wisp, folder: Path) -> None:
    wisp("renew", "alice")
    (folder / "certificates" / "alice.key").write_bytes(b"nothing")
    assert "can't be used: " in wisp("list")
    assert "alice.key: no PEM private key" in wisp("show", "alice", status=1)
    assert "alice.key: no PEM private key" in wisp("export", "alice", "--pem", folder / "x.pem", status=1)


def test_a_name_that_commands_a_terminal(wisp: Wisp, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = "[red]x\x1b[2J\nsip:eve@a.example"
    made = Outside._build("s\x1b]0;", issuer, key, key.public_key(), ["sip:bob@b.example"], 9)
    (tmp_path / "bob.pem").write_bytes(pem(made))
    wisp("import", "bob@b.example", tmp_path / "bob.pem")
    for said in (wisp("list"), wisp("show", "bob@b.example")):
        assert "\x1b" not in said
        assert r"[red]x\x1b[2J\nsip:eve@a.example" in said


# Renewing.


def test_renew(wisp: Wisp, folder: Path) -> None:
    config = load(folder / "wisp.toml")
    before = Certificates(config).domain.certificate
    assert "sip:a.example: until 20" in wisp("renew", "domain")
    known = Certificates(config)
    assert known.domain.certificate != before
    assert mode(folder / "a.example.key") == 0o600
    wisp("renew", "alice")
    alice = Certificates(config).for_signing("alice", None).certificate
    assert known.reload() == {"sip:alice@a.example"}
    agent = known.agent
    assert agent is not None
    said = wisp("renew", "all")
    assert [line.partition(": until 20")[0] for line in said.splitlines()] == [
        "sip:a.example",
        "@agent",
        "sip:alice@a.example",
    ]
    assert known.reload() == {"sip:alice@a.example", "sip:a.example"}, "a running neighbour sees it"
    assert known.for_signing("alice", None).certificate != alice
    assert known.for_signing("alice", "domain").certificate != agent.certificate


def test_the_agents(wisp: Wisp, folder: Path) -> None:
    """Made before the neighbour has ever run, as anybody's."""
    assert wisp("show", "@agent", status=1) == (
        "@agent: has no certificate of its own; `wisp cert renew @agent` makes it\n"
    )
    assert wisp("renew", "@agent").startswith("@agent: until 20")
    keyring = Keyring(load(folder / "wisp.toml"))
    made = keyring.read(keyring.agent)
    assert names_it(made.certificate, "sip:a.example")
    assert is_for_smime(made.certificate)
    assert mode(folder / "certificates" / "@agent.key") == 0o600
    assert Certificates(load(folder / "wisp.toml")).for_signing("alice", "domain").certificate == made.certificate
    wisp("renew", "agent")
    assert keyring.read(keyring.of("agent")).certificate != made.certificate, "a user may be called so"
    assert keyring.read(keyring.agent).certificate == made.certificate
    wisp("renew", "@agent")
    assert keyring.read(keyring.agent).certificate.public_key() != made.certificate.public_key()


def test_renew_what_others_made(wisp: Wisp, folder: Path, tmp_path: Path) -> None:
    wisp("export", "alice", "--csr", tmp_path / "alice.csr")
    request = x509.load_pem_x509_csr((tmp_path / "alice.csr").read_bytes())
    (tmp_path / "answer").write_bytes(pem(Outside().answer(request.public_key(), "sip:alice@a.example")))
    wisp("import", "alice", tmp_path / "answer")
    said = wisp("renew", "alice", status=2)
    assert said.startswith("sip:alice@a.example: was made by Outside; ask there: `wisp cert export alice --csr FILE`")
    said = wisp("renew", "all")
    assert "sip:alice@a.example: left as it is, made by Outside\n" in said
    assert "sip:a.example: until " in said


def test_renew_without_an_authority(wisp: Wisp, folder: Path) -> None:
    path = folder / "wisp.toml"
    path.write_text(path.read_text().replace('authority = "ca"', 'authority = ""'))
    assert "there is no authority to make a certificate; see security.authority" in wisp("renew", "alice", status=2)
    assert "was made by a.example intermediate; ask there" in wisp("renew", "domain", status=2)
    assert "there is none that our authority made" in wisp("renew", "all", status=1)
    for name in ("a.example.pem", "a.example.key"):
        (folder / name).unlink()
    made = Certificates(load(path)).domain.certificate
    said = wisp("renew", "domain")
    assert f'pin = ["{pin_of(made)}"]' in said, "the same key: who has pinned it need do nothing"
    assert Certificates(load(path)).domain.certificate != made


# Out to an authority, and back.


def test_a_request_and_its_answer(wisp: Wisp, folder: Path, tmp_path: Path) -> None:
    outside, config = Outside(), load(folder / "wisp.toml")
    keyring = Keyring(config)
    assert "give the answer to `wisp cert import alice`" in wisp("export", "alice", "--csr", tmp_path / "1.csr")
    request = x509.load_pem_x509_csr((tmp_path / "1.csr").read_bytes())
    assert request.is_signature_valid
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("sip:alice@a.example")]
    pending = keyring.of("alice").pending
    assert (mode(pending), mode(pending.parent)) == (0o600, 0o700)
    assert rows(wisp("list"))[1] == ["sip:alice@a.example", "asked", "for:", "give the answer to `wisp cert import`"]
    assert not (folder / "certificates" / "alice.key").exists(), "until the answer comes, nothing changes"
    # Asked once more: for the same key, as the first answer may still be on its way.
    wisp("export", "alice", "--csr", tmp_path / "2.csr")
    assert x509.load_pem_x509_csr((tmp_path / "2.csr").read_bytes()).public_key() == request.public_key()
    answer = outside.answer(request.public_key(), "sip:alice@a.example")
    (tmp_path / "answer.pem").write_bytes(pem(outside.root, outside.certificate, answer))
    assert "sip:alice@a.example: " in wisp("import", "alice", tmp_path / "answer.pem")
    assert not pending.exists()
    alice = keyring.read(keyring.of("alice"))
    assert (alice.certificate, alice.chain) == (answer, (outside.certificate,)), "ours first, and no root"
    assert mode(keyring.of("alice").key) == 0o600
    # The next request is for the same key; its answer, without a chain and as DER, too.
    wisp("export", "alice", "--csr", tmp_path / "3.csr")
    assert x509.load_pem_x509_csr((tmp_path / "3.csr").read_bytes()).public_key() == answer.public_key()
    again = outside.answer(answer.public_key(), "sip:alice@a.example")
    (tmp_path / "answer.der").write_bytes(again.public_bytes(serialization.Encoding.DER))
    wisp("import", "alice", tmp_path / "answer.der")
    assert keyring.read(keyring.of("alice")).certificate == again
    # A new key is used from its answer on.
    wisp("export", "alice", "--csr", tmp_path / "4.csr", "--new-key")
    new = x509.load_pem_x509_csr((tmp_path / "4.csr").read_bytes()).public_key()
    assert new != again.public_key()
    assert keyring.read(keyring.of("alice")).certificate == again
    (tmp_path / "new.pem").write_bytes(pem(outside.answer(new, "sip:alice@a.example")))
    wisp("import", "alice", tmp_path / "new.pem")
    assert keyring.read(keyring.of("alice")).certificate.public_key() == new


def test_the_domains_request(wisp: Wisp, folder: Path, tmp_path: Path) -> None:
    wisp("export", "domain", "--csr", tmp_path / "d.csr", "--new-key")
    request = x509.load_pem_x509_csr((tmp_path / "d.csr").read_bytes())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("sip:a.example"), x509.DNSName("a.example")]
    (tmp_path / "d.pem").write_bytes(pem(Outside().answer(request.public_key(), "sip:a.example")))
    wisp("import", "a.example", tmp_path / "d.pem")
    known = Certificates(load(folder / "wisp.toml")).domain
    assert known.certificate.public_key() == request.public_key()
    assert mode(folder / "a.example.key") == 0o600


def test_the_agents_request(wisp: Wisp, folder: Path, tmp_path: Path) -> None:
    """For S/MIME alone, and for a key of its own: that of TLS it never is."""
    keyring = Keyring(load(folder / "wisp.toml"))
    assert "give the answer to `wisp cert import @agent`" in wisp("export", "@agent", "--csr", tmp_path / "@.csr")
    request = x509.load_pem_x509_csr((tmp_path / "@.csr").read_bytes())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("sip:a.example")]
    purposes = request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {EMAIL, SIP_DOMAIN}
    assert request.public_key() != keyring.read(keyring.domain).key.public_key()
    assert (keyring.agent.pending, mode(keyring.agent.pending)) == (folder / "certificates/pending/@agent.key", 0o600)
    assert rows(wisp("list"))[1] == ["@agent", "asked", "for:", "give the answer to `wisp cert import`"]
    run_command("ca", "sign", str(folder / "ca"), str(tmp_path / "@.csr"), "--out", str(tmp_path))
    assert "@agent: " in wisp("import", "@agent", tmp_path / "@.pem")
    agent = Certificates(load(folder / "wisp.toml")).agent
    assert agent is not None
    assert agent.certificate.public_key() == request.public_key()
    assert is_for_smime(agent.certificate)
    assert not keyring.agent.pending.exists()
    assert not is_for_smime(keyring.read(keyring.domain).certificate), "that of TLS is as it was"


@pytest.mark.parametrize(
    ("aors", "purposes", "usage", "told"),
    [
        (["sip:alice@a.example"], (EMAIL,), "digital_signature", "is not of sip:a.example"),
        (["sip:b.example"], (EMAIL,), "digital_signature", "is not of sip:a.example"),
        (
            ["sip:a.example"],
            (SIP_DOMAIN,),
            "digital_signature",
            "is not for S/MIME: its extended key usage has to have",
        ),
        (["sip:a.example"], TLS, "digital_signature key_agreement", "is not for S/MIME"),
        (["sip:a.example"], (EMAIL,), "key_agreement", "is not for signatures: its key usage has to have"),
    ],
)
def test_answers_for_the_agent_that_are_refused(
    wisp: Wisp,
    folder: Path,
    tmp_path: Path,
    aors: list[str],
    purposes: tuple[x509.ObjectIdentifier, ...],
    usage: str,
    told: str,
) -> None:
    wisp("export", "@agent", "--csr", tmp_path / "csr")
    key = x509.load_pem_x509_csr((tmp_path / "csr").read_bytes()).public_key()
    path = tmp_path / "answer"
    path.write_bytes(
        pem(Outside().answer(key, *aors, extensions=(x509.ExtendedKeyUsage(purposes), pki.usage(*usage.split()))))
    )
    assert wisp("import", "@agent", path, status=2).startswith(f"{path}: {told}")
    assert not (folder / "certificates" / "@agent.pem").exists()
    path.write_bytes(pem(Outside().answer(key, "sip:a.example")))
    assert "@agent: " in wisp("import", "@agent", path), "without any word on purposes"


def test_tls_and_signatures_have_a_key_each(wisp: Wisp, folder: Path, tmp_path: Path) -> None:
    keyring = Keyring(load(folder / "wisp.toml"))
    tls = keyring.read(keyring.domain)
    path = tmp_path / "x.p12"
    same = Credential(Outside().answer(tls.certificate.public_key(), "sip:a.example"), tls.key)
    path.write_bytes(seal_pkcs12(same, "x", PHRASE))
    arguments = (path, "--p12", "--password-stdin")
    told = f"{path}: is for the key of sip:a.example; TLS and signatures need a key each\n"
    assert wisp("import", "@agent", *arguments, given=f"{PHRASE}\n", status=2) == told
    assert not keyring.agent.certificate.exists()
    wisp("import", "domain", *arguments, given=f"{PHRASE}\n")
    wisp("renew", "@agent")
    agent = keyring.read(keyring.agent)
    path.write_bytes(seal_pkcs12(agent, "x", PHRASE))
    told = f"{path}: is for the key of @agent; TLS and signatures need a key each\n"
    assert wisp("import", "domain", *arguments, given=f"{PHRASE}\n", status=2) == told
    wisp("import", "@agent", *arguments, given=f"{PHRASE}\n")
    assert keyring.read(keyring.agent).certificate == agent.certificate


@OPENSSL
def test_openssl_reads_a_request(wisp: Wisp, tmp_path: Path) -> None:
    wisp("export", "alice", "--csr", tmp_path / "alice.csr")
    done = subprocess.run(
        ["openssl", "req", "-in", tmp_path / "alice.csr", "-verify", "-noout", "-text"], capture_output=True, text=True
    )
    assert "verify OK" in done.stdout + done.stderr
    assert "URI:sip:alice@a.example" in done.stdout
    assert "E-mail Protection, 1.3.6.1.5.5.7.3.20" in done.stdout


ANSWERS = [
    (["sip:bob@a.example"], {}, "is not of sip:alice@a.example: no such URI is in its subjectAltName"),
    (["sip:alice@b.example"], {}, "is not of sip:alice@a.example"),
    (["sip:a.example"], {}, "is not of sip:alice@a.example"),
    (["sip:alice@a.example;x=y"], {}, "is not of sip:alice@a.example"),
    ([], {}, "is not of sip:alice@a.example"),
    (["sip:alice@a.example"], {"begin": -10, "end": -1}, "expired on"),
    (["sip:alice@a.example"], {"begin": 1}, "holds only from"),
]


@pytest.mark.parametrize(("aors", "times", "told"), ANSWERS)
def test_answers_that_are_refused(
    wisp: Wisp, folder: Path, tmp_path: Path, aors: list[str], times: dict[str, int], told: str
) -> None:
    wisp("export", "alice", "--csr", tmp_path / "csr")
    key = x509.load_pem_x509_csr((tmp_path / "csr").read_bytes()).public_key()
    (tmp_path / "answer").write_bytes(pem(Outside().answer(key, *aors, **times)))
    assert wisp("import", "alice", tmp_path / "answer", status=2).startswith(f"{tmp_path}/answer: {told}")
    assert not (folder / "certificates" / "alice.pem").exists()
    assert (folder / "certificates" / "pending" / "alice.key").exists(), "a right answer may still come"


def test_answers_for_no_key_of_ours(wisp: Wisp, folder: Path, tmp_path: Path) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    path = tmp_path / "answer"
    path.write_bytes(pem(Outside().answer(stranger, "sip:alice@a.example")))
    assert "there is no key of ours for it; make one with `wisp cert export --csr`" in wisp(
        "import", "alice", path, status=2
    )
    wisp("export", "alice", "--csr", tmp_path / "csr")
    assert "is not for our key, nor for that of a request of ours" in wisp("import", "alice", path, status=2)
    for data, told in (
        (b"nothing", "no certificate, PEM or DER"),
        (b"", "no certificate, PEM or DER"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate, PEM or DER"),
        (bytes(MAX_FILE_BYTES + 1), "is too big for certificates"),
        (pem(*[Outside().answer(stranger, "sip:alice@a.example")] * 17), "holds more than 16 certificates"),
    ):
        path.write_bytes(data)
        assert told in wisp("import", "alice", path, status=2)
    assert "No such file or directory" in wisp("import", "alice", tmp_path / "none", status=2)
    assert not (folder / "certificates" / "alice.pem").exists()


# PKCS#12.


def test_pkcs12_there_and_back(wisp: Wisp, folder: Path, tmp_path: Path) -> None:
    wisp("renew", "alice")
    config = load(folder / "wisp.toml")
    before = Certificates(config).for_signing("alice", None)
    path = tmp_path / "alice.p12"
    wisp("export", "alice", "--p12", path, "--password-stdin", given=f"{PHRASE}\n")
    assert mode(path) == 0o600
    key, certificate, chain = pkcs12.load_key_and_certificates(path.read_bytes(), PHRASE.encode())
    assert certificate == before.certificate
    assert chain == [issuer_of(config)]
    assert key is not None
    for one in (folder / "certificates").glob("alice.*"):
        one.unlink()
    said = wisp("import", "alice", path, "--p12", "--password-stdin", given="wrong\n", status=2)
    assert said == f"{path}: is no PKCS#12, or its pass phrase is another\n"
    assert "is no PKCS#12" in wisp(
        "import", "alice", folder / "a.example.pem", "--p12", "--password-stdin", given="x\n", status=2
    )
    assert "there is none on standard input" in wisp("import", "alice", path, "--p12", status=2)
    assert "is not of sip:bob@a.example" in wisp(
        "import", "bob", path, "--p12", "--password-stdin", given=f"{PHRASE}\n", status=2
    )
    assert "PKCS#12: --p12" in wisp("import", "alice", path, status=2)
    wisp("import", "alice", path, "--p12", "--password-stdin", given=f"{PHRASE}\n")
    after = Certificates(config).for_signing("alice", None)
    assert (after.certificate, after.chain) == (before.certificate, before.chain)
    assert mode(folder / "certificates" / "alice.key") == 0o600


@OPENSSL
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_openssls_pkcs12(wisp: Wisp, folder: Path, tmp_path: Path, kind: str) -> None:
    """What openssl makes we read, and what we make it reads."""
    outside = Outside()
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    made = Credential(outside.answer(key.public_key(), "sip:alice@a.example"), key)
    (tmp_path / "both.pem").write_bytes(made.key_pem() + pem(made.certificate, outside.certificate, outside.root))
    command = [
        "openssl",
        "pkcs12",
        "-export",
        "-in",
        tmp_path / "both.pem",
        "-out",
        tmp_path / "in.p12",
        "-passout",
        "pass:x",
    ]
    subprocess.run(command, check=True, capture_output=True)
    wisp("import", "alice", tmp_path / "in.p12", "--p12", "--password-stdin", given="x\n")
    alice = Certificates(load(folder / "wisp.toml")).for_signing("alice", None)
    assert (alice.certificate, alice.chain) == (made.certificate, (outside.certificate,))
    wisp("export", "alice", "--p12", tmp_path / "out.p12", "--password-stdin", given="y\n")
    done = subprocess.run(
        ["openssl", "pkcs12", "-in", tmp_path / "out.p12", "-passin", "pass:y", "-noenc"], capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"BEGIN CERTIFICATE") == 2
    assert b"BEGIN PRIVATE KEY" in done.stdout


# Other exports, and mistakes.


def test_export_pem(wisp: Wisp, folder: Path, tmp_path: Path) -> None:
    wisp("export", "domain", "--pem", tmp_path / "x.pem")
    assert (tmp_path / "x.pem").read_bytes() == (folder / "a.example.pem").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["export", "alice"], 2, "one of --p12, --csr and --pem is wanted"),
        (["export", "alice", "--pem", "x", "--csr", "y"], 2, "one of --p12, --csr and --pem is wanted"),
        (["export", "alice", "--pem", "x", "--new-key"], 2, "--new-key goes with --csr"),
        (["export", "alice", "--csr", "x", "--password-stdin"], 2, "--password-stdin with --p12"),
        (["export", "alice", "--pem", "{folder}/wisp.toml"], 2, "wisp.toml: is there already; remove it"),
        (["export", "alice", "--p12", "{folder}/x"], 1, "has no certificate of its own"),
        (["export", "domain", "--p12", "{folder}/x"], 2, "--password-stdin: there is none on standard input"),
        (["export", "domain", "--pem", "/proc/x"], 2, "/proc/x: No such file or directory"),
        (["export", "bob@b.example", "--pem", "x"], 2, "is not of a.example; we have no key of it"),
        (["import", "bob@b.example", "x", "--p12"], 2, "--p12 is for our own"),
        (["import", "alice", "x", "--password-stdin"], 2, "--password-stdin goes with --p12"),
        (["import", "../x", "{folder}/a.example.pem"], 2, "1 to 64 letters, digits"),
        (["renew", "bob@b.example"], 2, "is not of a.example; we have no key of it"),
    ],
)
def test_mistakes(wisp: Wisp, folder: Path, arguments: list[str], status: int, told: str) -> None:
    assert told in wisp(*(one.format(folder=folder) for one in arguments), status=status)


# The directory.


def test_the_directory(wisp: Wisp, folder: Path, tmp_path: Path) -> None:
    outside, key = Outside(), ec.generate_private_key(ec.SECP256R1()).public_key()
    wisp("renew", "@agent")
    known = Certificates(load(folder / "wisp.toml"))
    path = tmp_path / "bob.pem"
    bob = outside.answer(key, "sip:bob@b.example")
    path.write_bytes(pem(bob, outside.certificate))
    assert "sip:bob@b.example: " in wisp("import", "bob@b.example", path)
    assert known.reload() == {"sip:bob@b.example"}
    assert known.directory(b"sip:bob@b.example") == bob
    assert [row[0] for row in rows(wisp("list"))] == ["sip:a.example", "@agent", "sip:bob@b.example"]
    assert pin_of(bob) in wisp("show", "sip:bob@B.Example")
    path.write_bytes(pem(outside.answer(key, "sip:b.example")))
    wisp("import", "sip:b.example", path)
    assert known.reload() == {"sip:b.example"}
    only_signs = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, *[False] * 8)
    now = datetime.now(UTC)
    name = x509.Name([])
    signing = (
        x509.CertificateBuilder(
            name, name, only_signs.public_key(), 5, now - timedelta(days=1), now + timedelta(days=1)
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("sip:bob@b.example")]), critical=True
        )
        .add_extension(usage, critical=True)
        .sign(only_signs, hashes.SHA256())
    )
    for data, told in (
        (pem(outside.answer(key, "sip:carol@b.example")), "is not of sip:bob@b.example"),
        (pem(outside.certificate, bob), "is not of sip:bob@b.example"),
        (pem(outside.answer(key, "sip:bob@b.example", begin=-2, end=-1)), "expired on"),
        (pem(signing), "nobody can encrypt to it"),
        (b"nothing", "no certificate, PEM or DER"),
    ):
        path.write_bytes(data)
        assert told in wisp("import", "bob@b.example", path, status=2)
    assert known.reload() == set()
    assert names_it(bob, "sip:bob@b.example")
