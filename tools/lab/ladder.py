"""The ladder of a call: who sent which SIP message to whom, and what protected it on the way."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Step", "draw", "of_call", "steps", "ways"]

_WIDTH = 29
_MARGIN = 6
_SEALED = [f"application/pkcs7-mime;smime-type={kind}" for kind in ("auth-enveloped-data", "enveloped-data")]
_PROTECTION = {"frame": "frame", "tls": "TLS", "none": "plain"}
_KEYS = {"used": ", setup key", "first": ", new key"}


@dataclass(frozen=True)
class Step:
    """One message between two neighbouring columns.

    Attributes:
        at: when, as ISO time.
        column: the left one of the two.
        rightwards: its direction.
        text: method or status.
        protection: ``frame``, ``tls`` or ``none``.
        call_id: of the message.
        body: its Content-Type without names, "" where it has none.
        key: whether a terminal shows by a setup key who it is, ``used``, or offers the first one, ``first``.
    """

    at: str
    column: int
    rightwards: bool
    text: str
    protection: str
    call_id: str
    body: str = ""
    key: str = ""

    @property
    def way(self) -> str:
        """What protected it, in words."""
        return _PROTECTION[self.protection] + (", S/MIME" if self.body in _SEALED else "")

    @property
    def label(self) -> str:
        """What it is, and what protected it, as far as there is room for it."""
        way = self.way + _KEYS.get(self.key, "")
        return f" {self.text[: _WIDTH - 6 - len(way)]}, {way} "


def steps(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> list[Step]:
    """The messages that two neighbours logged at debug level, in order.

    Args:
        left: the lines of the caller's neighbour, which stands in column 1; its user in column 0.
        right: those of the callee's neighbour, in column 2; its user in column 3.
    """
    found = []
    for lines, own in ((left, 1), (right, 2)):
        for line in lines:
            event = line.get("event", "")
            if event[:2] not in ("< ", "> ") or "protection" not in line:
                continue
            on_trunk = line["protection"] == "tls"
            if on_trunk and own == 2:
                continue  # the other neighbour has told it
            sent = event[0] == ">"
            column = 1 if on_trunk else (0 if own == 1 else 2)
            # The neighbour is right of its user in the left domain, and left of it in the right one.
            rightwards = sent if on_trunk or own == 2 else not sent
            text = event[2:]
            text = text.removeprefix("SIP/2.0 ") if text.startswith("SIP/2.0") else text.split(" ")[0]
            found.append(
                Step(
                    line["timestamp"],
                    column,
                    rightwards,
                    text,
                    line["protection"],
                    line["call_id"],
                    line.get("body", ""),
                    line.get("setup_key", ""),
                )
            )
    return sorted(found, key=lambda step: step.at)


def of_call(found: list[Step], number: int) -> list[Step]:
    """The steps of one of the calls, the first of which is 0."""
    calls = list(dict.fromkeys(step.call_id for step in found if step.text == "INVITE"))
    return [step for step in found if step.call_id in calls[number : number + 1]]


def ways(found: list[Step]) -> list[str]:
    """What protected the messages of the calls between each two columns; all that did, where not always the same.

    S/MIME is for bodies: what has none says nothing about it.
    """
    calls = {step.call_id for step in found if step.text == "INVITE"}
    used: list[set[str]] = [set(), set(), set()]
    for step in found:
        if step.call_id in calls and (step.body or step.column != 1 or step.protection != "tls"):
            used[step.column].add(step.way)
    return ["+".join(sorted(one)) or "nothing seen" for one in used]


def draw(found: list[Step], columns: tuple[str, str, str, str]) -> list[str]:
    """The ladder as lines of text, four columns wide."""
    rails = [_MARGIN + i * _WIDTH for i in range(4)]
    out = [" " * (rails[-1] + 20)]
    for name, rail in zip(columns, rails, strict=True):
        start = max(0, rail - len(name) // 2)
        out[0] = out[0][:start] + name + out[0][start + len(name) :]
    for step in found:
        line = [" "] * (rails[-1] + 1)
        for rail in rails:
            line[rail] = "│"
        label = step.label.center(_WIDTH - 2, "─")
        start = rails[step.column] + 1
        line[start : start + _WIDTH - 1] = label + "▶" if step.rightwards else "◀" + label
        out.append("".join(line))
    return [line.rstrip() for line in out]
