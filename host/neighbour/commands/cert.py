"""``wisp cert``: the certificates of the domain, its users and groups, and the directory of others'.

A running neighbour takes up what is changed here within a second.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from rich.table import Table
from rich.text import Text

from ..agent import names
from ..agent.certificates import can_encrypt, is_issued_by, issue, issuer_of, make_domain, pin_of
from ..agent.credential import Credential, PrivateKey, write_private
from ..agent.enrolment import (
    MAX_FILE_BYTES,
    check_fits,
    open_pkcs12,
    read_answer,
    seal_pkcs12,
    sign_request,
    take_answer,
)
from ..agent.keyring import AGENT, CertificateError, Keyring, Place, read_certificates
from ..config import Config, domain_name
from .console import HERE, ConfigPath, fail, load_config, out, print_table, printable, read_secret, told

__all__ = ["commands"]

commands = typer.Typer(help="The certificates of the domain, its users and groups.", no_args_is_help=True)

_DOMAIN = "domain"
_ALL = "all"
_OWN = "`domain` for the domain's TLS, `@agent` for what signs in its name"
Who = Annotated[str, typer.Argument(help=f"A user or group, {_OWN}.")]


@dataclass
class _Found:
    """Somebody's certificate."""

    aor: str
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]


def _now() -> datetime:
    return datetime.now(UTC)


def _place(config: Config, who: str) -> Place:
    """Where somebody's of ours are: a user, ``user@domain``, ``domain``, the domain's name, or ``@agent``."""
    keyring = Keyring(config)
    if who == AGENT:
        return keyring.agent
    name = who.removeprefix("sip:")
    if name in {_DOMAIN, config.domain}:
        return keyring.domain
    user, at, domain = name.partition("@")
    if at and domain.lower() != config.domain:
        raise fail(f"{who}: is not of {config.domain}; we have no key of it")
    try:
        return keyring.of(user)
    except CertificateError as error:
        raise fail(str(error)) from None


def _other(config: Config, who: str) -> str | None:
    """The address of somebody who is not ours, ``sip:user@host`` or ``sip:host``; None for ours."""
    user, at, host = who.removeprefix("sip:").rpartition("@")
    if who == AGENT or (not at and not who.startswith("sip:")):
        return None
    if at and not user:
        raise fail(f"{who}: a user is wanted before the @, or {AGENT}")
    try:
        host = domain_name(host)
    except ValueError as error:
        raise fail(f"{who}: {error}") from None
    return None if host == config.domain else f"sip:{user}{at}{host}"


def _read(keyring: Keyring, place: Place) -> Credential:
    if place.is_empty:
        told_next = f"`wisp cert renew {AGENT}` makes it" if place.is_agent else f"{AGENT} signs for it"
        raise fail(f"{place.label}: has no certificate of its own; {told_next}", status=1)
    try:
        return keyring.read(place)
    except CertificateError as error:
        raise fail(str(error), status=1) from None


def _of_peers(keyring: Keyring) -> list[_Found]:
    found = []
    for path in sorted(keyring.of_peers()):
        try:
            leaf, *chain = read_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            raise fail(told(error) if isinstance(error, OSError) else f"{path}: no certificate", status=1) from None
        aors = [aor.decode("latin-1") for aor in names.users(leaf)] + [f"sip:{name}" for name in names.domains(leaf)]
        found += [_Found(aor, leaf, tuple(chain)) for aor in sorted(aors)]
    return found


def _issuer_name(certificate: x509.Certificate) -> str:
    if certificate.issuer == certificate.subject:
        return "itself"
    common = certificate.issuer.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
    return str(common[0].value) if common else certificate.issuer.rfc4514_string()


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(printable(cell)) for cell in cells))  # a name in brackets is no markup


def _until(certificate: x509.Certificate) -> str:
    end = certificate.not_valid_after_utc
    return f"{end:%Y-%m-%d}" + (" (expired)" if end <= _now() else "")


@commands.command("list")
def cert_list(config: ConfigPath = HERE) -> None:
    """List the certificates: ours, what we wait for, and others' that were given to us."""
    settings = load_config(config)
    keyring = Keyring(settings)
    table = Table("whose", "serial", "until", "made by", box=None)
    for place in keyring.places():
        try:
            found = None if place.is_empty else keyring.read(place).certificate
        except CertificateError as error:
            _add(table, place.label, "", "", f"can't be used: {error}")
            continue
        if found is not None:
            _add(table, place.label, f"{found.serial_number:x}", _until(found), _issuer_name(found))
    for path in sorted((keyring.folder / "pending").glob("*.key")):
        try:
            whose = keyring.at(path.stem).label
        except CertificateError:
            continue  # somebody else's file
        _add(table, whose, "", "", "asked for: give the answer to `wisp cert import`")
    for other in _of_peers(keyring):
        one = other.certificate
        _add(table, other.aor, f"{one.serial_number:x}", _until(one), _issuer_name(one))
    print_table(table)


