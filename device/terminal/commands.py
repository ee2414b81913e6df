"""What a person tells the terminal: commands on the console, and the button.

Loaded on demand: for each of them.
"""

from .addressing import target_of, told
from .demand import call
from .events import emit
from .phone import IDLE, RINGING

__all__ = ["do"]

_HELP = (
    "unknown or incomplete; try call URI, answer, reject, hangup, hold, resume, "
    "message URI TEXT, forget URI, status, quit"
)


def do(terminal, line, now):
    """Do what a person has typed, or what a button says.

    Args:
        terminal: the `app.Terminal`.
        line: a command line.
        now: milliseconds.
    """
    words = line.split()
    if not words:
        return
    command = words[0]
    phone = terminal.phone
    if command == "call" and len(words) == 2:
        _dial(terminal, words[1], now)
    elif command == "answer":
        phone.answer(now)
    elif command == "reject":
        phone.reject(now)
    elif command == "hangup":
        phone.hang_up(now)
    elif command == "hold" or command == "resume":
        phone.hold(command == "hold", now)
    elif command == "message" and len(words) > 2:
        _write(terminal, words[1], line.split(None, 2)[2], now)
    elif command == "forget" and len(words) == 2:
        _forget(terminal, words[1], now)
    elif command == "button":
        _button(terminal, now)
    elif command == "status":
        _status(terminal)
    elif command == "quit":
        if phone.state != IDLE:
            phone.hang_up(now)
        terminal.registration.unregister(now)
        terminal.quit_at = now + 500
    else:
        emit("refused", command=command, reason=_HELP)


def _button(terminal, now):
    if terminal.phone.state == RINGING:
        terminal.phone.answer(now)
    elif terminal.phone.state != IDLE:
        terminal.phone.hang_up(now)
    elif terminal.config.speed_dial:
        _dial(terminal, terminal.config.speed_dial, now)


def _dial(terminal, uri, now):
    if terminal.link.is_open:
        terminal.phone.dial(uri, now)
    else:
        emit("refused", command="call", reason="not registered")


def _write(terminal, target, words, now):
    uri = target_of(target, terminal.config.domain)
    if uri and terminal.link.is_open:
        call("terminal.texting", "send_text", terminal.config, terminal.agent, uri, words, now)
    else:
        emit("refused", command="message", reason="not registered" if uri else "malformed URI")


def _forget(terminal, target, now):
    uri = target_of(target, terminal.config.domain)
    if uri:
        call("terminal.parting", "revoke", terminal.config, terminal.agent, uri, now, terminal.link.is_open, told)
    else:
        emit("refused", command="forget", reason="malformed URI")


def _status(terminal):
    terminal.collect()
    emit(
        "status",
        registration=terminal.registration.state,
        phone=terminal.phone.state,
        peer=terminal.phone.peer or None,
        heap_used=terminal.live,
        heap_peak=terminal.peak,
        dropped=terminal.link.dropped,
        malformed=terminal.agent.malformed,
        unproven=terminal.phone.trust.unproven,
    )
