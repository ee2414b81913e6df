"""What a person tells the terminal: commands on the console, and the button.

Loaded on demand: for each of them, and gone when it is done, for a call wants the room.
"""

from .addressing import target_of, told
from .demand import call
from .events import emit
from .phone import IDLE, RINGING

__all__ = ["read"]

_HELP = (
    "unknown or incomplete; try call URI, answer, reject, hangup, hold, resume, "
    "press DIGITS, write TEXT, chat, message URI TEXT, forget URI, status, quit"
)


def read(terminal, line, now):
    """What is to be done where a person has typed something, or pressed the button. What takes no room is done at once.

    Args:
        terminal: the `app.Terminal`.
        line: a command line.
        now: milliseconds.

    Returns:
        (function, its arguments...), nothing of which is from here; or None.
    """
    words = line.split()
    if not words:
        return None
    command = words[0]
    phone = terminal.phone
    if command == "call" and len(words) == 2:
        return _dial(terminal, words[1], now)
    if command == "answer":
        return phone.answer, now
    if command == "reject":
        return phone.reject, now
    if command == "hangup":
        return phone.hang_up, now
    if command == "hold" or command == "resume":
        return phone.hold, command == "hold", now
    if (command == "press" and len(words) == 2) or (command == "write" and len(words) > 1):
        _send(terminal.media, command, line.split(None, 1)[1], now)
        return None
    if command == "chat" and len(words) == 1:
        terminal.board.console.is_chatting = True
        return None
    if command == "message" and len(words) > 2:
        return _write(terminal, words[1], line.split(None, 2)[2], now)
    if command == "forget" and len(words) == 2:
        return _forget(terminal, words[1], now)
    if command == "button":
        return _button(terminal, now)
    if command == "status":
        return call, "terminal.status", "tell", terminal, now
    if command == "quit":
        if phone.state != IDLE:
            phone.hang_up(now)
        terminal.registration.unregister(now)
        terminal.quit_at = now + 500
    else:
        emit("refused", command=command, reason=_HELP)
    return None


def _send(media, command, words, now):
    """What goes to the other side of a call beside speech."""
    try:
        if command == "press":
            media.press(words)
        else:
            media.write(words + "\n", now)
    except ValueError as error:
        emit("refused", command=command, reason=str(error))


def _button(terminal, now):
    if terminal.phone.state == RINGING:
        return terminal.phone.answer, now
    if terminal.phone.state != IDLE:
        return terminal.phone.hang_up, now
    return _dial(terminal, terminal.config.speed_dial, now) if terminal.config.speed_dial else None


def _dial(terminal, uri, now):
    if terminal.link.is_open:
        return terminal.phone.dial, uri, now
    emit("refused", command="call", reason="not registered")
    return None


def _write(terminal, target, words, now):
    uri = target_of(target, terminal.config.domain)
    if uri and terminal.link.is_open:
        return call, "terminal.texting", "send_text", terminal.config, terminal.agent, uri, words, now
    emit("refused", command="message", reason="not registered" if uri else "malformed URI")
    return None


def _forget(terminal, target, now):
    uri = target_of(target, terminal.config.domain)
    if uri:
        config, agent, is_open = terminal.config, terminal.agent, terminal.link.is_open
        return call, "terminal.revoking", "revoke", config, agent, uri, now, is_open, told
    emit("refused", command="forget", reason="malformed URI")
    return None
