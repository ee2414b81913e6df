"""Kamailio as another domain: a foreign registrar and proxy, with mutual TLS between it and our neighbour.

Installs: Debian's kamailio and kamailio-tls-modules (see ``tools/peers.py``). Its configuration is ``kamailio.cfg``
beside this; certificate and key come from the lab's authority. What has to be known about Debian's 5.6:

* It verifies the chain of a peer's certificate, in both directions, and not the name in it: whoever the authority
  has certified may be whatever domain its From says. Its own configuration can compare them; ours does not.
* The debugging allocator is the default; ``-x fm`` is the other.
* It would take its addresses for domains of its own (``auto_aliases``), and resolves names (``dns``).
"""

import os
import shutil
from pathlib import Path

from interop.phones import skip_without
from lab.processes import Process
from lab.sipp import is_bound

__all__ = ["Kamailio"]

_PROGRAM = shutil.which("kamailio", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
_MODULES = ("usr/lib/*/kamailio/modules", "usr/local/lib*/kamailio/modules")
_TLS = """\
[server:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
certificate = {certificate}
private_key = {key}
ca_list = {authority}

[client:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
certificate = {certificate}
private_key = {key}
ca_list = {authority}
"""


class Kamailio(Process):
    """A Kamailio that serves a domain.

    Args:
        folder: for its files; has ``<domain>.pem`` and ``<domain>.key``.
        domain: its own.
        address: its own.
        authority: the root certificate that peers' have to lead to.
        neighbour: the domain of ours.
        next_hop: ``address:port`` of that, over TLS.
        password: of every user.
    """

    def __init__(
        self, folder: Path, domain: str, address: str, authority: Path, neighbour: str, next_hop: str, password: str
    ) -> None:
        self.domain = domain
        self.address = address
        run = folder / "run"
        run.mkdir(parents=True)
        files = {"certificate": folder / f"{domain}.pem", "key": folder / f"{domain}.key", "authority": authority}
        tls = folder / "tls.cfg"
        tls.write_text(_TLS.format(**files))
        names = {
            "DOMAIN": domain,
            "ADDRESS": address,
            "NEIGHBOUR": neighbour,
            "NEXT": next_hop,
            "PASSWORD": password,
            "TLS": str(tls),
        }
        text = Path(__file__).with_suffix(".cfg").read_text()
        for name, value in names.items():
            text = text.replace(f"@{name}@", value)
        configuration = folder / "kamailio.cfg"
        configuration.write_text(text)
        command = [_PROGRAM or "kamailio", "-DD", "-E", "-x", "fm", "-m", "32", "-M", "8"]
        command += ["-Y", str(run), "-P", str(run / "pid"), "-f", str(configuration)]
        super().__init__(f"Kamailio of {domain}", command, folder / "output", folder)

    @staticmethod
    def skip_if_missing() -> None:
        """Skip the test where there is no Kamailio with TLS."""
        if _PROGRAM is None:
            skip_without("Kamailio", "kamailio")
        if not any(any(Path("/").glob(f"{folder}/tls.so")) for folder in _MODULES):
            skip_without("Kamailio's TLS module", "kamailio-tls-modules")

    def wait_ready(self) -> None:
        """Wait until it serves, on both ports."""
        self.wait_until(lambda: is_bound(self.address, 5060) and is_bound(self.address, 5061), "to listen")
