"""The tone of a call that nobody has answered yet: of 400 Hz, a second in five.

Loaded while it rings.
"""

from sipwire.compat import const

__all__ = ["Tone"]

_FRAME_MS = const(20)
_MAX_BEHIND_MS = const(200)
_ON = const(50)  # frames
_CADENCE = const(250)
# Half a period of 400 Hz at 8000 samples a second, a quarter of full scale: 8192 sin(2 pi n / 20) for n from 0 to 9.
_HALF = (0, 2531, 4815, 6627, 7791, 8192, 7791, 6627, 4815, 2531)
_PERIODS = const(8)  # in a frame


class Tone:
    """A tone that rings until `stop`.

    Args:
        audio: the board's.

    Attributes:
        timer_at: when `handle_timer` is due.

    Raises:
        OSError, ValueError: there is no speaker.
    """

    def __init__(self, audio, now):
        period = _HALF + tuple([-value for value in _HALF])
        self._loud = b"".join([(value & 0xFFFF).to_bytes(2, "little") for value in period]) * _PERIODS
        self._quiet = bytes(len(self._loud))
        self._frames = 0
        self.timer_at = now
        self._audio = audio
        try:
            audio.start()
        except Exception:
            self.stop()
            raise

    def handle_timer(self, now):
        """Play what is due."""
        if now - self.timer_at > _MAX_BEHIND_MS:
            self.timer_at = now
        while now >= self.timer_at:
            self.timer_at += _FRAME_MS
            self._audio.write(self._loud if self._frames % _CADENCE < _ON else self._quiet)
            self._frames += 1

    def stop(self):
        """Be silent."""
        try:
            self._audio.stop()
        except (OSError, ValueError):
            pass  # nothing more can be done about it
