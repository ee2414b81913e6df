"""The published S/MIME messages, as a neighbour takes them: what its user gets, or how they are refused."""

import calendar
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from agents import Agent, Trunk, account, configured
from cryptography import x509
from people import read_person

from neighbour.agent.aib import is_identity
from neighbour.agent.cms.signed import read_certificates
from neighbour.agent.mime import Entity, of_message
from neighbour.agent.policy import MEDIUM, Status, Wish
from neighbour.agent.security import Sent
from neighbour.refusal import RefusedError
from sipwire.message import Request, Response, parse

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
GENERATED, RFC6216 = VECTORS / "smime_generated", VECTORS / "rfc6216"
NOW = calendar.timegm((2030, 2, 21, 13, 2, 3))  # the Date of the generated ones
IN_2011 = calendar.timegm((2011, 3, 1, 0, 0, 0))

HELLO = (b"text/plain", b"Hello!")
SDP_START = b"v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.1\r\n"
ALICE = b"sip:alice@example.com"
OLD = '[[peer]]\ndomain = "example.com"\naddress = "192.0.2.1:5061"\nprofile = "rfc3261"\n'  # unsigned CBC is for those alone


@dataclass(frozen=True)
class Taken:
    """What becomes of a message that is taken.

    Attributes:
        verified: who it was shown to be from, b"" for nobody.
    """

    sdp: bool = False
    signed: bool = False
    encrypted: bool = False
    verified: bytes = b""


@dataclass(frozen=True)
class Refused:
    """How a message is answered that is not."""

    status: int
    warning: str


SIGNED, ENCRYPTED = Taken(signed=True), Taken(encrypted=True)
FOR_SIGNATURE = Refused(403, "S/MIME: message digest")

# All of them, as the index has them. Who has signed only a body is not told to be verified: the signature says nothing
# of the message that it came in.
TABLE: dict[str, Taken | Refused] = {
    "signed_rsa": SIGNED,
    "signed_ecdsa": SIGNED,
    "signed_noeku": SIGNED,
    "signed_base64_cte": SIGNED,
    "signed_unquoted_boundary": SIGNED,
    "signed_nocerts": SIGNED,
    "signed_rsapss": SIGNED,
    "signed_opaque": SIGNED,
    "enc_aes128cbc": ENCRYPTED,
    "enc_aes256cbc": ENCRYPTED,
    "enc_aes128gcm": ENCRYPTED,
    "enc_oaep": ENCRYPTED,
    "enc_two_recipients": ENCRYPTED,
    "encrypt_then_sign": Taken(signed=True, encrypted=True),
    "tunnel_signed": Taken(sdp=True, signed=True, verified=ALICE),
    "tunnel_from_modified": Refused(403, "From is not what was signed"),
    "tunnel_callid_modified": Refused(403, "Call-ID is not what was signed"),
    "tunnel_contact_modified": Refused(403, "Contact is not what was signed"),
    "tunnel_encrypted_anonymous": Taken(sdp=True, signed=True, encrypted=True, verified=ALICE),
    "sdp_encrypted": Taken(sdp=True, encrypted=True),
    "sdp_signed": Taken(sdp=True, signed=True),
    "aib_ok": Taken(sdp=True, verified=ALICE),
    "aib_wrong_domain": Refused(403, "certificate of another identity"),
    "aib_other_from": Refused(403, "From is not what was signed"),
    "bad_body_tampered": FOR_SIGNATURE,
    "bad_untrusted_ca": Refused(403, "certificate from an unknown CA"),
    "bad_expired_cert": Refused(403, "certificate expired"),
    "bad_san_mismatch": Refused(403, "certificate of another identity"),
    "bad_truncated_p7s": Refused(400, "S/MIME: "),
    "bad_no_final_boundary": Refused(400, "MIME: no last boundary"),
    "bad_missing_signature_part": Refused(400, "MIME: multipart/signed without a signature"),
    "bad_not_recipient": Refused(493, "it cannot be decrypted"),
    "bad_garbage_der": Refused(400, "S/MIME: "),
}


def entries(folder: Path) -> dict[str, dict]:
    found = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return {Path(one["file"]).stem: one for one in found["messages"]}


