"""Linphone's library without screen and sound card, see `linphone_driver`.

Installs: Debian's linphone-cli (see ``tools/peers.py``). What has to be known about 5.1:

* It looks at the first challenge only, and answers MD5 and SHA-256.
* It checks the neighbour's certificate: the chain, and the DNS name.
* It rewrites its configuration, and puts an MD5 hash in place of the password: each start needs a fresh one.
* It appends to a recording that is there already, and writes the header at its end, with sizes of its own liking.
* Without ``default_proxy`` it calls other domains as somebody else, and directly.
* Beside SRTP it sends a STUN request or two to the peer's RTP port.
"""

import ctypes.util
import sys
from pathlib import Path

from interop import linphone_driver
from interop.phones import Account, Phone, Place, skip_without

__all__ = ["Linphone"]

# A port of 0 keeps a transport from being used.
_CONFIG = """\
[sip]
default_proxy=0
bind_address={address}
sip_port={udp}
sip_tcp_port={tcp}
sip_tls_port={tls}
ipv6=0
guess_hostname=0
register_only_when_network_is_up=0
root_ca={authority}
verify_server_certs=1
verify_server_cn=1
media_encryption=srtp
media_encryption_mandatory=1

[net]
dns_srv_enabled=0

[rtp]
bind_address={address}
audio_rtp_port=30000

[sound]
echocancellation=0
remote_ring=

[video]
enabled=0
capture=0
display=0

[storage]
uri={folder}/linphone.db

[proxy_0]
reg_proxy=<sip:{domain};transport={transport}>
reg_route=<sip:{domain};transport={transport};lr>
reg_identity=sip:{user}@{domain}
reg_expires=600
reg_sendregister=1
quality_reporting_enabled=0

[auth_info_0]
username={user}
passwd={password}
realm={domain}
"""


class Linphone(Phone):
    """A Linphone.

    Args:
        place: where it is.
        account: whose it is.
        transport: "udp", "tcp" or "tls".
    """

    digest = "SHA-256"

    def __init__(self, place: Place, account: Account, transport: str) -> None:
        self.account = account
        folder = place.folder
        folder.mkdir(parents=True)
        self._recording = folder / "heard.wav"
        config, hosts = folder / "linphonerc", folder / "hosts"
        ports = {name: 5060 if name == transport else 0 for name in ("udp", "tcp", "tls")}
        config.write_text(
            _CONFIG.format(
                address=place.address,
                authority=place.authority,
                folder=folder,
                domain=account.domain,
                user=account.user,
                password=account.password,
                transport=transport,
                **ports,
            )
        )
        hosts.write_text("".join(f"{address} {domain}\n" for domain, address in place.domains.items()))
        library = ctypes.util.find_library("linphone")
        assert library is not None
        driver = [sys.executable, linphone_driver.__file__, library]
        super().__init__(
            f"Linphone over {transport}",
            [*driver, *map(str, (config, hosts, place.tone, self._recording))],
            folder / "output",
            folder,
            # It keeps things in the home folder.
            {name: str(folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")},
            folder / "commands",
        )

    @staticmethod
    def skip_if_missing() -> None:
        """Skip the test where there is no Linphone."""
        if ctypes.util.find_library("linphone") is None:
            skip_without("Linphone's library", "linphone-cli")

    def dial(self, uri: str) -> None:
        self.send(f"call {uri}")

    def answer(self) -> None:
        self.send("answer")

    def hang_up(self) -> None:
        self.send("hangup")

    def press(self, digits: str) -> None:
        self.send(f"press {digits}")

    def have_text(self) -> None:
        """Offer real-time text from now on, and take it."""
        self.send("text")

    def write(self, text: str) -> None:
        """Write a line of it."""
        self.send(f"write {text}")

    def forget_recordings(self) -> None:
        self._recording.unlink(missing_ok=True)

    def recording(self) -> Path | None:
        return self._recording if self._recording.exists() else None