@commands.command("show")
def cert_show(
    who: Annotated[str, typer.Argument(help=f"A user or group, {_OWN}, or sip:USER@HOST of the directory.")],
    config: ConfigPath = HERE,
) -> None:
    """Show a certificate, with the pin that others may trust it by."""
    settings = load_config(config)
    keyring = Keyring(settings)
    other = _other(settings, who)
    if other is None:
        place = _place(settings, who)
        credential = _read(keyring, place)
        found = _Found(place.aor, credential.certificate, credential.chain)
    else:
        known = {one.aor: one for one in _of_peers(keyring)}
        if other not in known:
            raise fail(f"{other}: is not in {keyring.peers}", status=1)
        found = known[other]
    one = found.certificate
    lines = {
        "whose": found.aor,
        "subject": one.subject.rfc4514_string(),
        "serial": f"{one.serial_number:x}",
        "holds": f"{one.not_valid_before_utc:%Y-%m-%d} to {_until(one)}",
        "made by": " < ".join(_issuer_name(part) for part in (one, *found.chain)),
        "key": _key_name(one),
        "encrypts": "yes" if can_encrypt(one) else "no: its key usage does not allow it",
        "SHA-256": one.fingerprint(hashes.SHA256()).hex(":").upper(),
        "pin": pin_of(one),
    }
    for name, value in lines.items():
        out.print(f"{name + ':':<10}{printable(value)}", markup=False)


def _key_name(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    size = getattr(key, "key_size", None)
    return f"RSA {size}" if size else type(key).__name__.removesuffix("PublicKey")


@commands.command("export")
def cert_export(
    who: Who,
    p12: Annotated[Path | None, typer.Option(help="Certificate and key to this file, as PKCS#12.")] = None,
    csr: Annotated[Path | None, typer.Option(help="A request to an outside authority to this file.")] = None,
    pem: Annotated[Path | None, typer.Option(help="The certificate with its chain to this file.")] = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="With --csr: ask for a new key.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="With --p12: read the pass phrase from standard input.")
    ] = False,
    config: ConfigPath = HERE,
) -> None:
    """Write a certificate, a certificate with its key, or a request for one to a file.

    Where there is no key yet, or with --new-key, the request is for a new one. It is kept aside until `wisp cert
    import` gets the answer.
    """
    settings = load_config(config)
    keyring, place = Keyring(settings), _place(settings, who)
    given = [path for path in (p12, csr, pem) if path is not None]
    if len(given) != 1:
        raise fail("one of --p12, --csr and --pem is wanted")
    if (new_key and csr is None) or (password_stdin and p12 is None):
        raise fail("--new-key goes with --csr, --password-stdin with --p12")
    path = given[0]
    if path.exists():
        raise fail(f"{path}: is there already; remove it, or name another file")
    try:
        if csr is not None:
            path.write_bytes(sign_request(place, _key_for(keyring, place, new=new_key)))
            told_next = f"give the answer to `wisp cert import {who}`"
        elif pem is not None:
            path.write_bytes(_read(keyring, place).chain_pem())
            told_next = f"the certificate of {place.label}"
        else:
            credential = _read(keyring, place)
            phrase = _phrase(from_stdin=password_stdin, confirm=True)
            write_private(path, seal_pkcs12(credential, place.aor, phrase))
            told_next = f"the certificate and key of {place.label}"
    except (CertificateError, OSError) as error:
        raise fail(told(error)) from None
    out.print(f"{path}: {told_next}", markup=False)


def _key_for(keyring: Keyring, place: Place, *, new: bool) -> PrivateKey:
    """The key to ask a certificate for: that of an earlier request, ours, or a new one."""
    with keyring.locked():
        known = keyring.pending(place)
        if known is not None:
            return known
        if not new and not place.is_empty:
            return keyring.read(place).key
        made = ec.generate_private_key(ec.SECP256R1())
        keyring.keep_pending(place, made)
        return made


def _phrase(*, from_stdin: bool, confirm: bool) -> str:
    if from_stdin or not sys.stdin.isatty():
        return read_secret("--password-stdin")
    return str(typer.prompt("pass phrase (not empty)", hide_input=True, confirmation_prompt=confirm))