def test_the_table_has_all_of_them() -> None:
    index = entries(GENERATED)
    assert {*TABLE} == {*index} == {path.stem for path in (GENERATED / "msgs").iterdir()}
    assert len(TABLE) == 33
    for name, wanted in TABLE.items():
        said = index[name]["expect"]
        if isinstance(wanted, Refused):
            assert "violation" in str(said) or "mismatch" in str(said) or name.startswith("bad_")
        else:
            assert ("plaintext" in said) is not wanted.sdp
            assert (said["signature"] == "valid") is (wanted.signed or bool(wanted.verified))
            assert ("recipient" in index[name]) is wanted.encrypted


def root(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "certs" / "ca.crt").read_bytes())


def generated_agent(folder: Path, now: int = NOW) -> Agent:
    """That of example.net, whose user is Bob."""
    bob = read_person(GENERATED / "certs", "bob")
    alice = read_person(GENERATED / "certs", "alice").certificate
    return Agent(
        configured(folder, "example.net", more=OLD),
        [root(GENERATED)],
        {"": bob, "bob": bob},
        now,
        others={ALICE: alice},
    )


def message(name: str) -> Request:
    found = parse((GENERATED / "msgs" / f"{name}.sip").read_bytes())
    assert isinstance(found, Request)
    return found


TRUNK = Trunk("example.com")


def open_it(agent: Agent, request: Request, trunk: Trunk = TRUNK) -> Status:
    return agent.open_request(request, account("bob"), "bob", trunk, "example.com").status


@pytest.mark.parametrize("name", TABLE)
def test_generated(tmp_path: Path, name: str) -> None:
    agent, request, wanted = generated_agent(tmp_path), message(name), TABLE[name]
    if isinstance(wanted, Refused):
        before = request.serialize()
        with pytest.raises(RefusedError) as caught:
            open_it(agent, request)
        check_refusal(caught.value, wanted)
        assert request.serialize() == before
        return
    status = open_it(agent, request)
    assert status == Status(
        MEDIUM, wanted.verified, "example.com", signed=wanted.signed, encrypted=wanted.encrypted, tls=True
    ) or (wanted.signed and wanted.encrypted and wanted.verified and status.level == "heavy")
    if wanted.sdp:
        assert request.get("content-type") == b"application/sdp"
        assert request.body.startswith(SDP_START)
        assert b"\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" in request.body
    else:
        assert (request.get("content-type"), request.body) == HELLO
    assert request.get("content-transfer-encoding") is None
    assert request.get("content-disposition") is None
    assert request.uint("content-length", 65535) == len(request.body)
    assert parse(request.serialize()).body == request.body


def check_refusal(error: RefusedError, wanted: Refused) -> None:
    assert error.status == wanted.status
    headers = dict(error.headers)
    warning = headers["Warning"].decode()
    assert warning.startswith(f'399 example.net "{wanted.warning}')
    assert warning.endswith('"')
    if wanted.status != 493:
        assert error.body == b""
        return
    # RFC 3261 section 21.4.27: "a body containing an appropriate certificate".
    assert headers["Content-Type"].startswith(b"application/pkcs7-mime;smime-type=certs-only")
    assert read_certificates(error.body) == (read_person(GENERATED / "certs", "bob").certificate,)


@pytest.mark.parametrize(
    "name", [name for name, wanted in TABLE.items() if isinstance(wanted, Taken) and wanted.verified]
)
def test_again(tmp_path: Path, name: str) -> None:
    """Whose headers are signed is taken once, whatever is not signed may differ the second time."""
    agent = generated_agent(tmp_path)
    open_it(agent, message(name))
    again = message(name)
    again.set("Via", b"SIP/2.0/TLS elsewhere.example;branch=z9hG4bK2")
    if name == "aib_ok":  # its From has no tag among the signed
        again.set("From", (again.get("from") or b"").replace(b"tag=", b"tag=x"))
    with pytest.raises(RefusedError) as caught:
        open_it(agent, again)
    check_refusal(caught.value, Refused(403, "replayed"))


@pytest.mark.parametrize(
    "name", [name for name, wanted in TABLE.items() if isinstance(wanted, Taken) and wanted.verified]
)
@pytest.mark.parametrize("off_s", [-601, 601])
def test_at_another_time(tmp_path: Path, name: str, off_s: int) -> None:
    agent = generated_agent(tmp_path, NOW - 3600)
    agent.now = NOW + off_s
    with pytest.raises(RefusedError) as caught:
        open_it(agent, message(name))
    check_refusal(caught.value, Refused(403, "Date is more than 10 minutes off"))


