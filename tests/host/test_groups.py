"""Groups: what members send as one shows nobody outside which of them it is, and finds its way back."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attacks.middle import Middle
from sealed import Phone
from sip import Domain, Hopper, UdpClient, answer, in_dialog, request, run, signed
from test_heavy import HEAVY, between

from lab.lab import Lab
from neighbour.agent.groups import Groups, Member
from neighbour.config import load
from neighbour.store.accounts import set_account
from neighbour.store.database import Store
from sipwire.message import Request, Response
from sipwire.transaction import ack_for

GROUP = "sip:support@a.example"
#: What a phone of Carol's or Erin's writes of itself, wherever it can.
OFFER = (
    b"v=0\r\no=%s 1 1 IN IP4 %s.lan\r\ns=%s calls\r\ni=%s\r\ne=%s@a.example\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/SAVP 0\r\n"
)


def offer(user: str) -> bytes:
    return OFFER.replace(b"%s", user.encode())


@contextlib.asynccontextmanager
async def grouped(
    folder: Path, *, level: str = "medium", mode: str = "parallel"
) -> AsyncIterator[tuple[Domain, Domain, Middle]]:
    def prepare(lab: object) -> None:
        path = folder / "a.example" / "wisp.toml"
        group = f'[[group]]\nuri = "{GROUP}"\nmembers = ["carol", "erin", "alice"]\nmode = "{mode}"\n\n[metrics]'
        path.write_text(path.read_text().replace("[metrics]", group))

    async with between(folder, level=level, prepare=prepare) as (left, right, middle):
        yield left, right, middle


class Speaker:
    """A phone that writes its user's name wherever it can."""

    def __init__(self, client: UdpClient, user: str) -> None:
        self.client, self.user = client, user
        self.contact = f"sip:{user}@{client.address[0]}:{client.address[1]}"

    @classmethod
    async def of(cls, at: Domain, user: str, *, add: bool = True) -> "Speaker":
        if add:
            await at.add(user)
        self = cls(await UdpClient.open(at), user)
        made = request("REGISTER", f"sip:{at.name}", user, at.name, to=f"sip:{user}@{at.name}", contact=self.contact)
        assert (await self.client.ask_signed(made, user)).status == 200
        return self

    async def call(self, target: str, *, as_: str = "") -> Request:
        """Call somebody; returns the INVITE with credentials, as it went."""
        made = request(
            "INVITE",
            target,
            as_ or self.user,
            contact=self.contact,
            body=offer(self.user),
            call_id=f"{self.user}-1@{self.user}.lan",
            headers=(("Content-Type", "application/sdp"), ("Reply-To", f"<sip:{self.user}@a.example>")),
        )
        made.set("From", f'"{self.user}" <sip:{as_ or self.user}@a.example>;tag=ft'.encode())
        self.client.send(made)
        challenged = await self.client.response()
        assert challenged.status == 407, challenged.start_line()
        self.client.send(ack_for(made, challenged))
        again = signed(made, challenged, self.user, "secret")
        self.client.send(again)
        return again

    def accept(self, invite: Request) -> None:
        ok = answer(invite, 200, self.contact)
        ok.add("Warning", f'399 {self.user}.lan "hello"'.encode())
        ok.set_body(b"application/sdp", offer(self.user))
        self.client.send(ok)


def caller_side(method: str, answered: Response, speaker: Speaker, number: int, invite: Request) -> Request:
    return in_dialog(method, answered, speaker.contact, number, invite)


def callee_side(method: str, invite: Request, speaker: Speaker, number: int) -> Request:
    """A request of the callee's within the dialog of an INVITE that it got."""
    made = Request(method, invite.addresses("contact")[0].uri)
    for value in invite.values("record-route"):
        made.add("Route", value)
    made.add("Max-Forwards", b"70")
    made.add("From", (invite.get("to") or b"") + b";tag=callee")
    made.add("To", invite.get("from") or b"")
    made.add("Call-ID", invite.call_id)
    made.add("CSeq", f"{number} {method}".encode())
    made.add("Contact", f"<{speaker.contact}>".encode())
    made.add("Content-Length", b"0")
    return made


def nowhere(name: str, middle: Middle, *got: Request | Response) -> None:
    """Nothing that passed the trunk, and nothing that the other side got, has a name in it."""
    for message in (*(one for _, one in middle.seen), *got):
        assert name.encode() not in message.serialize().lower(), message.serialize()


