"""``wisp ca``: a certificate authority for a federation of domains."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from rich.table import Table

from ..agent import names
from ..agent.authority import Authority, AuthorityError
from ..agent.keyring import write_file
from .console import domain_argument, fail, out, print_table, told

__all__ = ["commands"]

commands = typer.Typer(help="A certificate authority for a federation of domains.", no_args_is_help=True)

_PEM = b"-----BEGIN"
_MAX_FILE_BYTES = 1 << 16  # of a request or certificate; what is longer is something else
_SAFE = "@+!$&'()*,;=~"  # characters of a user that stay as they are in the name of a file
_LONGEST_CRL_DAYS = 366
Folder = Annotated[Path, typer.Argument(help="The authority's folder.")]
Domain = Annotated[str, typer.Argument(help="The SIP domain to certify.", callback=domain_argument)]
_HERE = Path()


@commands.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    name: Annotated[str, typer.Option(help="What the certificates call it.")] = "Wisp",
) -> None:
    """Make a root and an intermediate authority."""
    try:
        Authority(folder).create(name)
    except (AuthorityError, OSError) as error:
        raise fail(told(error)) from None
    out.print(f"{folder}: keep root.key offline, give root.pem to every peer", markup=False)


@commands.command("issue")
def issue(
    folder: Folder,
    domain: Domain,
    to: Annotated[Path, typer.Option("--out", help="Where to put DOMAIN.pem and DOMAIN.key.")] = _HERE,
) -> None:
    """Issue a certificate for a domain, good for both ends of TLS."""
    certificate, key = to / f"{domain}.pem", to / f"{domain}.key"
    try:
        Authority(folder).issue_domain(domain).write(certificate, key)
    except (AuthorityError, OSError) as error:
        raise fail(told(error)) from None
    out.print(f"{certificate}, {key}", markup=False)


@commands.command("user")
def user(
    folder: Folder,
    aor: Annotated[str, typer.Argument(help="The user or group to certify, like sip:alice@a.example.")],
    to: Annotated[Path, typer.Option("--out", help="Where to put USER@DOMAIN.pem and USER@DOMAIN.key.")] = _HERE,
) -> None:
    """Issue a certificate for a user or a group, for S/MIME."""
    try:
        issued = Authority(folder).issue_user(aor)
        (found,) = names.users(issued.certificate)
        name = quote(found.decode("ascii").removeprefix("sip:"), safe=_SAFE)
        certificate, key = to / f"{name}.pem", to / f"{name}.key"
        issued.write(certificate, key)
    except (AuthorityError, OSError) as error:
        raise fail(told(error)) from None
    out.print(f"{certificate}, {key}", markup=False)


@commands.command("sign")
def sign(
    folder: Folder,
    request: Annotated[Path, typer.Argument(help="The request (PKCS #10, PEM or DER).")],
    to: Annotated[Path, typer.Option("--out", help="Where to put REQUEST.pem.")] = _HERE,
) -> None:
    """Issue a certificate for somebody's own key, of whom there is a request."""
    certificate = to / f"{request.stem}.pem"
    try:
        chain = Authority(folder).sign_request(_read_request(request))
        write_file(certificate, b"".join(one.public_bytes(Encoding.PEM) for one in chain), private=False)
    except (AuthorityError, OSError) as error:
        raise fail(told(error)) from None
    out.print(f"{certificate}: {_names_of(chain[0])}", markup=False)


@commands.command("intermediate")
def intermediate(
    folder: Folder,
    domain: Domain,
    to: Annotated[Path, typer.Option("--out", help="The folder to make, an authority of its own.")],
) -> None:
    """Make an authority for one domain, whose neighbour makes certificates of its users there."""
    try:
        Authority(folder).issue_intermediate(domain, to)
    except (AuthorityError, OSError) as error:
        raise fail(told(error)) from None
    out.print(f"{to}: an authority for {domain}; root.key stays in {folder}", markup=False)


@commands.command("revoke")
def revoke(
    folder: Folder,
    what: Annotated[str, typer.Argument(help="The certificate's file, or its serial number as `wisp ca list` has it.")],
) -> None:
    """Revoke a certificate, for good."""
    try:
        found = _certificate_or_serial(what)
        before = Authority(folder).revoke(found)
    except (AuthorityError, OSError) as error:
        raise fail(told(error)) from None
    serial = found if isinstance(found, int) else found.serial_number
    if before is not None:
        out.print(f"{serial:x}: was revoked on {before:%Y-%m-%d} already", markup=False)
        return
    out.print(f"{serial:x}: revoked; next: wisp ca crl {folder}, and give crl.pem to every peer", markup=False)


@commands.command("crl")
def crl(
    folder: Folder,
    days: Annotated[int, typer.Option(min=1, max=_LONGEST_CRL_DAYS, help="When it becomes stale.")] = 7,
    to: Annotated[Path | None, typer.Option("--out", help="A file to put it in as well.")] = None,
) -> None:
    """Write the lists of what was revoked, for every peer, to crl.pem."""
    authority = Authority(folder)
    try:
        pem = authority.crl(days)
        if to is not None:
            write_file(to, pem, private=False)
    except (AuthorityError, OSError) as error:
        raise fail(told(error)) from None
    out.print(f"{to or authority.crl_path}: good for {days} days", markup=False)


@commands.command("list")
def list_issued(folder: Folder) -> None:
    """List what was issued, and what was revoked."""
    try:
        entries = Authority(folder).entries()
    except (AuthorityError, OSError) as error:
        raise fail(told(error)) from None
    table = Table("names", "serial", "until", "revoked", box=None)
    for one in entries:
        found = one.certificate
        revoked = "" if one.revoked_at is None else f"{one.revoked_at:%Y-%m-%d}"
        table.add_row(_names_of(found), f"{found.serial_number:x}", f"{found.not_valid_after_utc:%Y-%m-%d}", revoked)
    print_table(table)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_FILE_BYTES)


def _read_request(path: Path) -> x509.CertificateSigningRequest:
    data = _read(path)
    try:
        return x509.load_pem_x509_csr(data) if _PEM in data else x509.load_der_x509_csr(data)
    except (ValueError, x509.InvalidVersion):
        raise AuthorityError(f"{path}: no request for a certificate (PKCS #10)") from None


def _certificate_or_serial(text: str) -> x509.Certificate | int:
    path = Path(text)
    if path.exists():
        data = _read(path)
        try:
            return x509.load_pem_x509_certificate(data) if _PEM in data else x509.load_der_x509_certificate(data)
        except (ValueError, x509.InvalidVersion):
            raise AuthorityError(f"{path}: no certificate") from None
    digits = text.replace(":", "").lower()
    if not digits or digits.strip("0123456789abcdef"):
        raise AuthorityError(f"{text}: neither a file nor a serial number, like those of `wisp ca list`")
    return int(digits, 16)


def _names_of(certificate: x509.Certificate) -> str:
    """What a certificate proves, or the name of an authority."""
    found = sorted(one.decode("ascii") for one in names.users(certificate))
    found += sorted(names.domains(certificate))
    return " ".join(found) or certificate.subject.rfc4514_string()