@commands.command("import")
def cert_import(
    who: Annotated[str, typer.Argument(help=f"A user or group, {_OWN}, or sip:USER@HOST for the directory.")],
    file: Annotated[Path, typer.Argument(help="A certificate with its chain, PEM or DER, or with --p12 PKCS#12.")],
    p12: Annotated[bool, typer.Option("--p12", help="The file is PKCS#12 and has the key, too.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="With --p12: read the pass phrase from standard input.")
    ] = False,
    config: ConfigPath = HERE,
) -> None:
    """Take a certificate: an outside authority's answer to our request, or somebody else's into the directory."""
    settings = load_config(config)
    keyring = Keyring(settings)
    other = _other(settings, who)
    if p12 and other is not None:
        raise fail(f"{who}: --p12 is for our own; of others we want no key")
    if password_stdin and not p12:
        raise fail("--password-stdin goes with --p12")
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if other is not None:
            _take_other(keyring, other, data)
            return
        place = _place(settings, who)
        phrase = _phrase(from_stdin=password_stdin, confirm=False) if p12 else ""
        with keyring.locked():
            if p12:
                taken = open_pkcs12(place, data, phrase, _now())
            else:
                taken = take_answer(place, read_answer(data), _keys(keyring, place), _now())
            _check_apart(keyring, place, taken)
            keyring.write(place, taken)
            place.pending.unlink(missing_ok=True)
    except CertificateError as error:
        raise fail(f"{file}: {error}") from None
    except OSError as error:
        raise fail(told(error)) from None
    out.print(f"{place.label}: {place.certificate}, until {_until(taken.certificate)}", markup=False)
    if not can_encrypt(taken.certificate):
        out.print(f"{place.label}: nobody can encrypt to it, its key usage allows signatures only", markup=False)


def _keys(keyring: Keyring, place: Place) -> list[PrivateKey]:
    """The keys that an answer may be for: of our request, and the present one."""
    pending = keyring.pending(place)
    if place.is_empty:
        return [] if pending is None else [pending]
    keys = [] if pending is None else [pending]
    try:
        keys.append(keyring.read(place).key)
    except CertificateError:
        if not keys:
            raise
    return keys


def _check_apart(keyring: Keyring, place: Place, taken: Credential) -> None:
    """See that the trunks' key does not become the one that signs, nor the other way round.

    Raises:
        CertificateError: it would.
    """
    other = {keyring.agent.name: keyring.domain, keyring.domain.name: keyring.agent}.get(place.name)
    if other is None:
        return
    try:
        known = keyring.read(other).key
    except CertificateError:
        return  # there is none that could be the same
    if known.public_key() == taken.key.public_key():
        raise CertificateError(f"is for the key of {other.label}; TLS and signatures need a key each")


def _take_other(keyring: Keyring, aor: str, data: bytes) -> None:
    certificates = read_answer(data)
    check_fits(certificates[0], aor, _now())
    if not can_encrypt(certificates[0]):
        raise CertificateError("nobody can encrypt to it, so that the directory has no use for it")
    with keyring.locked():
        path = keyring.write_peer(aor, certificates)
    out.print(f"{aor}: {path}, until {_until(certificates[0])}", markup=False)


@commands.command("renew")
def cert_renew(
    who: Annotated[str, typer.Argument(help=f"A user or group, {_OWN}, or `all` that our authority made.")],
    config: ConfigPath = HERE,
) -> None:
    """Make a certificate anew, with a new key, by our authority; one that is missing is made."""
    settings = load_config(config)
    keyring = Keyring(settings)
    issuer = issuer_of(settings)
    places = keyring.places() if who == _ALL else [_place(settings, who)]
    done = 0
    for place in places:
        known = None
        if not place.is_empty:
            known = _read(keyring, place)
            if not is_issued_by(known.certificate, issuer):
                if who == _ALL:
                    out.print(f"{place.label}: left as it is, made by {_issuer_name(known.certificate)}", markup=False)
                    continue
                if _renewed_by_itself(settings, place, known):
                    return
                maker = _issuer_name(known.certificate)
                raise fail(
                    f"{place.label}: was made by {maker}; ask there: `wisp cert export {who} --csr FILE`, then"
                    f" `wisp cert import {who} ANSWER`"
                )
        try:
            with keyring.locked():
                made = issue(settings, place)
                keyring.write(place, made)
        except (CertificateError, OSError) as error:
            raise fail(told(error)) from None
        done += 1
        out.print(f"{place.label}: until {_until(made.certificate)}", markup=False)
    if not done:
        raise fail(f"{who}: there is none that our authority made", status=1)


def _renewed_by_itself(config: Config, place: Place, known: Credential) -> bool:
    """Make the domain's self-signed certificate anew, with the same key: those who have pinned it need do nothing."""
    if not place.is_domain or not is_issued_by(known.certificate, known.certificate):
        return False
    if not isinstance(known.key, ec.EllipticCurvePrivateKey):
        return False
    try:
        out.print(make_domain(config, key=known.key), markup=False)
    except CertificateError as error:
        raise fail(str(error)) from None
    return True
