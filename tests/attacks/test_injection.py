"""CRLF injection: the text of one party in what another party reads, at every place where the project copies text.

from                                       into
-----------------------------------------  ------------------------------------------------------------
Via, From, To, Call-ID, CSeq               every answer                          test_what_answers_repeat
Require, Proxy-Require                     Unsupported                           test_what_answers_repeat
user, host and parameters of URIs          requests, Warning, the log            test_escapes_in_uris
Contact of a REGISTER                      its 200, Request-URIs                 test_contacts
Contact of a 3xx                           Request-URIs                          test_redirections
display name, Subject, reason phrase       the other party's messages            test_what_is_passed_on
cnonce                                     Authentication-Info                   test_a_cnonce
names in a peer's certificate              Warning, the log                      test_names_in_a_certificate
what a name server says                    Warning, the log                      test_answers_of_a_name_server
the configuration, names of accounts       Via, Record-Route, challenges         test_the_configuration, test_accounts
anything                                   log lines, console and JSON           test_the_log
methods, statuses, domains                 labels of counters                    test_the_counters
anything                                   a terminal's lines of JSON            test_the_events_of_a_terminal
a terminal's configuration and commands    its requests                          test_the_commands_of_a_terminal
"""

import asyncio
import contextlib
import json
import socket
import ssl
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.parser import text_string_to_metric_families
from sip import UdpClient, answer, call, domain, phones, request, run, signed

from attacks.attack import betrayed, drain, forged, good_call, text
from attacks.test_smuggling import authorized
from lab.lab import Lab
from neighbour.cli import run_command
from neighbour.config import ConfigError, load
from neighbour.refusal import warning
from sipwire.errors import ParseError
from sipwire.message import Request, Response, parse
from sipwire.transaction import ack_for

#: What is injected: a header that must never be one.
EVIL = b"\r\nEvil: yes"
KEYS = {"evil", "p-asserted-identity"}


def clean(message: "Request | Response | bytes") -> "Request | Response":
    """A message that has no header of the attacker's: read from its bytes, as a stranger would."""
    data = message if isinstance(message, bytes) else message.serialize()
    head = data.partition(b"\r\n\r\n")[0]
    assert head.count(b"\r") == head.count(b"\n") == head.count(b"\r\n"), head
    for line in head.split(b"\r\n")[1:]:
        assert line[:1] in b" \t" or line.partition(b":")[0].strip().lower() not in (b"evil", b"p-asserted-identity"), (
            head
        )
    read = parse(data)
    assert not KEYS & {key for key, _ in read.fields}
    return read


def clean_lines(data: bytes) -> None:
    """The same of what may repeat a malformed value, as an answer to it does, and be no good message therefore."""
    with contextlib.suppress(ParseError):
        clean(data)


