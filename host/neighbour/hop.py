"""The neighbour's end of protected hops (WIRE section 1): the table of agreements, and how they are made.

    REGISTER, step 1 --challenge()--> 401, nothing stored
    REGISTER, step 3 --prove()--> keys --adopt()--> Agreement, in the store before the 200 goes out in its first frame
    frame --open()--> Agreement and message

A restart loses nothing: agreements are in the store with their keys, the sequence numbers that may have been used, and
the highest one received. Numbers to send are reserved in strides, so that none is ever used twice.

What is received is written with each registration, and every 0.2 s: too many frames come to commit each. After a crash,
a frame of the last moment before it, but no REGISTER, is therefore taken once more if somebody has kept it and sends it
before the terminal sends anything. It repeats what the terminal wished and changes nothing of it. Nor does it move the
terminal's address: of the frames after a start, the second is the first that may.
"""

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import bindparam, delete, insert, or_, select, update

from sipwire.agreement import best, hop_nonce, hop_spi, parse_mechanisms, server_offer
from sipwire.digest import SHA256, Challenge, Credentials
from sipwire.digest_server import parse_credentials, serialize_challenge, verify
from sipwire.errors import SecurityError, StateError
from sipwire.hop import FRAME_MARK, HopKeys, HopReceiver, HopSender, derive_keys, frame_seq, frame_spi
from sipwire.replay import ReplayWindow

from .aes import new_aes
from .location import wall_ms
from .logs import Seldom
from .nonces import FRESH, Nonces
from .refusal import RefusedError
from .store.database import StoreError
from .store.schema import accounts, agreements
from .transport.flow import Flow, FlowClosedError, Listener, format_address
from .transport.serial import is_on_line

if TYPE_CHECKING:
    from sipwire.message import Request

    from .metrics import Metrics
    from .store.accounts import Account, Accounts
    from .store.database import Statement, Store
    from .transport.serial import SerialLine
    from .transport.udp import UdpTransport

__all__ = ["Agreement", "HopFlow", "Hops", "Proof", "is_frame"]

_log = structlog.get_logger("hop")
_PURPOSE = b"hop"
_STRIDE = 1000  # numbers reserved at a time: a commit for so many frames
_GRACE_MS = 30_000  # WIRE section 1.4: an agreement outlives its registration, and a replaced one its successor's birth
_SEEN_EVERY_S = 0.2  # how often received numbers and moved addresses are written
_EXPIRE_ROUNDS = 50  # of these between two looks for what is over


@dataclass
class Proof:
    """What a valid step 3 has shown: everything an agreement is made of."""

    account: "Account"
    credentials: Credentials
    secret: bytes
    spi: int
    terminal_spi: int
    to_neighbour: HopKeys
    to_terminal: HopKeys


@dataclass(eq=False, slots=True)
class Agreement:
    """One living agreement.

    Attributes:
        user: whose.
        spi: in frames that we receive.
        terminal_spi: in frames that the terminal receives.
        address: where the terminal's last valid frame came from.
        expires_at: wall-clock milliseconds.
        reserved: up to which number the store lets us send.
        transport: the socket its frames came by last, where they came by one.
        moves: whether the next frame may move the address; not after a restart, where it may be a repeated one.
        due: when `Hops.expire` looks at it next, wall-clock milliseconds.
    """

    user: str
    spi: int
    terminal_spi: int
    receiver: HopReceiver
    sender: HopSender
    address: tuple[str, int]
    expires_at: int
    reserved: int
    keys: bytes
    nonce: str
    transport: "UdpTransport | SerialLine | None" = None
    reserving: bool = field(default=False)
    moves: bool = True
    due: int | None = None


class HopFlow(Flow):
    """Frames to and from a terminal, wherever it is just now."""

    transport = "UDP"
    reliable = False
    protection = "frame"

    def __init__(self, hops: "Hops", agreement: Agreement, listener: Listener) -> None:
        self._hops = hops
        self.agreement = agreement
        self.listener = listener

    @property
    def peer(self) -> tuple[str, int]:  # type: ignore[override]
        """Where the terminal is."""
        return self.agreement.address

    @property
    def line(self) -> "SerialLine | None":  # type: ignore[override]
        """The serial line that it is at, None where it is at none."""
        return self._hops.line_of(self.agreement)

    @property
    def user(self) -> str:
        """Whose terminal it is."""
        return self.agreement.user

    def has_same_end(self, other: Flow) -> bool:
        """The same terminal, by whichever of its agreements."""
        return isinstance(other, HopFlow) and other.user == self.user

    def send(self, data: bytes) -> None:
        """Seal a message and send the frame, by the newest agreement where that by which a request came is over."""
        if self.agreement.expires_at <= wall_ms():
            self.agreement = self._hops.newest(self.user) or self.agreement
        self._hops.seal(self.agreement, data)

    @property
    def key(self) -> str:
        """For the log."""
        return f"hop:{self.user}@{format_address(self.peer)}"


