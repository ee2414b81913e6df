"""What a REGISTER asks for: its Contact values, read and checked (RFC 3261 sections 10.2.1 and 10.3).

    Contact: <sip:carol@192.0.2.7>;q=0.7;expires=3600;reg-id=1;+sip.instance="<urn:uuid:...>";methods="INVITE, BYE"
             ---------------------  ---  ------------  --------  ------------------------------ -----------------
             uri                    q    expires_s     reg_id    instance
                                                                 params

A contact need not be a SIP URI: "they MAY use any URI scheme", and a redirection may lead there.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipwire.errors import ParseError
from sipwire.grammar import join_params
from sipwire.headers import Address, address_of
from sipwire.uri import Uri, uri_of

from .equivalence import canonical_instance, equivalent
from .refusal import RefusedError

if TYPE_CHECKING:
    from sipwire.message import Request

    from .config import RegistrarConfig

__all__ = ["Contact", "read_contacts"]

_MAX_EXPIRES_S = 0xFFFFFFFF  # RFC 3261 section 10.2: larger values MAY be treated "as equivalent to 2**32-1"
_MALFORMED_S = 3600  # there: "Malformed values SHOULD be treated as equivalent to 3600"
_MAX_CONTACT_BYTES = 512  # a longer Contact URI is refused with 400
_MAX_PARAMS_BYTES = 1024  # longer parameters, which are kept as long as the binding is, are refused with 400
_MAX_REG_ID = 0x7FFFFFFF  # RFC 5626 section 10: "MUST NOT be 0 and MUST be less than 2^31"
_OURS = (b"expires", b"q", b"reg-id")


@dataclass(frozen=True, slots=True)
class Contact:
    """One value of Contact.

    Attributes:
        uri: as written.
        parsed: the same, read.
        expires_s: granted; 0 where the binding is to end.
        q: preference in thousandths.
        instance: the URN of its ``+sip.instance``, in the one form that all equal ones have, or nothing.
        reg_id: its ``reg-id``, None without one and without an instance.
        params: all parameters but ``expires``, ``q`` and ``reg-id``, as written.
    """

    uri: bytes
    parsed: Uri
    expires_s: int
    q: int
    instance: str
    reg_id: int | None
    params: bytes


def read_contacts(request: "Request", config: "RegistrarConfig") -> list[Contact] | None:
    """The contacts of a REGISTER, in its order; None where it is about all there are: ``Contact: *``.

    Raises:
        ParseError: malformed, or what must not be together.
        RefusedError: 423 or 403.
    """
    header = _seconds(request.get("expires"))
    values = request.values("contact")
    if b"*" in values:
        # "If the request has additional Contact fields or an expiration time other than zero, the request is invalid,
        # and the server MUST return a 400".
        if values != [b"*"] or header != 0:
            raise ParseError("contact")
        return None
    if len(values) > 2 * config.max_contacts:
        raise RefusedError(403, "Too Many Contacts")  # not even if half of them are to end
    contacts = [_read(address_of(value), header, config) for value in values]
    for at, one in enumerate(contacts):
        # Of two about the same binding the second would not have a higher CSeq: "the request fails".
        if any(one.reg_id == two.reg_id and equivalent(one.parsed, two.parsed) for two in contacts[:at]):
            raise ParseError("contact", 400, "second")
    lasting = [contact for contact in contacts if contact.expires_s]
    if len(lasting) > 1 and any(contact.reg_id is not None for contact in lasting):
        # RFC 5626 section 6: a reg-id is about the one flow that the request came by.
        raise ParseError("reg-id", 400, "not the only contact beside")
    return contacts


def _read(address: Address, header: int | None, config: "RegistrarConfig") -> Contact:
    uri = uri_of(address.uri)
    params = join_params([(name, value) for name, value in address.params if name.lower() not in _OURS])
    instance = _instance(address)
    if len(address.uri) > _MAX_CONTACT_BYTES or len(params) > _MAX_PARAMS_BYTES:
        raise ParseError("contact", 400, "too large")
    reg_id = _reg_id(address)
    return Contact(
        address.uri,
        uri,
        _granted(address, header, config),
        _q(address),
        instance,
        # "If the registrar processes a Contact header field value with a reg-id but no instance-id, it simply ignores".
        reg_id if instance else None,
        params,
    )


def _seconds(value: bytes | None) -> int | None:
    """What an expiration interval says, None where there is none."""
    if value is None:
        return None
    if not value.isdigit():
        return _MALFORMED_S
    digits = value.lstrip(b"0") or b"0"
    return min(int(digits), _MAX_EXPIRES_S) if len(digits) <= 10 else _MAX_EXPIRES_S


def _granted(address: Address, header: int | None, config: "RegistrarConfig") -> int:
    """The interval that a contact is granted: its own wish, else the request's, else ours."""
    wish = _seconds(address.param("expires"))
    if wish is None:
        wish = header
    if wish is None:
        return config.max_expires_s
    if 0 < wish < config.min_expires_s:
        # Only what is "smaller than one hour" may be refused so; the configuration knows no longer minimum.
        raise RefusedError(423, "Interval Too Brief", ("Min-Expires", b"%d" % config.min_expires_s))
    return min(wish, config.max_expires_s)


def _q(address: Address) -> int:
    """A contact's q in thousandths, 1000 where it has none."""
    value = address.param("q")
    if value is None:
        return 1000
    # RFC 3261 section 25.1: qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
    whole, _, part = value.partition(b".")
    if whole not in (b"0", b"1") or len(part) > 3 or (part and not part.isdigit()):
        raise ParseError("contact")
    q = int(whole) * 1000 + int(part.ljust(3, b"0"))
    if q > 1000:
        raise ParseError("contact")
    return q


def _instance(address: Address) -> str:
    """The URN in ``+sip.instance="<urn:...>"``, "" without one."""
    value = address.param("+sip.instance")
    if value is None:
        return ""
    urn = value[1:-1]
    if value[:1] != b"<" or value[-1:] != b">" or not urn or b"<" in urn or b">" in urn or b" " in urn:
        raise ParseError("+sip.instance")
    return canonical_instance(urn).decode("latin-1")


def _reg_id(address: Address) -> int | None:
    value = address.param("reg-id")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 10 or not 0 < int(value) <= _MAX_REG_ID:
        raise ParseError("reg-id")
    return int(value)
