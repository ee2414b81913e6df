"""What others decide of a path: OpenSSL's store, OpenSSL's command, and pyHanko's validator."""

import asyncio
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto
from pki import der
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import InvalidCertificateError, PathBuildingError, ValidationError

Certificates = Sequence[x509.Certificate]
Crls = Sequence[x509.CertificateRevocationList]


def openssl_store(
    leaf: x509.Certificate, others: Certificates, roots: Certificates, crls: Crls, now: datetime, *, check_crls: bool
) -> str:
    """Why OpenSSL refuses a path, or ""; usages are not looked at."""
    store = crypto.X509Store()
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root))
    for crl in crls:
        store.add_crl(crl)
    if check_crls:
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
    store.set_time(now)
    chain = [crypto.X509.from_cryptography(one) for one in others]
    try:
        crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf), chain).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error) or "refused"
    return ""


def openssl_command(
    folder: Path,
    options: Sequence[str],
    leaf: x509.Certificate,
    others: Certificates,
    roots: Certificates,
    now: datetime,
) -> str:
    """Why `openssl verify` refuses a path, or ""; options tell what it is asked beside that."""
    for name, certificates in (("leaf", [leaf]), ("others", others), ("roots", roots)):
        (folder / name).write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in certificates))
    command = ["openssl", "verify", "-attime", str(int(now.timestamp())), "-CAfile", "roots", *options]
    if others:
        command += ["-untrusted", "others"]
    done = subprocess.run([*command, "leaf"], cwd=folder, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr or "refused"


def pyhanko(
    leaf: x509.Certificate,
    others: Certificates,
    roots: Certificates,
    crls: Crls,
    now: datetime,
    *,
    check_crls: bool,
    usages: Sequence[str],
    extended: Sequence[str],
) -> str:
    """Why pyHanko refuses a path, or "".

    Args:
        usages: one of these key usages is wanted, where there are any.
        extended: one of these extended key usages, where there are any.
    """

    async def validate() -> None:
        context = ValidationContext(
            trust_roots=[asn1.Certificate.load(der(one)) for one in roots],
            moment=now,
            allow_fetching=False,
            crls=[der(one) for one in crls],
            revocation_mode="require" if check_crls else "soft-fail",
        )
        validator = CertificateValidator(
            asn1.Certificate.load(der(leaf)), [asn1.Certificate.load(der(one)) for one in others], context
        )
        await validator.async_validate_path()
        errors = []
        for usage in usages:
            for one in extended:
                try:
                    await validator.async_validate_usage({usage}, {one}, extended_optional=True)
                except InvalidCertificateError as error:
                    errors.append(error)
                else:
                    return
        raise errors[0]

    try:
        asyncio.run(validate())
    except (ValidationError, PathBuildingError, InvalidCertificateError) as error:
        return str(error) or "refused"
    return ""
