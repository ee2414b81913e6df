"""sippy as a back-to-back user agent between two phones, see `b2bua_driver`.

Installs: sippy from PyPI, of the extra ``peers`` (``tools/setup.py dev`` brings it). What has to be known about 2.5:

* It knows MD5, SHA-256 and SHA-512-256, and neither TCP nor TLS.
* Its b2bua_simple keeps the Call-ID of the other call and writes its own address for every domain: hence a driver.
"""

import sys

from interop import b2bua_driver
from interop.phones import Account, Place
from lab.processes import Process

__all__ = ["B2bua"]


class B2bua(Process):
    """Connects whoever calls it with somebody else.

    Args:
        place: where it is.
        domain: whose neighbour it sends everything to.
        callee: whom it calls, an address-of-record.
        account: whose phone it is; None for a domain of its own.
        own_domain: that domain.
    """

    def __init__(
        self, place: Place, domain: str, callee: str, account: Account | None = None, own_domain: str = ""
    ) -> None:
        place.folder.mkdir(parents=True)
        command = [sys.executable, b2bua_driver.__file__, place.address, place.domains[domain]]
        command += [own_domain or domain, callee]
        if account is not None:
            command += [account.user, account.password]
        # It would log to standard error, and does to a file where it is told to.
        super().__init__("sippy", command, place.folder / "output", place.folder, {"SIPLOG_BEND": "none"})
