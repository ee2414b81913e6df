"""What is taken up while the neighbour runs: new certificates and keys, roots, and lists of revoked ones.

Files are looked at each second, and at once when SIGHUP says so; what is there and can't be read changes nothing.
"""

import base64
import time
from typing import TYPE_CHECKING

import structlog
from cryptography import x509

from ..config import ConfigError
from .revocation import Crl, Revocation, RevocationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ..config import Config
    from .certificates import Certificates
    from .path import Paths

__all__ = ["Refresh", "crl_settings", "pins_of", "read_roots"]

_log = structlog.get_logger("certificates")
_IDLE = 100  # times as long as a look takes nobody looks: 9 ms with a thousand users, so each second with them
_RENEW_EVERY = 60  # looks: whether one of ours is about to end
_Stamps = dict["Path", tuple[int, int] | None]


def read_roots(config: "Config") -> list[x509.Certificate]:
    """The roots of ``tls.ca``.

    Raises:
        OSError: a file can't be read.
        ValueError: one is no certificate.
    """
    return [one for name in config.tls.ca for one in x509.load_pem_x509_certificates(config.path(name).read_bytes())]


def crl_settings(config: "Config") -> Crl:
    """What is done with revocation lists that are not as they should be."""
    security = config.security
    return Crl(security.crl_fresh_s, security.crl_stale, security.crl_missing, security.crl_forged)


def pins_of(config: "Config") -> tuple[dict[str, frozenset[str]], frozenset[bytes]]:
    """The pins of each domain, as they are written; and all of them, as bytes."""
    of_domain = {peer.domain: frozenset(peer.pin) for peer in config.peer if peer.pin}
    return of_domain, frozenset(base64.b64decode(pin) for pins in of_domain.values() for pin in pins)


class Refresh:
    """See the module.

    Args:
        config: names the files.
        certificates: ours.
        paths: validates those of others.
        use_tls: makes TLS use what is in the files now; may raise what `read_roots` does, and `ConfigError`.
        changed: told of whom there is another certificate: ``sip:user@domain``.
    """

    def __init__(
        self,
        config: "Config",
        certificates: "Certificates",
        paths: "Paths",
        use_tls: "Callable[[], None]",
        changed: "Callable[[set[str]], None]",
    ) -> None:
        self._config = config
        self._certificates = certificates
        self._paths = paths
        self._use_tls = use_tls
        self._changed = changed
        self._looks = 0
        self._next_look = 0.0
        self._roots = self._stamps(config.tls.ca)
        self._crls = self._stamps(config.security.crl)

    def look(self) -> None:
        """Take up what has changed; to be called each second.

        With very many users that takes its time, in which nothing else is done: then it looks less often.
        """
        began = time.monotonic()
        if began < self._next_look:
            return
        self._look()
        self._next_look = began + _IDLE * (time.monotonic() - began)

    def _look(self) -> None:
        changed = self._certificates.reload()
        if self._looks % _RENEW_EVERY == 0:
            changed |= self._certificates.renew()
        self._looks += 1
        roots, crls = self._stamps(self._config.tls.ca), self._stamps(self._config.security.crl)
        new_roots, new_crls = roots != self._roots, crls != self._crls
        self._roots, self._crls = roots, crls
        self._take_up(changed, roots=new_roots, crls=new_crls)

    def everything(self) -> None:
        """Read everything again: SIGHUP."""
        self._take_up(self._certificates.reload() | self._certificates.renew(), roots=True, crls=True)
        _log.info("certificates reloaded")

    def _take_up(self, changed: set[str], *, roots: bool, crls: bool) -> None:
        try:
            if crls:
                self._paths.replace(revocation=Revocation.read(map(self._config.path, self._config.security.crl)))
                _log.info("revocation lists taken up")
            if roots:
                self._paths.replace(roots=read_roots(self._config))
            if roots or f"sip:{self._config.domain}" in changed:
                self._use_tls()
                _log.info("TLS uses the new certificates")
        except (OSError, ValueError, RevocationError, ConfigError) as error:
            _log.error("certificates not taken up", reason=str(error))
        if changed:
            _log.info("certificates changed", of=sorted(changed))
            self._changed(changed)

    def _stamps(self, names: "Iterable[str]") -> _Stamps:
        """What tells whether files have changed."""
        stamps: _Stamps = {}
        for name in names:
            path = self._config.path(name)
            try:
                found = path.stat()
                stamps[path] = (found.st_mtime_ns, found.st_size)
            except OSError:
                stamps[path] = None
        return stamps