class Hops:
    """The agreements of all terminals.

    Args:
        store: an open store.
        realm: the digest realm, our domain.
        nonces: makes and checks nonces.
        accounts: who is who.
        metrics: counts.
    """

    def __init__(self, store: "Store", realm: str, nonces: Nonces, accounts: "Accounts", metrics: "Metrics") -> None:
        self._store = store
        self._accounts = accounts
        self._realm = realm
        self._nonces = nonces
        self._metrics = metrics
        self._by_spi: dict[int, Agreement] = {}
        self._by_user: dict[str, list[Agreement]] = {}
        # When to look at an agreement again, and its SPI; what is not the agreement's ``due`` any more is skipped.
        self._ends: list[tuple[int, int]] = []
        self._moved: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._may_tell = Seldom()
        self._default_transport: UdpTransport | None = None
        self._lines: dict[str, SerialLine] = {}
        self._insert = insert(agreements)
        self._reserve = update(agreements).where(agreements.c.spi == bindparam("this"))
        self._reserve = self._reserve.values(sent_seq=bindparam("upto"))
        self._note = update(agreements).where(agreements.c.spi == bindparam("this"))
        self._note = self._note.values(received_seq=bindparam("seen"), address=bindparam("at"))
        self._extend = update(agreements).where(agreements.c.spi == bindparam("this"))
        self._extend = self._extend.values(expires_at=bindparam("until"))
        self._delete = delete(agreements).where(agreements.c.spi == bindparam("this"))

    def use(self, transport: "UdpTransport") -> None:
        """Reach terminals by this socket until they are heard from."""
        self._default_transport = self._default_transport or transport

    def add_line(self, line: "SerialLine") -> None:
        """Reach by this line whom its address is of."""
        self._lines[line.peer[0]] = line

    def line_of(self, agreement: Agreement) -> "SerialLine | None":
        """The serial line that a terminal is at just now, None where it is at none."""
        return self._lines.get(agreement.address[0])

    def transport_of(self, agreement: Agreement) -> "UdpTransport | SerialLine | None":
        """The socket or line by which a terminal is reached, None where that is not there any more."""
        if is_on_line(agreement.address[0]):
            return self.line_of(agreement)
        return agreement.transport or self._default_transport

    async def load(self) -> int:
        """Read the agreements of before a restart, and rid the store of the others; returns how many live."""
        nobodys = agreements.c.user.not_in(select(accounts.c.user))
        await self._store.write((delete(agreements).where(or_(agreements.c.expires_at <= wall_ms(), nobodys)), {}))
        for row in await self._store.read(select(agreements)):
            host, _, port = row.address.rpartition(":")
            to_neighbour, to_terminal = _split_keys(row.keys)
            # Numbers up to the reserve may have been used before the restart: go on above it.
            self._keep(
                Agreement(
                    row.user,
                    row.spi,
                    row.terminal_spi,
                    HopReceiver(row.spi, to_neighbour, new_aes, row.received_seq),
                    HopSender(row.terminal_spi, to_terminal, new_aes, row.sent_seq),
                    (host.strip("[]"), int(port)),
                    row.expires_at,
                    row.sent_seq,
                    row.keys,
                    row.nonce,
                    moves=False,
                )
            )
        if self._by_spi:
            living = self._by_spi.values()
            await self._store.write(
                *((self._reserve, {"this": one.spi, "upto": one.reserved + _STRIDE}) for one in living)
            )
            for one in living:
                one.reserved += _STRIDE
        return len(self._by_spi)

    def __len__(self) -> int:
        return len(self._by_spi)

    # Frames.

    def open(
        self, frame: bytes, address: tuple[str, int], transport: "UdpTransport | SerialLine"
    ) -> tuple[HopFlow, bytes] | None:
        """Open a frame.

        Args:
            frame: the datagram.
            address: its source.
            transport: the socket or line it came by.

        Returns:
            The flow and the message (b"" for a keep-alive, which has been answered), or None where it is dropped.
        """
        try:
            spi = frame_spi(frame)
            agreement = self._by_spi.get(spi)
            if agreement is None or agreement.expires_at <= wall_ms():
                raise SecurityError("hop spi")
            before = agreement.receiver.window.highest
            message = agreement.receiver.open(frame)
        except SecurityError as error:
            self._metrics.frames_dropped.labels(error.check).inc()
            return None
        if not is_on_line(address[0]):
            agreement.transport = transport
        seq = frame_seq(frame)
        if not agreement.moves:
            agreement.receiver.window = ReplayWindow(highest=seq)  # whatever came before it came before the restart
        if seq > before:
            # "A valid frame with a new highest seq from a new source address moves the terminal's address there."
            if agreement.address != address and agreement.moves:
                _log.info("terminal moved", user=agreement.user, address=format_address(address))
                agreement.address = address
            agreement.moves = True
            self._moved.add(spi)
        if not message:
            try:
                self.seal(agreement, b"")
            except FlowClosedError as error:
                _log.debug("keep-alive not answered", reason=str(error))
        return HopFlow(self, agreement, transport.listener), message

    def newest(self, user: str) -> Agreement | None:
        """The last agreement that a terminal has made, None where it has none."""
        return next(reversed(self._by_user.get(user, ())), None)

    def seal(self, agreement: Agreement, message: bytes) -> None:
        """Send a message in a frame.

        Raises:
            FlowClosedError: the agreement is over or used up, or there is no socket.
        """
        transport = self.transport_of(agreement)
        if transport is None or agreement.expires_at <= wall_ms():
            raise FlowClosedError("terminal's agreement is over")
        if agreement.sender.seq >= agreement.reserved:
            # The store is late with the next stride. Lost is better than a number used twice.
            self._reserve_more(agreement)
            raise FlowClosedError("store is late")
        if agreement.reserved - agreement.sender.seq < _STRIDE // 2:
            self._reserve_more(agreement)
        try:
            frame = agreement.sender.seal(message)
        except StateError as error:
            raise FlowClosedError(str(error)) from None
        transport.send(frame, agreement.address)

    def _reserve_more(self, agreement: Agreement) -> None:
        if not agreement.reserving:
            agreement.reserving = True
            task = asyncio.get_running_loop().create_task(self._write_reserve(agreement))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write_reserve(self, agreement: Agreement) -> None:
        upto = agreement.sender.seq + _STRIDE
        try:
            await self._store.write((self._reserve, {"this": agreement.spi, "upto": upto}))
            agreement.reserved = max(agreement.reserved, upto)
        except StoreError as error:
            _log.error("sequence numbers not reserved", user=agreement.user, reason=str(error))
        finally:
            agreement.reserving = False

    def flow(self, spi: int | None) -> HopFlow | None:
        """The flow to the terminal of an agreement, or None where that is over."""
        agreement = self._by_spi.get(spi or 0)
        if agreement is None or agreement.expires_at <= wall_ms():
            return None
        transport = self.transport_of(agreement)
        return None if transport is None else HopFlow(self, agreement, transport.listener)

    # Making agreements.

    def offer(self) -> bytes:
        """A Security-Server value for a 494, which nothing is bound to."""
        return server_offer(self._nonces.spi(self._nonces.make(_PURPOSE)))

    def challenge(self, *, stale: bool = False) -> RefusedError:
        """The 401 to step 1 (WIRE section 1.1). The same for everybody: it does not tell who has an account."""
        nonce = self._nonces.make(_PURPOSE)
        while self._nonces.spi(nonce) in self._by_spi:
            nonce = self._nonces.make(_PURPOSE)
        challenge = Challenge(self._realm.encode(), nonce, SHA256, (b"auth", b"auth-int"), None, stale)
        self._metrics.agreements.labels("challenged").inc()
        return RefusedError(
            401,
            "Unauthorized",
            ("WWW-Authenticate", serialize_challenge(challenge)),
            ("Security-Server", server_offer(self._nonces.spi(nonce))),
        )

    def wants_other(self) -> RefusedError:
        """The 494 that tells what would be understood (RFC 3329 section 2.3.1)."""
        return RefusedError(494, "Security Agreement Required", ("Security-Server", self.offer()))

    def check_offer(self, request: "Request") -> bytes:
        """The Security-Client value of a REGISTER.

        Raises:
            ParseError: malformed.
            RefusedError: there is nothing usable in it (494).
        """
        values = request.get_all("security-client")
        if len(values) != 1:
            raise self.wants_other()
        mechanism = best(parse_mechanisms(request.values("security-client")), (b"wisp-hop",))
        if mechanism is None:
            raise self.wants_other()
        hop_spi(mechanism)
        hop_nonce(mechanism)
        return values[0]

    async def prove(self, request: "Request", user: str, flow: "Flow") -> Proof:
        """Check a step 3 (WIRE section 1.1, step 4).

        Args:
            request: the REGISTER, with Authorization.
            user: whose it claims to be.
            flow: how it came, for the log.

        Raises:
            ParseError: malformed.
            RefusedError: the answer where something is wrong; nothing has been registered then.
        """
        offer = self.check_offer(request)
        credentials = parse_credentials(request.get("authorization") or b"")
        if self._nonces.check(_PURPOSE, credentials.nonce) != FRESH:
            raise self.challenge(stale=True)
        account, secret = self._valid_secret(credentials, request, user)
        if account is None or secret is None:
            # The account may have been made or changed a moment ago.
            await self._accounts.refresh()
            account, secret = self._valid_secret(credentials, request, user)
            if account is None or secret is None:
                self._metrics.auth.labels("failed").inc()
                known = self._accounts.by_user(user) is not None
                if self._may_tell(user if known else ""):
                    _log.warning("credentials refused", user=user, known=known, flow=flow.key)
                raise self.challenge()
        server_value = server_offer(self._nonces.spi(credentials.nonce))
        if request.get_all("security-verify") != [server_value]:
            # "If they differ, 494 and nothing is registered": somebody on the way weakened our offer.
            self._metrics.agreements.labels("differs").inc()
            raise self.wants_other()
        spi = self._nonces.spi(credentials.nonce)
        if spi in self._by_spi or not self._nonces.use(credentials.nonce, 1):
            raise self.challenge(stale=True)
        self._metrics.auth.labels("ok").inc()
        mechanism = best(parse_mechanisms(request.values("security-client")), (b"wisp-hop",))
        assert mechanism is not None
        to_neighbour, to_terminal = derive_keys(
            secret,
            credentials.username,
            self._realm.encode(),
            hop_nonce(mechanism),
            credentials.nonce,
            offer,
            server_value,
        )
        return Proof(account, credentials, secret, spi, hop_spi(mechanism), to_neighbour, to_terminal)

    def _valid_secret(
        self, credentials: Credentials, request: "Request", user: str
    ) -> "tuple[Account | None, bytes | None]":
        """A terminal's account and HA1, where credentials are made with it; None otherwise."""
        account = self._accounts.by_user(user)
        secret = None if account is None or not account.is_terminal else account.secret(SHA256)
        if (
            account is None
            or secret is None
            or credentials.username != account.auth_user.encode()
            or credentials.realm != self._realm.encode()
            or credentials.algorithm.upper() != SHA256
            or credentials.qop != b"auth-int"
            or credentials.uri != request.uri
        ):
            return None, None
        try:
            verify(credentials, secret, "REGISTER", request.body)
        except SecurityError:
            return None, None
        return account, secret

    def prepare(
        self, proof: Proof, expires_s: int, address: tuple[str, int], transport: "UdpTransport | SerialLine"
    ) -> "tuple[Agreement, tuple[Statement, ...]]":
        """Make the agreement of a proof, and the statements that store it; `adopt` it when they are committed."""
        keys = _join_keys(proof.to_neighbour, proof.to_terminal)
        agreement = Agreement(
            proof.account.user,
            proof.spi,
            proof.terminal_spi,
            HopReceiver(proof.spi, proof.to_neighbour, new_aes),
            HopSender(proof.terminal_spi, proof.to_terminal, new_aes),
            address,
            wall_ms() + expires_s * 1000 + _GRACE_MS,
            _STRIDE,
            keys,
            proof.credentials.nonce.decode(),
            transport,
        )
        row: dict[str, Any] = {
            "spi": agreement.spi,
            "user": agreement.user,
            "terminal_spi": agreement.terminal_spi,
            "keys": keys,
            "nonce": agreement.nonce,
            "address": format_address(address),
            "sent_seq": _STRIDE,
            "received_seq": 0,
            "expires_at": agreement.expires_at,
        }
        return agreement, ((self._insert, row),)

    def adopt(self, agreement: Agreement) -> HopFlow:
        """The agreement is stored: use it."""
        self._keep(agreement)
        self._metrics.agreements.labels("made").inc()
        assert agreement.transport is not None
        return HopFlow(self, agreement, agreement.transport.listener)

    def extension(self, agreement: Agreement, expires_s: int) -> "tuple[Statement, ...]":
        """Let an agreement live as long as a refreshed registration; the statements to commit with it."""
        agreement.expires_at = wall_ms() + expires_s * 1000 + _GRACE_MS
        return ((self._extend, {"this": agreement.spi, "until": agreement.expires_at}),)

    def heard(self, agreement: Agreement) -> "tuple[Statement, ...]":
        """The statements to commit with what a frame asks for, so that it is not taken again after a crash."""
        seen, address = agreement.receiver.window.highest, format_address(agreement.address)
        return ((self._note, {"this": agreement.spi, "seen": seen, "at": address}),)

    def retire(self, spi: int) -> "tuple[Statement, ...]":
        """Keep an agreement for frames under way and no longer: another has taken its place, or its binding is gone."""
        agreement = self._by_spi.get(spi)
        if agreement is None:
            return ()
        agreement.expires_at = min(agreement.expires_at, wall_ms() + _GRACE_MS)
        self._look_again(agreement)
        return ((self._extend, {"this": spi, "until": agreement.expires_at}),)

    def revoke(self, users: set[str]) -> None:
        """End the agreements of users at once; the store forgets them with its next commit."""
        gone = [agreement for user in users for agreement in self._by_user.get(user, ())]
        for agreement in gone:
            agreement.expires_at = 0  # flows that are held somewhere end with it
            self._drop(agreement)
        if gone:
            self._store.write_soon(*((self._delete, {"this": agreement.spi}) for agreement in gone))

    # Housekeeping.

    async def keep(self) -> None:
        """Write what has moved and forget what is over, for ever."""
        rounds = 0
        while True:
            await asyncio.sleep(_SEEN_EVERY_S)
            self.note()
            rounds += 1
            if rounds % _EXPIRE_ROUNDS == 0:
                self.expire()

    def note(self) -> None:
        """Write received numbers and addresses of terminals that have been heard since the last time."""
        moved, self._moved = self._moved, set()
        living = [agreement for spi in moved if (agreement := self._by_spi.get(spi)) is not None]
        notes = [statement for agreement in living for statement in self.heard(agreement)]
        if notes:
            self._store.write_soon(*notes)

    def expire(self) -> None:
        """Forget agreements that are over; touches none before its time. They have not been used since they were."""
        now = wall_ms()
        over = []
        while self._ends and self._ends[0][0] <= now:
            due, spi = heapq.heappop(self._ends)
            agreement = self._by_spi.get(spi)
            if agreement is None or agreement.due != due:
                continue  # revoked, or it has been looked at earlier
            agreement.due = None
            if agreement.expires_at > now:
                self._look_again(agreement)  # refreshed meanwhile
            else:
                self._drop(agreement)
                over.append(spi)
        if over:
            self._store.write_soon(*((self._delete, {"this": spi}) for spi in over))

    def _keep(self, agreement: Agreement) -> None:
        self._by_spi[agreement.spi] = agreement
        self._by_user.setdefault(agreement.user, []).append(agreement)
        self._look_again(agreement)

    def _look_again(self, agreement: Agreement) -> None:
        """See to it that an agreement is looked at when it ends, at the latest."""
        if agreement.due is None or agreement.expires_at < agreement.due:
            agreement.due = agreement.expires_at
            heapq.heappush(self._ends, (agreement.due, agreement.spi))

    def _drop(self, agreement: Agreement) -> None:
        del self._by_spi[agreement.spi]
        kept = self._by_user[agreement.user]
        kept.remove(agreement)
        if not kept:
            del self._by_user[agreement.user]


def is_frame(datagram: bytes) -> bool:
    """Whether a datagram claims to be a frame."""
    return datagram[:1] == bytes((FRAME_MARK,))


def _join_keys(*keys: HopKeys) -> bytes:
    return b"".join(part for one in keys for part in (one.key, one.auth, one.salt))


def _split_keys(data: bytes) -> tuple[HopKeys, HopKeys]:
    return HopKeys(data[:16], data[16:48], data[48:62]), HopKeys(data[62:78], data[78:110], data[110:124])
