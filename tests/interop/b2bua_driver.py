"""A back-to-back user agent on sippy: ``python b2bua_driver.py ADDRESS NEIGHBOUR DOMAIN CALLEE [USER PASSWORD]``.

Whoever calls it is connected with CALLEE, an address-of-record, by a call of its own through NEIGHBOUR (an address; all
of it on port 5060, over UDP). With USER it is a phone of that account of DOMAIN: it registers and gives credentials.
Without, it is the domain DOMAIN itself, and says that the caller is one of its users. SIGTERM ends it.

It is a program of its own because sippy's event loop wants to be the only one.
"""

import json
import signal
import sys

from sippy.CCEvents import CCEventDisconnect, CCEventTry
from sippy.Core.EventDispatcher import ED2
from sippy.SipConf import SipConf
from sippy.SipLogger import SipLogger
from sippy.SipRegistrationAgent import SipRegistrationAgent
from sippy.SipTransactionManager import SipTransactionManager
from sippy.SipURL import SipURL
from sippy.UA import UA

_PORT = 5060


def _say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class _Try(CCEventTry):
    """A call to make, to and from whom it says."""

    def __init__(self, caller: str, callee: str, event: CCEventTry) -> None:
        _, _, _, body, _, name = event.getData()
        self._caller, self._callee = SipURL(f"sip:{caller}"), SipURL(callee)
        # A Call-ID of its own, and no credentials of the other call's.
        super().__init__((None, self._caller.username, self._callee.username, body, None, name), event.rtime)
        self.max_forwards = event.max_forwards

    def onUacSetupComplete(self, uac: UA) -> None:  # sippy's name
        uac.rTarget = self._callee.getCopy()
        uac.rUri.address.url = self._callee.getCopy()
        uac.lUri.address.url = self._caller.getCopy()


class _Call:
    """Two calls that are one."""

    def __init__(self, b2bua: "B2bua") -> None:
        self._b2bua = b2bua
        self.first = UA(b2bua.config, self._event)
        self._second: UA | None = None

    def _event(self, event: object, of: UA) -> None:
        if of is not self.first:
            self.first.recvEvent(event)
            return
        if self._second is None:
            if not isinstance(event, CCEventTry):
                self.first.recvEvent(CCEventDisconnect())
                return
            b2bua = self._b2bua
            caller = b2bua.user or self.first.rUri.getUrl().username
            event = _Try(f"{caller}@{b2bua.domain}", b2bua.callee, event)
            user = b2bua.user or None
            self._second = UA(b2bua.config, self._event, user, b2bua.password or None, (b2bua.neighbour, _PORT))
            _say("call")
        self._second.recvEvent(event)


class B2bua:
    """All of it; see above for the arguments."""

    def __init__(
        self, address: str, neighbour: str, domain: str, callee: str, user: str = "", password: str = ""
    ) -> None:
        self.neighbour, self.domain, self.callee, self.user, self.password = neighbour, domain, callee, user, password
        SipConf.my_address, SipConf.my_port = address, _PORT
        self.config = {"_sip_address": address, "_sip_port": _PORT, "_sip_logger": SipLogger("b2bua")}
        self.config["_sip_tm"] = SipTransactionManager(self.config, self._request)
        if user:
            registration = SipRegistrationAgent(
                self.config,
                SipURL(f"sip:{user}@{domain}"),
                SipURL(f"sip:{user}@{address}:{_PORT}"),
                user,
                password,
                rok_cb=lambda *_: _say("registered"),
                rfail_cb=lambda line, _: _say("refused", reason=str(line)),
                target=((neighbour, _PORT), "udp"),
            )
            registration.doregister()
        else:
            _say("ready")

    def _request(self, request: object, transaction: object) -> object:
        if request.getHFBody("to").getTag() is not None:
            return request.genResponse(481, "Call/Transaction Does Not Exist"), None, None
        if request.getMethod() != "INVITE":
            return request.genResponse(501, "Not Implemented"), None, None
        return _Call(self).first.recvRequest(request, transaction)


def main() -> None:
    """Run until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    kept = B2bua(*sys.argv[1:])
    ED2.loop()
    del kept


if __name__ == "__main__":
    main()