def test_what_answers_repeat(tmp_path: Path) -> None:
    """An answer repeats Via, From, To, Call-ID and CSeq, and names the extensions that we do not know.

    Stopped: a lone CR or LF makes the whole message none; a line end with white space behind it is a fold, and stays one.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            stranger = await UdpClient.open(at)
            for end in ("\r\n", "\r\n ", "\r\n\t", "\n", "\r", "\n ", "\\\r\n", "%0d%0a", "\x0b", "\x85"):
                for kind in ("via", "from_", "to", "more"):
                    value = {
                        "via": f"SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx{len(end)}{ord(end[0])};rport;x=y{end}Evil: yes",
                        "from_": f'"Carol{end}Evil: yes" <sip:carol@a.example>;tag=f',
                        "to": f"<sip:dave@a.example>;x=y{end}Evil: yes",
                        "more": f"Proxy-Require: x{end}Evil: yes\r\n",
                    }[kind]
                    stranger.send_raw(text(**{kind: value}))
                    for data in await drain(stranger, seconds=0.02):
                        if end == "\r\n":
                            # It is a header of the request then; answers have none of it.
                            assert b"\r\nEvil" not in data
                        clean_lines(data)
            await good_call(carol, dave)

    run(work)


def test_escapes_in_uris(tmp_path: Path) -> None:
    """``sip:dave%0d%0aEvil:%20yes@a.example``: undone once too often, it is two lines.

    Stopped: URIs stay as they were written; where a user is looked up by an undone name, what can't stand in a user is
    not undone.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            escaped = "%0d%0aEvil:%20yes"
            for uri in (
                f"sip:dave{escaped}@a.example",
                "sip:dave%0D%0A@a.example",
                f"sip:{escaped}@a.example",
                f"sip:dave@a.example;x={escaped}",
                f"sip:dave@b.example;x={escaped}",
                f"sip:dave{escaped}@b.example",
                f"sip:dave@b.example{escaped}",
                f"sip:dave@[::1]{escaped}",
                f"tel:{escaped}",
            ):
                made = request("MESSAGE", uri, "carol")
                carol.send(made)
                challenged = clean(await carol.raw())
                assert isinstance(challenged, Response)
                if challenged.status == 407:
                    carol.send(signed(made, challenged, "carol", "secret"))
                    await asyncio.sleep(0.05)
                    for data in await drain(dave):
                        got = clean(data)
                        assert isinstance(got, Request)
                        dave.send(got.response(404, "No"))
                    answered = clean(await carol.raw())
                    assert isinstance(answered, Response)
                    assert answered.status in (403, 404, 416, 500, 503), uri
                else:
                    assert challenged.status in (400, 403, 404, 416), uri
            # As the sender.
            for user in (f"carol{escaped}", escaped, "carol%00"):
                made = request("MESSAGE", "sip:dave@a.example", user)
                assert clean((await carol.ask(made)).serialize()).start_line().split(b" ")[1] == b"407"
                register = request(
                    "REGISTER", "sip:a.example", "carol", to=f"sip:{user}@a.example", contact=carol.contact
                )
                refused = clean((await carol.ask(register)).serialize())
                assert isinstance(refused, Response)
                if refused.status == 401:
                    refused = await carol.ask(signed(register, refused, "carol", "secret"))
                assert refused.status in (401, 403, 404)
            assert await drain(dave) == []
            await good_call(carol, dave)

    run(work)


def test_contacts(tmp_path: Path) -> None:
    """A Contact is repeated in the 200 to its REGISTER, kept in the store, and becomes the Request-URI of others' calls.

    Stopped: white space can't stand in a URI, so that no fold gets in; escapes stay escapes; and it has a limit.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            await at.add("mallory")
            mallory = await UdpClient.open(at)
            here = mallory.contact
            cases = {
                f"<{here};x=y\r\n Evil: yes>": 400,
                f"<{here}\r\n\tEvil: yes>": 400,
                f"<{here};x=y Evil: yes>": 400,
                f'<{here};x="y>\r\n Evil: yes"': 400,
                f"<{here};x=%0d%0aEvil:%20yes>": 200,
                f'"Mallory\r\n Evil: yes" <{here}>': 200,
                f"<{here}>;q=0.5\r\n Evil: yes": 400,
                f"<{here}?Evil=yes%0d%0a>": None,
            }
            for number, (contact, status) in enumerate(cases.items()):
                made = request(
                    "REGISTER",
                    "sip:a.example",
                    "mallory",
                    to="sip:mallory@a.example",
                    contact=here,
                    cseq=10 * number + 1,
                )
                again = signed(made, await mallory.ask(made), "mallory", "secret")
                again.insert("Via", f"SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKreg{number};rport".encode())
                mallory.send_raw(forged(again, b"<%s>" % here.encode(), contact.encode()))
                answered = clean(await mallory.raw())
                assert isinstance(answered, Response)
                assert status is None or answered.status == status, contact
                if answered.status == 200:
                    invite = await call(carol, "carol", "sip:mallory@a.example")
                    for data in await drain(mallory, seconds=0.1):
                        got = clean(data)
                        assert isinstance(got, Request)
                        assert got.start_line().count(b" ") == 2
                        mallory.send(answer(got, 486))
                    ended = await carol.response()
                    carol.send(ack_for(invite, ended))
                    await drain(mallory, carol)
            await good_call(carol, dave)

    run(work)


def test_redirections(tmp_path: Path) -> None:
    """A 302 names the next Request-URI."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            (mallory,) = await phones(at, "mallory")
            for contact in (
                "<sip:dave@a.example;x=%0d%0aEvil:%20yes>",
                "<sip:dave%0d%0aEvil:%20yes@a.example>",
                "<sip:dave@a.example;x=y\r\n Evil: yes>",
                '"x\r\n Evil: yes" <sip:dave@a.example>',
                "<sip:dave@a.example?Evil=yes>",
            ):
                invite = await call(carol, "carol", "sip:mallory@a.example")
                moved = answer(await mallory.request("INVITE"), 302)
                moved.add("Contact", contact.encode())
                mallory.send(moved)
                await asyncio.sleep(0.1)
                for data in await drain(dave):
                    got = clean(data)
                    if isinstance(got, Request) and got.method == "INVITE":
                        assert got.start_line().count(b" ") == 2
                        dave.send(answer(got, 486))
                while True:
                    ended = clean(await carol.raw())
                    assert isinstance(ended, Response)
                    if ended.status >= 200:
                        break
                carol.send(ack_for(invite, ended))
                await drain(carol, dave, mallory)
            await good_call(carol, dave)

    run(work)


