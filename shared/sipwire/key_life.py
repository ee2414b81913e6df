"""How long a key is used: by time and by packets, so that another one is there before it has to be.

    made --- renew_ms ---> due: make another offer, with another key --- until end_ms ---> over: nothing passes any more

The objects that have the key know neither clock nor offers. They are asked how many packets are ``left()``, and are
told to ``expire()`` when the time is over; a call that goes on then goes on in silence, not under a key that is worn.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["RENEW_PACKETS", "KeyLife"]

RENEW_PACKETS = 15000  # five minutes of speech, in packets of 20 ms: time enough for an offer and its answer


class KeyLife:
    """The life of a key.

    Args:
        users: what protects or opens packets with it: `SrtpSender`, `SrtpReceiver`, their like for SRTCP, or sessions.
        now: milliseconds, when the key was first used.
        renew_ms: its age when another one is due.
        end_ms: its age when it is over; more than ``renew_ms``.
        renew_packets: how many packets have to be left, else another one is due.

    Attributes:
        timer_at: when `handle_timer` is due, or None.
        is_due: whether another key is due by time.
    """

    def __init__(
        self, users: "list[Any]", now: int, renew_ms: int, end_ms: int, renew_packets: int = RENEW_PACKETS
    ) -> None:
        if not 0 < renew_ms < end_ms:
            raise ValueError("a key has to be renewed before its end")
        self._users = users
        self._end_at = now + end_ms
        self._renew_packets = renew_packets
        self.timer_at: "int | None" = now + renew_ms
        self.is_due = False

    def handle_timer(self, now: int) -> None:
        """Take note of the time; at the end nothing passes any more."""
        if self.timer_at is not None and now >= self.timer_at:
            self.is_due = True
            self.timer_at = self._end_at
            if now >= self._end_at:
                self.timer_at = None
                for user in self._users:
                    user.expire()

    def wants_another(self) -> bool:
        """Whether another key is due, by time or because few packets are left under this one."""
        # A receiver's key is the peer's, and the peer's to renew; it has no left() where it is a single one.
        left = [user.left() for user in self._users if hasattr(user, "left")]
        return self.is_due or bool(left and min(left) < self._renew_packets)
