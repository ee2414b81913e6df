"""Scenarios that sipp plays at both ends of a neighbour.

Installs: Debian's sip-tester (see ``tools/peers.py``).

The XML is under ``sipp/``. ``{{name}}`` in it stands for a value of the scenario's, or else for ``sipp/parts/name.xml``:
what most calls have in common is written once. All processes of a scenario use one Call-ID, so that a phone can
register and be called in one sipp "call": over TCP that has to be one connection.

sipp repeats after 2 s what it would repeat after 500 ms: it takes some of what is answered twice for something new, and
on a loaded machine 500 ms are soon over. Where messages are lost on purpose, it does not wait for longer.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.lab import Lab
from lab.processes import LabError, Neighbour
from lab.sipp import SIP_PORT, Sipp
from neighbour.config import load
from neighbour.store.accounts import add_account
from neighbour.store.database import Store

__all__ = ["Callee", "Exchange", "Scenario"]

_XML = Path(__file__).with_name("sipp")
_PASSWORD = "secret"
_END_S = 15.0  # for callees, when the caller is done
_MOST_TRACED = 100  # calls, of which every message is kept
_QUIET_S = 0.3  # what should not come would have come by then
_TRANSPORTS = {"udp": "u1", "tcp": "t1"}

#: What most scenarios leave as it is.
_VALUES = {
    "headers": "",
    "offer": "Content-Type: application/sdp\nContent-Length: [len]\n\n{{sdp}}",
    "contact": "sip:{{user}}@[local_ip]:[local_port];transport=[transport]",
    "contact_params": "",
    "expires": "600",
    "ring_ms": "50",
    "tag": "b",
}


@dataclass(frozen=True)
class Callee:
    """A phone that is called.

    Attributes:
        scenario: the XML that it plays.
        transport: "udp" or "tcp".
        registers: over which transport it registers before; "" where its own scenario does.
        values: for its XML.
        quiet: nothing at all may come to it.
        endless: it takes any number of calls, until the caller has had enough.
        role: whose phone it is.
    """

    scenario: str
    transport: str = "udp"
    registers: str = "udp"
    values: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False
    endless: bool = False
    role: str = "callee"


@dataclass(frozen=True)
class Scenario:
    """What is played, and by whom. It has gone well when every sipp has seen all it waits for, and nothing else.

    Attributes:
        name: of the test, and the beginning of its users' names.
        caller: the XML of who begins.
        callees: who is called.
        transport: of the caller.
        values: for the caller's XML.
        uri: the Request-URI of requests that are challenged: sipp is told the digest-uri.
        calls: how many of them.
        calls_per_s: how many a second.
        patience_ms: how long to wait for a message.
        password: that the caller gives.
        neighbour: which of the exchange's.
        timeout_s: for all of it.
        forgiving: what nobody waits for is overlooked: sipp takes much that is repeated for something else.
        seen: what has to be in some sipp's trace.
    """

    name: str
    caller: str
    callees: Sequence[Callee] = ()
    transport: str = "udp"
    values: Mapping[str, str] = field(default_factory=dict)
    uri: str = "{{callee}}@{{domain}}"
    calls: int = 1
    calls_per_s: int = 10
    patience_ms: int = 15_000  # a loaded machine takes its time
    password: str = _PASSWORD
    neighbour: str = "plain"
    timeout_s: float = 60.0
    forgiving: bool = False
    seen: str = ""

    def user(self, role: str) -> str:
        """The account of a role in it."""
        return f"{self.name}-{role}"


class Exchange:
    """Neighbours with the accounts of all scenarios.

    Args:
        lab: an empty lab.
        scenarios: all that will be played.
        settings: of each kind of neighbour: keys of its configuration, and their values as TOML has them.
    """

    def __init__(self, lab: Lab, scenarios: Sequence[Scenario], settings: Mapping[str, Mapping[str, str]]) -> None:
        self._lab = lab
        self._scenarios = scenarios
        self._settings = settings
        self._neighbours: dict[str, Neighbour] = {}
        self._addresses: dict[str, str] = {}

    def _neighbour(self, kind: str) -> Neighbour:
        """A neighbour, started where it is wanted first."""
        if kind not in self._neighbours:
            domain = f"{kind}.example"
            self._addresses[kind] = self._lab.make_domains(domain)[domain]
            for key, value in {"md5": "true", **self._settings[kind]}.items():
                self._lab.configure(domain, key, value)
            if any(one.calls > _MOST_TRACED for one in self._scenarios if one.neighbour == kind):
                self._lab.change(domain, 'level = "debug"', 'level = "info"')
            asyncio.run(self._add_accounts(kind, domain))
            self._neighbours[kind] = self._lab.start_neighbour(domain)
        return self._neighbours[kind]

    async def _add_accounts(self, kind: str, domain: str) -> None:
        store = Store(load(self._lab.configuration(domain)).store_url)
        await store.open()
        for scenario in self._scenarios:
            if scenario.neighbour == kind:
                for role in {"caller", "callee", *(callee.role for callee in scenario.callees)}:
                    await add_account(store, domain, scenario.user(role), _PASSWORD, is_terminal=False, md5=True)
        await store.close()

    def play(self, scenario: Scenario) -> float:
        """Play a scenario; returns the seconds that the caller took.

        Raises:
            LabError: it did not go as it should.
        """
        neighbour = self._neighbour(scenario.neighbour)
        neighbour.read()
        since = len(neighbour.lines)
        started: list[Sipp] = []
        try:
            return self._play(scenario, started)
        except LabError as error:
            neighbour.read()
            said = (f"    {line}" for line in neighbour.lines[since:] if scenario.name in str(line.get("call_id", "")))
            traced = (f"{one.name}:\n{_messages(one)}" for one in started)
            raise LabError("\n".join((str(error), "the neighbour:", *said, *traced))) from None
        finally:
            for one in started:
                one.stop()
            neighbour.read()
            wrong = [line for line in neighbour.lines[since:] if line.get("level") in ("error", "critical")]
            assert not wrong, wrong

    def _play(self, scenario: Scenario, started: list[Sipp]) -> float:
        numbered = list(enumerate(scenario.callees, 1))
        phones = {number: self._lab.next_address() for number, _ in numbered}
        for number, callee in numbered:
            if callee.registers:
                one = self._start(scenario, f"register{number}", "register", phones[number], callee, callee.registers)
                started.append(one)
                one.finish(scenario.timeout_s)
        callees = []
        for number, callee in numbered:
            one = self._start(scenario, f"callee{number}", callee.scenario, phones[number], callee, callee.transport)
            started.append(one)
            callees.append((callee, one))
            if callee.registers:
                one.wait_bound()
            else:
                user = scenario.user(callee.role)
                self._neighbours[scenario.neighbour].wait_for("registered", scenario.timeout_s, user=user)
        caller = self._start(scenario, "caller", scenario.caller, self._lab.next_address(), None, scenario.transport)
        started.append(caller)
        elapsed = caller.finish(scenario.timeout_s)
        for callee, one in callees:
            if callee.quiet:
                with suppress(LabError):
                    one.finish(_QUIET_S)
                if _messages(one):
                    raise LabError(f"{one.name}: got what it should not get")
            else:
                if callee.endless:
                    one.take_no_more()
                one.finish(_END_S)
        if not any(scenario.seen in _messages(one) for one in started):
            raise LabError(f"{scenario.name}: nobody saw {scenario.seen!r}")
        return elapsed

    def _start(
        self, scenario: Scenario, name: str, xml: str, address: str, callee: Callee | None, transport: str
    ) -> Sipp:
        """Start one of a scenario's sipps."""
        domain = f"{scenario.neighbour}.example"
        user = scenario.user("caller" if callee is None else callee.role)
        values = {
            **_VALUES,
            "domain": domain,
            "user": user,
            "caller": scenario.user("caller"),
            "callee": scenario.user("callee"),
            "neighbour": self._addresses[scenario.neighbour],
            **(scenario.values if callee is None else callee.values),
        }
        folder = self._lab.folder / scenario.name
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.xml"
        path.write_text(_expanded((_XML / f"{xml}.xml").read_text(), values))
        uri = scenario.uri if callee is None else "{{domain}}"
        arguments = [f"{self._addresses[scenario.neighbour]}:{SIP_PORT}", "-t", _TRANSPORTS[transport]]
        arguments += ["-au", user, "-ap", scenario.password if callee is None else _PASSWORD]
        arguments += ["-auth_uri", _expanded(uri, values), "-cid_str", f"{scenario.name}-%u"]
        calls = 1 if name.startswith("register") else scenario.calls
        if calls == 1 or callee is None or not callee.endless:
            arguments += ["-m", str(calls)]
        arguments += ["-r", str(scenario.calls_per_s), "-l", str(calls), "-recv_timeout", str(scenario.patience_ms)]
        if scenario.forgiving or name.startswith("register"):
            arguments += ["-default_behaviors", "all,-abortunexp"]
        if calls <= _MOST_TRACED:
            arguments += ["-trace_msg", "-message_file", str(folder / f"{name}.messages")]
        return self._lab.start(Sipp, path, folder / f"{name}.log", address, arguments)


def _expanded(text: str, values: Mapping[str, str]) -> str:
    """The text with every ``{{name}}`` replaced."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        inner = values[name] if name in values else (_XML / "parts" / f"{name}.xml").read_text().rstrip("\n")
        return _expanded(inner, values)

    return re.sub(r"\{\{(\w+)\}\}", value, text)


def _messages(one: Sipp) -> str:
    """Every message that it sent and got."""
    path = one.output.with_suffix(".messages")
    return path.read_text(errors="replace") if path.exists() else ""