def test_what_is_passed_on(tmp_path: Path) -> None:
    """Display names, subjects and reason phrases go from end to end; their lines end where they ended."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            for value in (
                b'"\\\r\n Evil: yes"',
                b'"Carol %0d%0aEvil: yes"',
                b'"\\\x0d"',
                b'"\x00\x1b[2J"',
                b'"\xe2\x80\xa8Evil: yes"',
            ):
                made = await authorized(carol, request("MESSAGE", "sip:dave@a.example", "carol"))
                carol.send_raw(forged(made, b"From: ", b"From: " + value + b" "))
                for data in await drain(dave, seconds=0.1):
                    got = clean(data)
                    assert isinstance(got, Request)
                    dave.send(got.response(200, "OK"))
                for data in await drain(carol, seconds=0.1):
                    clean(data)
            for reason in (
                b"OK\r\nEvil: yes",
                b"OK\rEvil: yes",
                b"OK\nEvil: yes",
                b"OK %0d%0aEvil: yes",
                b"\x1b[2J",
                b"\xe2\x80\xa8Evil",
            ):
                carol.send(await authorized(carol, request("MESSAGE", "sip:dave@a.example", "carol")))
                good = (await dave.request("MESSAGE")).response(200, "OK").serialize()
                dave.send_raw(good.replace(b"200 OK", b"200 " + reason, 1))
                for data in await drain(carol, seconds=0.1):
                    if reason != b"OK\r\nEvil: yes":  # that is a header of Dave's, who may write what he likes
                        clean(data)
                dave.send_raw(good)
                await drain(carol)
            await good_call(carol, dave)

    run(work)


def test_a_cnonce(tmp_path: Path) -> None:
    """The cnonce of credentials is repeated in Authentication-Info: quotes in it stay in it."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            made = request("REGISTER", "sip:a.example", "carol", to="sip:carol@a.example", contact=carol.contact)
            challenged = await carol.ask(made)
            from sipwire.digest import authenticate, choose, ha1
            from sipwire.grammar import get_param, parse_params, split_list

            challenge = choose(challenged.get_all("www-authenticate"), b"a.example")
            assert challenge is not None
            secret = ha1(b"carol", b"a.example", b"secret")
            cnonce = b'x", rspauth="forged\\'
            again = Request(made.method, made.uri)
            again.fields = [field for field in made.fields if field[0] != "via"]
            again.set("CSeq", b"2 REGISTER")
            again.add(
                "Authorization", authenticate(challenge, b"carol", secret, "REGISTER", made.uri, cnonce).serialize()
            )
            ok = await carol.ask(again)
            assert ok.status == 200
            params = parse_params(split_list(ok.get("authentication-info") or b"", b","))
            assert [name for name, _ in params].count(b"rspauth") == 1
            assert get_param(params, "cnonce") == cnonce
            await good_call(carol, dave)

    run(work)