@pytest.mark.parametrize("name", TABLE)
def test_nothing_less_than_heavy(tmp_path: Path, name: str) -> None:
    """At heavy one of them is enough: it is signed and encrypted, with its headers."""
    bob = read_person(GENERATED / "certs", "bob")
    config = configured(tmp_path, "example.net", security='level = "heavy"', more=OLD)
    alice = read_person(GENERATED / "certs", "alice").certificate
    agent = Agent(config, [root(GENERATED)], {"": bob, "bob": bob}, NOW, others={ALICE: alice})
    request, wanted = message(name), TABLE[name]
    if name == "tunnel_encrypted_anonymous":
        assert open_it(agent, request).level == "heavy"
        return
    with pytest.raises(RefusedError) as caught:
        open_it(agent, request)
    lacking = "heavy security is demanded, and the body is not signed and encrypted"
    check_refusal(caught.value, wanted if isinstance(wanted, Refused) else Refused(488, lacking))


def test_without_tls(tmp_path: Path) -> None:
    """Whose trunk nobody protects reaches no level, whatever was signed."""
    config = configured(tmp_path, "example.net", security='level = "none"')
    bob = read_person(GENERATED / "certs", "bob")
    agent = Agent(config, [root(GENERATED)], {"": bob, "bob": bob}, NOW)
    status = open_it(agent, message("tunnel_encrypted_anonymous"), Trunk("example.com", protection="none"))
    assert (status.level, status.verified, status.tls) == ("none", ALICE, False)
    for name in TABLE:
        strict = generated_agent(tmp_path)
        with pytest.raises(RefusedError) as caught:
            open_it(strict, message(name), Trunk("example.com", protection="none"))
        check_refusal(caught.value, Refused(488, "medium security is demanded, and there is no mutual TLS"))


def test_who_does_it_alone(tmp_path: Path) -> None:
    """Bodies of who does its own pass byte for byte, whatever they are."""
    agent = generated_agent(tmp_path)
    for name in TABLE:
        request = message(name)
        before = request.serialize()
        received = agent.open_request(request, account("bob", assist="none"), "bob", TRUNK, "example.com")
        assert received.status == Status(MEDIUM, by="example.com", tls=True)
        assert request.serialize() == before


# RFC 6216. Its certificates and signatures need SHA-1.

FLUFFY, KUMIKO = b"sip:fluffy@example.com", b"sip:kumiko@example.net"
LATER = int(datetime(2111, 2, 1, tzinfo=UTC).timestamp())


def rfc6216_agent(
    folder: Path, now: int = IN_2011, *, sha1: bool = True, user: str = "kumiko", known: bool = True
) -> Agent:
    config = configured(folder, "example.net", security=f"rfc6216 = {str(sha1).lower()}")
    own = read_person(RFC6216 / "certs", f"{user}_eku")
    fluffy = read_person(RFC6216 / "certs", "fluffy_eku").certificate
    others = {FLUFFY: fluffy} if known else {}
    return Agent(config, [root(RFC6216)], {"": own, user: own}, now, others=others, sha1=sha1)


def rfc6216_message(name: str) -> Request | Response:
    return parse((RFC6216 / "msgs" / f"{name}.dat").read_bytes())


RFC6216_TABLE: list[tuple[str, dict, Taken | Refused]] = [
    ("smime-msg", {}, SIGNED),
    ("cms-smime-msg", {}, SIGNED),
    ("smime-encrypted", {}, ENCRYPTED),
    ("message-tls", {}, Taken()),
    ("smime-msg", {"sha1": False}, Refused(415, "S/MIME: digest algorithm")),
    ("cms-smime-msg", {"sha1": False}, Refused(415, "S/MIME: digest algorithm")),
    ("smime-encrypted", {"sha1": False}, Refused(493, "it cannot be decrypted")),  # CBC, and not signed
    ("smime-msg", {"known": False}, Refused(403, "S/MIME: signer's certificate is missing")),
    ("smime-msg", {"now": LATER}, Refused(403, "certificate expired")),
    ("smime-msg", {"now": 1_000_000_000}, Refused(403, "certificate not yet valid")),
    ("smime-encrypted", {"user": "fluffy"}, Refused(493, "it cannot be decrypted")),
]