async def talk(speaker: Speaker, dave: Speaker, sent: Request, middle: Middle) -> None:
    """The rest of a call that a member began: both sides send requests, and the caller hangs up."""
    invite = await dave.client.request("INVITE")
    assert invite.from_.uri == GROUP.encode()
    assert invite.addresses("contact")[0].uri.startswith(GROUP.encode() + b";gr=")
    assert invite.call_id.endswith(b"@a.example")
    assert b"o=support 1 1 IN IP4 a.example\r\ns=-\r\nc=IN" in invite.body
    dave.accept(invite)
    answered = await speaker.client.response()
    assert (answered.status, answered.call_id, answered.get("from")) == (200, sent.call_id, sent.get("from"))
    speaker.client.send(caller_side("ACK", answered, speaker, sent.cseq.number, sent))
    ack = await dave.client.request("ACK")
    speaker.client.send(caller_side("INFO", answered, speaker, sent.cseq.number + 1, sent))
    info = await dave.client.request("INFO")
    assert (info.from_.uri, info.call_id) == (GROUP.encode(), invite.call_id)
    dave.client.send(answer(info, 200))
    assert (await speaker.client.response()).get("from") == sent.get("from")
    dave.client.send(callee_side("UPDATE", invite, dave, 1))
    update = await speaker.client.request("UPDATE")
    assert (update.uri.decode(), update.call_id) == (speaker.contact, sent.call_id)
    speaker.client.send(answer(update, 200, speaker.contact))
    updated = await dave.client.response()
    assert (updated.status, updated.call_id) == (200, invite.call_id)
    speaker.client.send(caller_side("BYE", answered, speaker, sent.cseq.number + 2, sent))
    bye = await dave.client.request("BYE")
    dave.client.send(answer(bye, 200))
    assert (await speaker.client.response()).status == 200
    nowhere(speaker.user, middle, invite, ack, info, updated, bye)


@pytest.mark.parametrize("level", ["medium", "heavy"])
@pytest.mark.parametrize("by", ["From", "account"])
def test_a_member_calls(tmp_path: Path, by: str, level: str) -> None:
    """As the group because its phone says so, or because its account does."""

    async def work() -> None:
        async with grouped(tmp_path, level=level) as (left, right, middle):
            carol, dave = await Speaker.of(left, "carol"), await Speaker.of(right, "dave")
            if by == "account":
                store = Store(load(left.folder / "wisp.toml").store_url)
                await store.open()
                assert await set_account(store, "carol", signer="support")
                await store.close()
                await left.neighbour._accounts.refresh()
            sent = await carol.call("sip:dave@b.example", as_="support" if by == "From" else "")
            if level == "heavy":
                invite = await dave.client.request("INVITE")
                assert invite.get("security-status") == HEAVY % (b"support@a.example", b"a.example")
                dave.accept(invite)
                assert (await carol.client.response()).get("security-status") == HEAVY % (
                    b"dave@b.example",
                    b"b.example",
                )
                nowhere("carol", middle, invite)
            else:
                await talk(carol, dave, sent, middle)

    run(work)


@pytest.mark.parametrize("level", ["medium", "heavy"])
def test_a_call_to_the_group(tmp_path: Path, level: str) -> None:
    """All members ring; the one who answers is the group to the caller, now and in all that follows."""

    async def work() -> None:
        async with grouped(tmp_path, level=level) as (left, right, middle):
            carol, erin = await Speaker.of(left, "carol"), await Speaker.of(left, "erin")
            dave = await Speaker.of(right, "dave")
            # Dave's neighbour reaches a.example directly: what passes there is seen by what Dave gets.
            sent = await dave_calls(dave, GROUP)
            invites = [await one.client.request("INVITE") for one in (carol, erin)]
            carol.client.send(answer(invites[0], 180))
            assert (await dave.client.response(provisional=True)).status == 180
            erin.accept(invites[1])
            cancelled = await carol.client.request("CANCEL")
            carol.client.send(answer(cancelled, 200))
            carol.client.send(answer(invites[0], 487))
            answered = await dave.client.response()
            assert answered.status == 200
            assert answered.addresses("contact")[0].uri.startswith(GROUP.encode() + b";gr=")
            assert b"o=support 1 1 IN IP4 a.example" in answered.body
            if level == "heavy":
                assert answered.get("security-status") == HEAVY % (b"support@a.example", b"a.example")
            dave.client.send(in_dialog("ACK", answered, dave.contact, sent.cseq.number, sent))
            assert (await erin.client.request("ACK")).uri.decode() == erin.contact
            erin.client.send(callee_side("INFO", invites[1], erin, 1))
            info = await dave.client.request("INFO")
            assert (info.from_.uri, info.call_id) == (GROUP.encode(), sent.call_id)
            dave.client.send(answer(info, 200))
            assert (await erin.client.response()).status == 200
            dave.client.send(in_dialog("BYE", answered, dave.contact, sent.cseq.number + 1, sent))
            bye = await erin.client.request("BYE")
            assert bye.uri.decode() == erin.contact
            erin.client.send(answer(bye, 200))
            ended = await dave.client.response()
            assert ended.status == 200
            nowhere("erin", middle, answered, info, ended)

    run(work)