def _evil_certificate(lab: Lab, names: list[x509.GeneralName]) -> ssl.SSLContext:
    """A server with a certificate of the authority that everybody trusts, and names that nobody should."""
    ca = next(path for path in (lab.folder / "ca").glob("*.key") if "root" not in path.name)
    key = serialization.load_pem_private_key(ca.read_bytes(), None)
    issuers = x509.load_pem_x509_certificates(ca.with_suffix(".pem").read_bytes())
    issuer = next(one for one in issuers if one.public_key() == key.public_key())
    own = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "evil")]))
        .issuer_name(issuer.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    folder = lab.folder / "evil"
    folder.mkdir(exist_ok=True)
    chain = [certificate, *issuers]
    (folder / "c.pem").write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain))
    (folder / "c.key").write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "c.pem", folder / "c.key")
    return context


def test_names_in_a_certificate(tmp_path: Path) -> None:
    """Whoever is called has a good certificate with a name like ``x\\r\\nEvil: yes``; the Warning tells whose it is.

    Stopped: a DNS name that is none is no name, and a Warning is one line whatever stands in it.
    """

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    peer = f'[[peer]]\ndomain = "evil.example"\naddress = "127.0.0.1:{port}"'

    async def work() -> None:
        async with domain(tmp_path, peers=f"[metrics]|{peer}\n\n[metrics]") as at:
            names = [
                x509.DNSName("x\r\nEvil: yes"),
                x509.DNSName('x", 399 a.example "forged'),
                x509.DNSName("good.example"),
            ]
            context = _evil_certificate(at.lab, names)
            server = await asyncio.start_server(lambda _r, w: w.close(), sock=listening, ssl=context)
            carol, dave = await phones(at, "carol", "dave")
            made = request("MESSAGE", "sip:x@evil.example", "carol")
            carol.send(signed(made, await carol.ask(made), "carol", "secret"))
            refused = clean(await carol.raw(10))
            assert isinstance(refused, Response)
            assert refused.status == 503
            assert refused.get_all("warning") == [
                b'399 a.example "trunk to evil.example: certificate is of good.example, not of evil.example"'
            ]
            server.close()
            await good_call(carol, dave)

    run(work)
    assert warning("a.example", "x\r\nEvil: yes")[1].count(b"\n") == 0


