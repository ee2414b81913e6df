"""Logging: structlog, as lines for people on a terminal and as JSON elsewhere."""

import logging
import sys
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from .config import LogConfig

__all__ = ["Seldom", "configure"]

_FIRST = ("timestamp", "level", "event")  # of each line of JSON, for people who read it all the same
_SELDOM_S = 60.0
_MAX_REMEMBERED = 1000


class Seldom:
    """Says whether something may be logged: the same at most once a minute, so that nobody can fill the log with it."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def __call__(self, key: str) -> bool:
        """Whether it is time to tell ``key`` again."""
        now = time.monotonic()
        if self._next.get(key, 0.0) > now:
            return False
        self._next.pop(key, None)
        if len(self._next) >= _MAX_REMEMBERED:
            del self._next[next(iter(self._next))]
        self._next[key] = now + _SELDOM_S
        return True


def _ordered(_logger: object, _method: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    return {key: event[key] for key in (*_FIRST, *(key for key in event if key not in _FIRST)) if key in event}


def _printable(_logger: object, _method: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    """What others wrote ends no line, and commands no terminal that shows it; JSON has escapes of its own."""
    return {key: _shown(value) if isinstance(value, str) else value for key, value in event.items()}


def _shown(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def configure(config: "LogConfig") -> None:
    """Set up logging to standard error."""
    console = config.format == "console" or (config.format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor
    if console:
        # A plain traceback: the other shows local variables, and secrets are among them.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=32, exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = structlog.processors.JSONRenderer()
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
    ]
    if console:
        processors.append(_printable)
    else:
        processors += [structlog.processors.format_exc_info, _ordered]
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, config.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