async def dave_calls(dave: Speaker, target: str) -> Request:
    made = request(
        "INVITE", target, "dave", "b.example", contact=dave.contact, body=offer("dave"), call_id="1@dave.lan",
        headers=(("Content-Type", "application/sdp"),),
    )  # fmt: skip
    dave.client.send(made)
    challenged = await dave.client.response()
    dave.client.send(ack_for(made, challenged))
    again = signed(made, challenged, "dave", "secret")
    dave.client.send(again)
    return again


def test_hunting(tmp_path: Path) -> None:
    """One member after the other, in the order of the configuration."""

    async def work() -> None:
        async with grouped(tmp_path, mode="hunt") as (left, right, _):
            carol, erin = await Speaker.of(left, "carol"), await Speaker.of(left, "erin")
            dave = await Speaker.of(right, "dave")
            await dave_calls(dave, GROUP)
            invite = await carol.client.request("INVITE")
            await erin.client.silence(0.2)
            carol.client.send(answer(invite, 486))
            erin.accept(await erin.client.request("INVITE"))
            assert (await dave.client.response()).status == 200

    run(work)


def test_who_is_no_member(tmp_path: Path) -> None:
    """Nobody else speaks as the group: not with their own credentials, and not in a frame."""

    async def work() -> None:
        async with grouped(tmp_path) as (left, right, _):
            mallory, dave = await Speaker.of(left, "mallory"), await Speaker.of(right, "dave")
            made = request("INVITE", "sip:dave@b.example", "support", contact=mallory.contact)
            mallory.client.send(made)
            for _ in range(2):
                challenged = await mallory.client.response()
                assert challenged.status == 407
                mallory.client.send(ack_for(made, challenged))
                made = signed(made, challenged, "mallory", "secret")
                mallory.client.send(made)
            assert (await mallory.client.response()).status == 407
            await left.add("zoe", terminal=True)
            zoe = await Hopper.open(left)
            assert isinstance(zoe, Hopper)
            await zoe.join(left, "zoe")
            zoe.send_frame(request("INVITE", "sip:dave@b.example", "support", contact=zoe.contact))
            refused = await zoe.framed_final()
            assert refused.status == 403
            assert b"From is not sip:zoe@a.example" in (refused.get("warning") or b"")
            await dave.client.silence(0.2)

    run(work)


def test_a_terminal_as_the_group(tmp_path: Path) -> None:
    async def work() -> None:
        async with grouped(tmp_path) as (left, right, middle):
            await left.add("alice", terminal=True)
            alice = await Hopper.open(left)
            assert isinstance(alice, Hopper)
            await alice.join(left, "alice")
            dave = await Speaker.of(right, "dave")
            made = request("MESSAGE", "sip:dave@b.example", "support", body=b"hello", call_id="1@alice")
            alice.send_frame(made)
            got = await dave.client.request("MESSAGE")
            assert (got.from_.uri, got.body) == (GROUP.encode(), b"hello")
            dave.client.send(answer(got, 200))
            done = await alice.framed_final()
            assert (done.status, done.call_id) == (200, b"1@alice")
            nowhere("alice", middle, got)
            await dave_calls(dave, GROUP)
            invite = await alice.framed()
            assert isinstance(invite, Request)
            assert invite.to.uri == GROUP.encode()

    run(work)


def test_nobody_is_there(tmp_path: Path) -> None:
    async def work() -> None:
        async with grouped(tmp_path) as (_, right, _):
            dave = await Speaker.of(right, "dave")
            await dave_calls(dave, GROUP)
            assert (await dave.client.response()).status == 480

    run(work)


def test_a_contact_of_the_group_begins_no_call_to_a_member(tmp_path: Path) -> None:
    """Out of a dialog it is the group that is called, not the member behind it; a forged one leads nowhere."""

    async def work() -> None:
        async with grouped(tmp_path) as (left, right, _):
            carol, erin = await Speaker.of(left, "carol"), await Speaker.of(left, "erin")
            dave = await Speaker.of(right, "dave")
            await carol.call("sip:dave@b.example", as_="support")
            contact = (await dave.client.request("INVITE")).addresses("contact")[0].uri.decode()
            dave2 = await Speaker.of(right, "dave", add=False)
            for target in (contact, contact[:-4] + "AAAA"):
                await dave_calls(dave2, target)
                for one in (carol, erin):
                    one.client.send(answer(await one.client.request("INVITE"), 486))
                assert (await dave2.client.response()).status == 486
                break  # the Call-ID of `dave_calls` is one and the same

    run(work)