@pytest.mark.parametrize(
    "old_new",
    [
        ('domain = "a.example"', 'domain = "a.example\\r\\nEvil: yes"'),
        ('# advertise = "sip.a.example:5060"', 'advertise = "x\\r\\nEvil: yes:5060"'),
        ('# advertise = "sip.a.example:5060"', 'advertise = "x;branch=evil:5060"'),
        ('address = "127.0.0.1"', 'address = "127.0.0.1\\r\\nEvil: yes"'),
        ('address = "127.0.0.2:5061"', 'address = "x\\r\\n:5061"'),
        ('domain = "b.example"', 'domain = "b.example\\n"'),
    ],
)
def test_the_configuration(tmp_path: Path, old_new: tuple[str, str]) -> None:
    """Its names go into Via, Record-Route, realms and Warnings: what is no host name is a mistake, told with its line."""
    import neighbour.config

    sample = (Path(neighbour.config.__file__).parent / "sample.toml").read_text()
    assert old_new[0] in sample
    path = tmp_path / "wisp.toml"
    path.write_text(sample.replace(*old_new, 1))
    with pytest.raises(ConfigError, match=r"wisp\.toml:\d+: "):
        load(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("alice\r\nEvil: yes", "--phone"),
        ("alice\n", "--phone"),
        ("alice%0d%0a", "--phone"),
        ("", "--phone"),
        ("alice", "--phone", "--auth-user", "x\r\nEvil: yes"),
        ("alice", "--auth-user", 'x", realm="b.example'),
        ("alice", "--auth-user", "x:y"),
        ("alice", "--auth-user", "x\x7f"),
    ],
)
def test_accounts(tmp_path: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Names of accounts go into addresses, challenges and a terminal's credentials."""
    lab = Lab(tmp_path)
    lab.make_domains("a.example")
    folder = str(lab.configuration("a.example"))
    with pytest.raises(SystemExit) as ended:
        run_command("account", "add", *arguments, "--config", folder)
    assert ended.value.code == 2
    assert "\r" not in capsys.readouterr().err
    capsys.readouterr()
    run_command("account", "list", "--config", folder)
    assert "alice" not in capsys.readouterr().out


#: What would be lines, colours or a cleared screen in a log.
NASTY = ["\x1b[2J\x1b[31m", "\x07", "\x00", "\x7f", "\x85", "\u2028", "\u202e", "\x0b", "\x0c"]


@pytest.mark.parametrize("kind", ["console", "json"])
def test_the_log(tmp_path: Path, kind: str) -> None:
    """Request lines, names, Call-IDs and CSeqs of strangers stand in the log: one event is one line, without commands.

    The attacker wants lines that were never logged, or the terminal of whoever looks at it.
    """
    lab = Lab(tmp_path / "lab")
    address = lab.make_domains("a.example")["a.example"]
    lab.change("a.example", 'format = "json"', f'format = "{kind}"')
    folder = lab.folder / "a.example"
    process = lab.start_neighbour("a.example") if kind == "json" else None
    if process is None:
        from lab.processes import Neighbour

        process = lab.start(Neighbour, folder, "a.example")
        process.wait_until(lambda: "ready" in (folder / "neighbour.log").read_text(), "ready", 20)
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((lab.next_address(), 0))
        fake = "2026-11-21 00:00:00 [info     ] registered user=ceo"
        for nasty in NASTY:
            raw = nasty.encode().decode("latin-1")
            for data in (
                text("OPTIONS", f"sip:a.example;x={raw}{fake.replace(' ', '')}"),
                text(uri=f"sip:dave{raw}@a.example"),
                text(from_=f'"{raw}" <sip:carol@a.example>;tag={raw}x'),
                text().replace(b"Call-ID: ", f"Call-ID: {raw}".encode("latin-1")),
                text().replace(b"MESSAGE sip", f"MES{raw} sip".encode("latin-1")),
                text("REGISTER", "sip:a.example", to=f"<sip:c%0aarol{raw}@a.example>"),
            ):
                sock.sendto(data, (address, 5060))
        sock.sendto(text(to="<sip:last@a.example>").replace(b"Call-ID: ", b"Call-ID: the-last-one"), (address, 5060))
        process.wait_until(lambda: "the-last-one" in (folder / "neighbour.log").read_text(), "the last one", 10)
        sock.close()
    finally:
        lab.stop()
    raw_log = (folder / "neighbour.log").read_bytes()
    shown = raw_log.decode()
    for nasty in NASTY:
        assert nasty not in shown, repr(nasty)
    assert not any(ord(char) < 32 and char != "\n" for char in shown)
    lines = shown.splitlines()
    assert len(lines) == raw_log.count(b"\n")
    assert not any(line.startswith("2026-11-21 00:00:00") for line in lines)
    if kind == "json":
        assert all(json.loads(line)["event"] for line in lines)
    assert len([line for line in lines if "OPTIONS" in line]) >= len(NASTY) - 2


def test_the_counters(tmp_path: Path) -> None:
    """Methods, domains and statuses are labels of counters, which others read by HTTP."""

    async def work() -> None:
        listen = "127.0.0.1:0"
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            listen = f"127.0.0.1:{sock.getsockname()[1]}"
        async with domain(tmp_path, metrics=f'# listen = "127.0.0.1:9464"|listen = "{listen}"') as at:
            carol, dave = await phones(at, "carol", "dave")
            for method, host in (
                ("EVIL'`!%", "b.example"),
                ("MESSAGE", "x-y.b-" + "z" * 60 + ".example"),
                ("MESSAGE", "1.2.3.4"),
                ("MESSAGE", "-"),
                ("MESSAGE", "x_y"),
                ("MESSAGE", 'x"}'),
                ("MESSAGE", "x%0a"),
            ):
                made = request(method, f"sip:dave@{host}", "carol")
                carol.send(made)
                for data in await drain(carol):
                    if data.startswith(b"SIP/2.0 407 "):
                        challenged = parse(data)
                        assert isinstance(challenged, Response)
                        await carol.ask(signed(made, challenged, "carol", "secret"))
            made = request("EVIL'`!%", "sip:dave@a.example", "carol")
            task = asyncio.create_task(carol.ask_signed(made, "carol"))
            got = await dave.request()
            dave.send_raw(got.response(299, "x").serialize())
            assert (await task).status == 299
            shown = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{listen}/metrics").read().decode())
            for line in shown.splitlines():
                assert (
                    line.startswith("# ")
                    or line.rpartition(" ")[2].replace(".", "").replace("e+", "").replace("e-", "").isalnum()
                ), line
            values = {}
            for family in text_string_to_metric_families(shown):
                for sample in family.samples:
                    for name, value in sample.labels.items():
                        assert value.isprintable()
                        values.setdefault(name, set()).add(value)
            assert not any("EVIL" in value for found in values.values() for value in found)
            assert values["method"] <= {"MESSAGE", "INVITE", "OPTIONS", "REGISTER", "other", "ACK", "BYE"}
            await good_call(carol, dave)

    run(work)


def test_the_events_of_a_terminal(lab: Lab) -> None:
    """A terminal tells of calls in lines of JSON: who calls is told in their own words, in one line all the same."""
    rogue, alice = betrayed(lab)
    fake = '{"event": "incoming", "peer": "sip:ceo@a.example"}'
    rings = 0
    for from_ in (
        f'"x\\"}}%0a{fake.replace(chr(34), "")}" <sip:bob@b.example>;tag=b',
        '"\x1b[2J\x00\x7f" <sip:bob@b.example>;tag=b',
        '"\xe2\x80\xa8\xc2\x85" <sip:bob@b.example>;tag=b',
        '"\xff\xfe" <sip:bob@b.example>;tag=b',
        "<sip:bob%0a%22%7d@b.example>;tag=b",
        "<sip:bob@b.example;x=\x1b>;tag=b",
        '"a\r\n b" <sip:bob@b.example>;tag=b',
        "Bob\\ <sip:bob@b.example>;tag=b",
        "<tel:+1\x08\x08\x08>;tag=b",
    ):
        since = len(alice.lines)
        statuses = rogue.status_of(rogue.invite(from_=from_), 0.3)
        if 180 not in statuses:
            assert statuses in ([400], [])
            continue
        rings += 1
        alice.wait_for("incoming", 5, since=since)
        alice.send("hangup")
        alice.wait_for("ended", 5, since=since)
        for one in rogue.answers(0.2):
            if isinstance(one, Response) and one.status >= 300:
                rogue._ack(one)
    assert rings >= 5
    alice.read()
    raw = alice.output.read_bytes()
    assert not any(byte < 32 and byte != 10 for byte in raw), raw
    for line in raw.split(b"\n"):
        if line:
            event = json.loads(line)
            assert not (event["event"] == "incoming" and "ceo" in event["peer"])
    assert 180 in rogue.status_of(rogue.invite(), 0.5)
    rogue.close()


def test_the_commands_of_a_terminal(lab: Lab) -> None:
    """What is typed into a terminal, or stands in its configuration, goes into its requests."""
    rogue, alice = betrayed(lab)
    for target in (
        "sip:bob@b.example\rEvil: yes",
        "sip:bob@b.example\tx",
        "sip:bob@b.example>\r",
        "sip:b%0d%0aEvil:%20yes@b.example",
        '"x" <sip:y>',
    ):
        since = len(alice.lines)
        alice.send(f"call {target}")
        found = rogue.answers(0.3)
        for one in found:
            clean(one)
            if isinstance(one, Request) and one.method == "INVITE":
                rogue.send(one.response(486, "Busy Here", b"x").serialize())
        rogue.answers(0.1)
        alice.wait_until(lambda since=since: alice.lines[since:], "an answer to the command", 5)
    rogue.close()
    alice.stop()
    path = alice.output.with_suffix(".json")
    values = json.loads(path.read_text())
    for key, value in (
        ("display_name", "x\r\nEvil: yes"),
        ("auth_user", "alice\r\nEvil: yes"),
        ("user", "alice\r\nEvil: yes"),
        ("domain", "a.example\r\n"),
        ("user", "alice@b.example>"),
    ):
        path.write_text(json.dumps({**values, key: value}))
        path.with_suffix(".events").unlink()
        bad = lab.start_terminal(path)
        bad.wait_until(lambda bad=bad: not bad.is_running or bad.lines, "its end", 10)
        assert "registered" not in bad.output.read_text()
        assert not bad.is_running or bad.wait_until(lambda bad=bad: not bad.is_running, "its end", 5)
