"""Name constraints: for which names an authority may speak (RFC 5280 section 4.2.1.10).

    permitted, of each authority on the way     a name of a kind that is named there is below one of them
    excluded, of any                            no name is below one

A constraint on URIs is for the host of ``scheme://host/``. A sip URI has no such host, and the RFC wants its
certificate refused then. An authority for one domain is bound with a DNS name instead, and here that holds for the host
of a sip URI as well: otherwise such an authority could speak for everybody, since a sip URI is what we go by.
"""

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from sipwire.errors import ParseError
from sipwire.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Constraints", "ConstraintError"]

_MAX_COMPARISONS = 20_000  # of names with constraints on a path, some 10 ms; no honest one comes near


class ConstraintError(Exception):
    """A certificate has a name that an authority above it may not give."""


class Constraints:
    """What the authorities on a path, from the root on, permit and exclude."""

    def __init__(self) -> None:
        self._permitted: list[list[x509.GeneralName]] = []
        self._excluded: list[x509.GeneralName] = []
        self._left = _MAX_COMPARISONS

    def add(self, constraints: x509.NameConstraints) -> None:
        """Take those of one more authority."""
        if constraints.permitted_subtrees is not None:
            self._permitted.append(list(constraints.permitted_subtrees))
        self._excluded += constraints.excluded_subtrees or ()

    def check(self, certificate: x509.Certificate) -> None:
        """Look at each name of a certificate below those authorities.

        Raises:
            ConstraintError: one is not permitted, or excluded, or of a kind that can't be compared.
        """
        if not self._permitted and not self._excluded:
            return
        for name in _names(certificate):
            if any(self._is_below(name, base) for base in self._excluded):
                raise ConstraintError
            for bases in self._permitted:
                of_its_kind = [base for base in bases if type(base) is type(name)]
                if of_its_kind and not any(self._is_below(name, base) for base in of_its_kind):
                    raise ConstraintError

    def _is_below(self, name: x509.GeneralName, base: x509.GeneralName) -> bool:
        self._left -= 1
        if self._left < 0:
            raise ConstraintError
        if type(name) is not type(base):
            return False
        match name, base:
            case (x509.DNSName(), x509.DNSName()):
                return _is_host_below(name.value, base.value)
            case (x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier()):
                host = _authority(name.value)
                # Without a leading dot it is that host alone.
                return _is_in(host, base.value) if base.value.startswith(".") else host == base.value.lower()
            case (x509.RFC822Name(), x509.RFC822Name()):
                return _is_mailbox_below(name.value, base.value)
            case (x509.IPAddress(), x509.IPAddress()):
                return _is_address_below(name.value, base.value)
            case (x509.DirectoryName(), x509.DirectoryName()):
                own, above = _canonical(name.value), _canonical(base.value)
                return own[: len(above)] == above
        raise ConstraintError  # "MUST either process the constraint or reject the certificate"


def _names(certificate: x509.Certificate) -> "Iterator[x509.GeneralName]":
    """Each name that constraints are for."""
    if certificate.subject.rdns:
        yield x509.DirectoryName(certificate.subject)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    for name in names or ():
        yield name
        if isinstance(name, x509.UniformResourceIdentifier):
            yield from _sip_host(name.value)
    if names is None or not names.get_values_for_type(x509.RFC822Name):
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
            try:
                yield x509.RFC822Name(str(attribute.value))
            except ValueError:
                raise ConstraintError from None


def _sip_host(value: str) -> "Iterator[x509.GeneralName]":
    """The host of a sip URI, for the constraints on DNS names; an address is one that is below no name."""
    try:
        uri = Uri.parse(value.encode("ascii"))
    except (ParseError, UnicodeError):
        return  # it proves nothing
    if uri.is_sip:
        yield x509.DNSName(uri.host.decode("ascii"))


def _is_in(host: str, dotted: str) -> bool:
    """Whether a host is below ``.a.example``, with one label more at least."""
    host, dotted = host.lower(), dotted.lower()
    return host.endswith(dotted) and len(host) > len(dotted)


def _is_host_below(host: str, base: str) -> bool:
    """Whether a DNS name is ``base`` "with zero or more labels added to the left-hand side"."""
    if base.startswith("."):
        return _is_in(host, base)
    return not base or host.lower() == base.lower() or _is_in(host, f".{base}")


def _authority(uri: str) -> str:
    """The host of a URI, which has to be a name: the RFC wants others refused where URIs are constrained."""
    try:
        host = urlsplit(uri).hostname or ""
    except ValueError:
        host = ""
    if not host or ":" in host or host.rpartition(".")[2].isdigit():
        raise ConstraintError
    return host


def _is_mailbox_below(mailbox: str, base: str) -> bool:
    local, _, host = mailbox.rpartition("@")
    if "@" in base:
        base_local, _, base_host = base.rpartition("@")
        return local == base_local and host.lower() == base_host.lower()
    return _is_in(host, base) if base.startswith(".") else host.lower() == base.lower()


def _is_address_below(address: object, base: object) -> bool:
    if not isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address):
        raise ConstraintError
    return isinstance(base, ipaddress.IPv4Network | ipaddress.IPv6Network) and address in base


def _canonical(name: x509.Name) -> list[frozenset[tuple[str, str]]]:
    """A name as section 7.1 compares it: case and the number of spaces do not count."""
    return [
        frozenset((one.oid.dotted_string, " ".join(str(one.value).split()).casefold()) for one in rdn)
        for rdn in name.rdns
    ]
