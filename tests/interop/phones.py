"""What the tests ask of a phone, whichever it is."""

import io
import os
import sys
from abc import abstractmethod
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.lab import Lab
from lab.processes import Process
from neighbour.cli import run_command

__all__ = ["TONE_HZ", "Account", "Phone", "Place", "add_account", "skip_without"]

#: What every phone sends.
TONE_HZ = 1000


def skip_without(what: str, package: str) -> None:
    """Skip a test for want of a Debian package; fail it where nothing may be missing."""
    text = f"{what} is not installed (Debian package {package})"
    if os.environ.get("WISP_TEST_ALL"):
        pytest.fail(text)
    pytest.skip(text)


@dataclass(frozen=True)
class Account:
    """A phone's account."""

    user: str
    domain: str
    password: str
    md5: bool = False

    @property
    def aor(self) -> str:
        return f"sip:{self.user}@{self.domain}"


@dataclass(frozen=True)
class Place:
    """Where a phone is.

    Attributes:
        folder: for its files; made when it starts.
        address: its own, all ports of it free.
        domains: the address of each domain's neighbour.
        nameserver: ``address:port`` of a server that knows the same.
        authority: the root certificate that the domains' own lead to.
        tone: a recording of TONE_HZ to send.
    """

    folder: Path
    address: str
    domains: dict[str, str]
    nameserver: str
    authority: Path
    tone: Path


def add_account(lab: Lab, account: Account) -> None:
    """Make the account, as a person would."""
    arguments = ["account", "add", account.user, "--phone", "--password-stdin"]
    if account.md5:
        arguments.append("--md5")
    with redirect_stdout(io.StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(account.password + "\n"))
        run_command(*arguments, "--config", str(lab.configuration(account.domain)))


class Phone(Process):
    """A phone with one account, in a process of its own. It says, as events with these names and fields:

    registered, refused (reason), incoming, secured (suite, where it tells), connected, ended (reason), dtmf (digit),
    text (text)

    "secured" is what the phone itself thinks of its media: it speaks SRTP.
    """

    #: The best digest it knows.
    digest: str
    account: Account

    @property
    def aor(self) -> str:
        """Whom to call to reach it."""
        return self.account.aor

    @abstractmethod
    def dial(self, uri: str) -> None:
        """Call somebody."""

    @abstractmethod
    def answer(self) -> None:
        """Take the call that rings."""

    @abstractmethod
    def hang_up(self) -> None:
        """End the call."""

    @abstractmethod
    def press(self, digits: str) -> None:
        """Press keys in a call."""

    @abstractmethod
    def forget_recordings(self) -> None:
        """Delete what was heard in earlier calls."""

    @abstractmethod
    def recording(self) -> Path | None:
        """The file of what is heard, or was heard last; None before there is one."""