@pytest.mark.parametrize(("name", "circumstances", "wanted"), RFC6216_TABLE)
def test_rfc6216(tmp_path: Path, name: str, circumstances: dict, wanted: Taken | Refused) -> None:
    agent, request = rfc6216_agent(tmp_path, **circumstances), rfc6216_message(name)
    assert isinstance(request, Request)
    if isinstance(wanted, Refused):
        with pytest.raises(RefusedError) as caught:
            agent.open_request(request, account("kumiko"), "kumiko", TRUNK, "example.com")
        assert caught.value.status == wanted.status
        assert dict(caught.value.headers)["Warning"].decode().startswith(f'399 example.net "{wanted.warning}')
        return
    received = agent.open_request(request, account("kumiko"), "kumiko", TRUNK, "example.com")
    assert received.status == Status(MEDIUM, b"", "example.com", wanted.signed, wanted.encrypted, tls=True)
    assert received.sender == FLUFFY  # "sips:fluffy@example.com:15001" is the same user (WIRE's notation)
    assert (request.get("content-type"), request.body) == HELLO
    assert request.get("content-transfer-encoding") is None


@pytest.mark.parametrize("name", ["smime-msg", "cms-smime-msg"])
@pytest.mark.parametrize(
    "old_new",
    [
        (b"From: <sip:fluffy@", b"From: <sip:mallory@"),
        (b"From: <sip:fluffy@example.com>", b"From: <sip:fluffy@example.net>"),
    ],
)
def test_rfc6216_from_others(tmp_path: Path, name: str, old_new: tuple[bytes, bytes]) -> None:
    data = (RFC6216 / "msgs" / f"{name}.dat").read_bytes()
    request = parse(data.replace(*old_new))
    assert isinstance(request, Request)
    with pytest.raises(RefusedError) as caught:
        open_rfc6216(rfc6216_agent(tmp_path), request)
    assert b"certificate of another identity" in dict(caught.value.headers)["Warning"]


def open_rfc6216(agent: Agent, request: Request) -> Status:
    return agent.open_request(request, account("kumiko"), "kumiko", TRUNK, "example.com").status


@pytest.mark.parametrize("name", ["smime-msg", "cms-smime-msg"])
def test_rfc6216_body_changed(tmp_path: Path, name: str) -> None:
    request = parse((RFC6216 / "msgs" / f"{name}.dat").read_bytes().replace(b"Hello!", b"Hallo!"))
    assert isinstance(request, Request)
    with pytest.raises(RefusedError) as caught:
        open_rfc6216(rfc6216_agent(tmp_path), request)
    assert caught.value.status == 403
    assert b"S/MIME: signature" in dict(caught.value.headers)["Warning"]


def test_rfc6216_what_got_signed() -> None:
    """Its bytes are those of the first part: the CRLF before the boundary is not among them."""
    data = (RFC6216 / "msgs" / "smime-msg-what-got-signed.dat").read_bytes()
    for name in ("smime-msg", "cms-smime-msg"):
        content, _ = of_message(rfc6216_message(name)).parts()
        assert content.raw == data
        assert content == Entity.parse(data)
        assert not is_identity(content)


def test_rfc6216_the_answer(tmp_path: Path) -> None:
    """The 200 of section 3.2, as the neighbour of who has asked takes it: it has no body, and nothing is claimed."""
    config = configured(tmp_path, "example.com", security="rfc6216 = true")
    fluffy = read_person(RFC6216 / "certs", "fluffy_eku")
    agent = Agent(config, [root(RFC6216)], {"": fluffy}, IN_2011, sha1=True)
    response = rfc6216_message("message-tls-resp")
    assert isinstance(response, Response)
    before = response.serialize()
    sent = Sent(MEDIUM, Wish(), KUMIKO)
    status = agent.open_response(response, sent, Trunk("example.net"), "example.net")
    assert status == Status(MEDIUM, by="example.net", tls=True)
    assert response.serialize() == before


def test_rfc6216_all_of_them() -> None:
    tested = {name for name, _, _ in RFC6216_TABLE} | {"smime-msg-what-got-signed", "message-tls-resp"}
    assert tested == {*entries(RFC6216)} == {path.stem for path in (RFC6216 / "msgs").iterdir()}


@pytest.mark.parametrize("name", [name for name, wanted in TABLE.items() if "cbc" in name or name == "enc_oaep"])
def test_cbc_without_a_signature(tmp_path: Path, name: str) -> None:
    """What others could change unseen is taken from nobody but those who are known to have nothing better."""
    bob = read_person(GENERATED / "certs", "bob")
    agent = Agent(configured(tmp_path, "example.net"), [root(GENERATED)], {"": bob, "bob": bob}, NOW)
    with pytest.raises(RefusedError) as caught:
        open_it(agent, message(name))
    assert caught.value.status == 493