ORIGINS = (
    b"v=0\no=carol 1 1 IN IP4 carol.lan\ns=carol\nc=IN IP4 192.0.2.1\n",
    b"v=0\ro=carol 1 1 IN IP4 carol.lan\rs=carol\r",
    b"v=0\r\no=carol king 1 1 IN IP4 carol.lan\r\ns=-\r\n",
    b"v=0\r\no=x carol king\r\ns=-\r\n",
    b"v=0\r\no=carol\r\n",
    b"v=0\r\nm=audio 1 RTP/AVP 0\r\na=ssrc:1234 cname:sip:carol@a.example\r\n",
)
TYPES = ("application/sdp", "Application/SDP", "multipart/mixed", "multipart/alternative", "multipart/related;type=x")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("body", ORIGINS)
def test_descriptions_that_are_not_as_they_should_be(tmp_path: Path, body: bytes, kind: str) -> None:
    lab = Lab(tmp_path)
    lab.make_domains("a.example")
    path = tmp_path / "a.example" / "wisp.toml"
    path.write_text(
        path.read_text().replace("[metrics]", f'[[group]]\nuri = "{GROUP}"\nmembers = ["carol"]\n\n[metrics]')
    )
    made = request("INVITE", "sip:dave@b.example", "carol", contact="sip:carol@192.0.2.1", call_id="1@carol.lan")
    made.add("Diversion", b"<sip:carol@192.0.2.1>")
    if kind.startswith("multipart"):
        kind += ";boundary=b"
        body = b"--b\r\nContent-Type: application/sdp\r\nContent-ID: <1>\r\n\r\n" + body + b"\r\n--b--\r\n"
    made.set_body(kind.encode(), body)
    Groups(load(path), bytes(32)).disguise(made, Member("carol", "support", began=True))
    assert b"carol" not in made.serialize().lower()
    assert b"v=0\r\n" in made.body
    assert (b"Content-Id: <1>" in made.body) == ("multipart" in kind)
    assert ("related" in kind) == (b"type=" in (made.get("content-type") or b"").replace(b"Content-Type", b""))


def test_the_level_of_a_member(tmp_path: Path) -> None:
    """Who is called by the group's name gets nothing that it would not get by its own."""

    async def work() -> None:
        async with grouped(tmp_path, level="medium") as (left, right, _):
            carol = await Phone.open(left, "carol", level="heavy")
            erin = await Phone.open(left, "erin")
            dave = await Phone.open(right, "dave")
            await dave.send("INVITE", GROUP, offer("dave"))
            erin.client.send(answer(await erin.client.request("INVITE"), 486))
            assert (await dave.client.response()).status in (486, 488)
            await carol.client.silence(0.2)

    run(work)


@pytest.mark.parametrize("by", ["From", "signer"])
def test_a_member_that_has_lost_the_way(tmp_path: Path, by: str) -> None:
    """Without a cookie nobody knows what the others know the sender as; they do not learn who it is, in any case."""

    async def work() -> None:
        async with grouped(tmp_path, level="heavy") as (left, right, middle):
            carol = await Speaker.of(left, "carol")
            dave = await Speaker.of(right, "dave")
            phone = Phone(left, "carol", carol.client)
            if by == "signer":
                await phone.set(signer="support")
            sent = await carol.call("sip:dave@b.example", as_="support" if by == "From" else "")
            dave.accept(await dave.client.request("INVITE"))
            answered = await carol.client.response()
            made = in_dialog("INFO", answered, carol.contact, 9, sent)
            made.fields = [field for field in made.fields if field[0] != "route"]
            made.uri = b"sip:dave@b.example"
            made.set_body(b"text/plain", b"x")
            await phone.send_made(made)
            info = await dave.client.request("INFO")
            assert (info.from_.uri, info.body) == (GROUP.encode(), b"x")
            nowhere("carol", middle, info)

    run(work)


def test_what_a_member_writes_stays_its_own(tmp_path: Path) -> None:
    """To have spoken as the group changes nothing of what the member's Contact means the next time: as itself, as the
    group again, and when it registers."""

    async def work() -> None:
        async with grouped(tmp_path) as (left, right, _):
            carol, dave = await Speaker.of(left, "carol"), await Speaker.of(right, "dave")
            seen = []
            for as_ in ("support", "", "support"):
                await carol.call("sip:dave@b.example", as_=as_)
                invite = await dave.client.request("INVITE")
                seen.append(invite.addresses("contact")[0].uri)
                dave.client.send(answer(invite, 486))
                assert (await carol.client.response()).status == 486
            assert seen[0] == seen[2]
            assert seen[1].decode() == carol.contact
            made = request("REGISTER", "sip:a.example", "carol", to="sip:carol@a.example", contact=carol.contact)
            registered = await carol.client.ask_signed(made, "carol")
            assert [one.uri.decode() for one in registered.addresses("contact")] == [carol.contact]

    run(work)
