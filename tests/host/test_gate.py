"""Digest as RFC 3261 section 22, RFC 7616 and RFC 8760 have it, against a neighbour that runs."""

from hashlib import sha256
from pathlib import Path

import pytest
from sip import Domain, UdpClient, answer, call, domain, phones, request, run
from structlog.testing import capture_logs

from neighbour.refusal import warning
from sipwire.digest import MD5, SHA256, Challenge, Credentials, authenticate, ha1
from sipwire.message import Request, Response

REALM = b"a.example"
HASH = sha256(b"carol:a.example").hexdigest().encode()


def message(to: str = "sip:nobody@a.example", user: str = "carol", body: bytes = b"") -> Request:
    return request("MESSAGE", to, user, body=body)


def challenge_of(response: Response) -> Challenge:
    assert response.status in (401, 407), response.start_line()
    name = "www-authenticate" if response.status == 401 else "proxy-authenticate"
    assert len(response.get_all(name)) == 1, "phones look at the first only"
    return Challenge.parse(response.get_all(name)[0])


def credentials_of(
    challenge: Challenge, made: Request, *, password: str = "secret", count: int = 1, **changes: bytes
) -> Credentials:
    """Credentials of Carol's, changed before they are computed."""
    secret = ha1(b"carol", REALM, password.encode(), changes.get("algorithm", SHA256).upper().replace(b"-SESS", b""))
    found = authenticate(challenge, b"carol", secret, made.method, made.uri, b"cn", count, made.body)
    for name, value in changes.items():
        setattr(found, name, value)
    found.response = found.compute(secret, made.method, made.body)
    return found


def again(made: Request, *values: bytes) -> Request:
    other = Request(made.method, made.uri)
    other.fields = [field for field in made.fields if field[0] not in ("via", "proxy-authorization", "authorization")]
    other.body = made.body
    for value in values:
        other.add("Authorization" if made.method == "REGISTER" else "Proxy-Authorization", value)
    return other


async def status_of(client: UdpClient, made: Request, *values: bytes) -> int:
    """404 is what who has got through is told: there is no such user."""
    return (await client.ask(again(made, *values))).status


async def carol_in(at: Domain) -> tuple[UdpClient, Request, Challenge]:
    (carol,) = await phones(at, "carol")
    made = message()
    return carol, made, challenge_of(await carol.ask(made))


# The challenge.


def test_one_challenge_in_one_algorithm(tmp_path: Path) -> None:
    """RFC 8760 section 2.4; and for a user whom there is not the same as for one whom there is."""

    async def work() -> None:
        async with domain(tmp_path, md5="# md5 = false|md5 = true") as at:
            carol, made, challenge = await carol_in(at)
            assert (challenge.algorithm, challenge.qop) == (SHA256, (b"auth", b"auth-int"))
            assert not challenge.stale
            nobody = await carol.ask(message(user="nobody"))
            known = await carol.ask(made)
            shapes = [
                [part.partition(b"=")[0] for part in one.get_all("proxy-authenticate")[0].split(b", ")]
                for one in (known, nobody)
            ]
            assert shapes[0] == shapes[1]
            await at.add("old", md5=True)
            old = challenge_of(await carol.ask(message(user="old")))
            assert (old.algorithm, old.qop) == (MD5, (b"auth",))

    run(work)


def test_stale_is_for_who_has_the_secret(tmp_path: Path) -> None:
    """RFC 7616 section 3.3: with stale the phone asks nobody for another password, without it that was wrong."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, made, challenge = await carol_in(at)
            nonces = at.neighbour._proxy._gate._nonces
            life_ms, nonces._life_ms = nonces._life_ms, -1
            for password, stale in (("secret", True), ("guess", False)):
                found = await carol.ask(again(made, credentials_of(challenge, made, password=password).serialize()))
                assert challenge_of(found).stale is stale
            nonces._life_ms = life_ms
            # A nonce of before a restart is too old, too.
            await at.stop()
            await at.start()
            for password, stale in (("secret", True), ("guess", False)):
                found = await carol.ask(again(made, credentials_of(challenge, made, password=password).serialize()))
                assert challenge_of(found).stale is stale
            # And what it is told then is good.
            found = await carol.ask(again(made, credentials_of(challenge, made).serialize()))
            assert await status_of(carol, made, credentials_of(challenge_of(found), made).serialize()) == 404
            # Somebody whom there is not has no secret.
            other = message(user="nobody")
            found = await carol.ask(again(other, credentials_of(challenge, other).serialize()))
            assert not challenge_of(found).stale

    run(work)


def test_what_was_taken_once_is_not_taken_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, made, challenge = await carol_in(at)
            for count, status in ((1, 404), (1, 407), (2, 404), (9, 404), (5, 404), (5, 407), (9, 407)):
                value = credentials_of(challenge, made, count=count).serialize()
                assert await status_of(carol, made, value) == status, count
            assert at.value("wisp_auth_total", result="replayed") == 3

    run(work)


def test_a_nonce_for_agreements_is_none_for_phones(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, made, challenge = await carol_in(at)
            challenge.nonce = at.neighbour._hops._nonces.make(b"hop")
            assert await status_of(carol, made, credentials_of(challenge, made).serialize()) == 407

    run(work)


# Credentials.


def test_credentials_that_do_not_do(tmp_path: Path) -> None:
    """All of them would be right for somebody less strict."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, made, challenge = await carol_in(at)

            def right(**changes: bytes) -> bytes:
                return credentials_of(challenge, made, **changes).serialize()

            cases = [
                ("qop left out: nothing says that it was not used before", right(qop=b""), 407),
                ("another algorithm", right(algorithm=MD5), 407),
                ("a session's algorithm", right(algorithm=b"SHA-256-sess"), 407),
                ("for another URI", right(uri=b"sip:dave@a.example"), 407),
                ("for another user", right(username=b"dave"), 407),
                ("of another realm", right(realm=b"A.example"), 407),
                ("of nobody's nonce", right(nonce=b"x" * 32), 407),
                ("a user name that is a hash, which we do not offer", right(username=HASH) + b", userhash=true", 407),
                ("a user name in another form", right().replace(b"username=", b"username*=UTF-8''"), 400),
                ("a user name in both forms", right() + b", username*=UTF-8''carol", 400),
                ("a parameter twice", right() + b', realm="a.example"', 400),
                ("no count", right().replace(b"nc=00000001", b"nc=1"), 400),
                ("no count in hex", right().replace(b"nc=00000001", b"nc=0000000g"), 400),
                ("quotes that do not end", right().replace(b'realm="a.example"', b'realm="a.example'), 400),
                ("nothing in it", b"Digest ", 407),
                ("no parameters", b"Digest x", 407),
                ("another scheme", b"Basic Y2Fyb2w6c2VjcmV0", 407),
                ("another scheme that looks like ours", b"DigestX " + right()[7:], 407),
            ]
            found = [(what, await status_of(carol, made, value)) for what, value, _ in cases]
            assert found == [(what, status) for what, _, status in cases]
            # None of them has used up the nonce, or done anything else.
            assert await status_of(carol, made, right()) == 404

    run(work)


def test_who_guesses_names_is_told_of_once(tmp_path: Path) -> None:
    """By where it is: each guess has another name."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await UdpClient.open(at)
            with capture_logs() as logs:
                for user in ("adam", "berta", "caesar", "dora"):
                    made = message(user=user)
                    challenge = challenge_of(await client.ask(made))
                    guess = authenticate(challenge, user.encode(), b"x" * 64, made.method, made.uri, b"cn", 1, b"")
                    assert await status_of(client, made, guess.serialize()) == 407
            said = [line for line in logs if line["event"] == "credentials refused"]
            assert [(line["log_level"], line["user"], line["known"]) for line in said] == [("warning", "adam", False)]
            assert at.value("wisp_auth_total", result="failed") == 4

    run(work)


def test_credentials_that_do(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            made = message(body=b"hello")
            challenge = challenge_of(await carol.ask(made))
            count = 0

            def right(**changes: bytes) -> bytes:
                nonlocal count
                count += 1
                return credentials_of(challenge, made, count=count, **changes).serialize()

            foreign = Credentials(
                b"x", b"b.example", b"n", b"sip:x", SHA256, b"auth", b"00000001", b"c", None, b"r"
            ).serialize()
            assert await status_of(carol, made, right()) == 404
            assert await status_of(carol, made, right(qop=b"auth-int")) == 404
            assert await status_of(carol, made, right(uri=b"sip:nobody@A.EXAMPLE")) == 404  # means the same
            assert await status_of(carol, made, right(algorithm=b"sha-256")) == 404
            assert await status_of(carol, made, right(opaque=b"whatever")) == 404  # we gave none
            assert await status_of(carol, made, b"digest" + right()[6:]) == 404
            assert await status_of(carol, made, right() + b",") == 404
            # Those of other realms, wherever they stand and however they look (section 22.3).
            for others in ([foreign], [b'Digest realm="b.example"'], [b"Basic eDp5"], [foreign] * 5):
                assert await status_of(carol, made, *others, right()) == 404
                assert await status_of(carol, made, right(), *others) == 404
            # Of several for ours, those in the algorithm of the account.
            assert await status_of(carol, made, right(algorithm=MD5), right()) == 404
            # With auth-int, the body is what was signed.
            value = right(qop=b"auth-int")
            made.body = b"hellO"
            assert await status_of(carol, made, value) == 407
            made.body = b"hello"
            assert await status_of(carol, made, value) == 404

    run(work)


def test_two_that_are_both_for_us_are_not_mixed(tmp_path: Path) -> None:
    """A wrong one before the right one is what counts: one answer for one request."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, made, challenge = await carol_in(at)
            wrong = credentials_of(challenge, made, password="guess").serialize()
            right = credentials_of(challenge, made).serialize()
            assert await status_of(carol, made, wrong, right) == 407
            assert await status_of(carol, made, right, wrong) == 404

    run(work)


# What concerns nobody but us.


def test_credentials_for_us_go_no_further(tmp_path: Path) -> None:
    """However they are written; those for others go on."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            made = message("sip:dave@a.example")
            challenge = challenge_of(await carol.ask(made))
            right = credentials_of(challenge, made).serialize()
            ours = [
                b'Digest realm=a.example,username="x"',
                b'Digest username="x",  REALM  =  "A.Example"',
                b'Digest realm="a.exam\\ple"',
                b'Digest username="x",\r\n realm="a.example"',
                b'Digest username="x, realm="a.example", nonce=',
            ]
            theirs = b'Digest realm="b.example",username="x"'
            again_ = again(made, right, theirs)
            for value in ours:
                again_.add("Authorization", value)
            again_.add("Authorization", theirs)
            carol.send(again_)
            got = await dave.request("MESSAGE")
            assert got.get_all("authorization") == [theirs]
            assert got.get_all("proxy-authorization") == [theirs]
            dave.send(got.response(200, "OK"))
            assert (await carol.response()).status == 200

    run(work)


@pytest.mark.parametrize("status", [401, 407])
def test_a_challenge_in_our_name_goes_no_further(tmp_path: Path, status: int) -> None:
    """Whoever is called could have Carol's phone make credentials that are good for us."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
            for number, values in enumerate(
                (
                    [b'Digest realm="a.example", nonce="x", qop="auth", algorithm=SHA-256'],
                    [b'Digest nonce="x", Realm=A.EXAMPLE'],
                    [b'Digest realm="b.example", nonce="x", Digest realm="a.example", nonce="y"'],
                    [b'Digest realm="b.example", nonce="x"', b'Digest realm="a.example", nonce="x"'],
                )
            ):
                await call(carol, "carol", "sip:dave@a.example")
                response = answer(await dave.request("INVITE"), status)
                for value in values:
                    response.add(name, value)
                dave.send(response)
                got = await carol.response()
                assert b'a.example", nonce' not in got.serialize()
                assert b"A.EXAMPLE" not in got.serialize()
                if number < 3:
                    assert got.status == 403
                    assert b"a challenge in our name" in (got.get("warning") or b"")
                else:
                    # That of another realm is the caller's to answer.
                    assert (got.status, got.get_all(name.lower())) == (status, values[:1])
                await dave.request("ACK")

    run(work)


# Whose request.


def test_accounts_of_this_moment(tmp_path: Path) -> None:
    """One that was made after the last look is found, one that is gone does nothing any more."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            made = message()
            challenge = challenge_of(await carol.ask(made))
            await at.remove("carol")
            assert await status_of(carol, made, credentials_of(challenge, made).serialize()) == 407
            await at.add("carol", password="other")
            assert await status_of(carol, made, credentials_of(challenge, made).serialize()) == 407
            assert await status_of(carol, made, credentials_of(challenge, made, password="other").serialize()) == 404

    run(work)


def test_to_be_somebody_else_one_needs_their_secret(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            made = message(user="dave")
            challenge = challenge_of(await carol.ask(made))
            assert await status_of(carol, made, credentials_of(challenge, made).serialize()) == 407
            assert (await dave.ask_signed(made, "dave")).status == 404

    run(work)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", b'399 a.example "plain"'),
        ('a "quoted" word', b"399 a.example \"a 'quoted' word\""),
        ("back\\slash", b'399 a.example "back?slash"'),
        ("line\r\nEvil: yes", b'399 a.example "line??Evil: yes"'),
        ("\x00\x1b[31m\x7f\x85\u2028", b'399 a.example "??[31m???"'),
        ("J\u00e4r\udc80", 'b399 a.example "J\u00e4r?"'.encode()[1:]),
        ("x" * 5000, b'399 a.example "' + b"x" * 200 + b'"'),
    ],
)
def test_a_warning_is_one_line_whatever_it_says(text: str, shown: bytes) -> None:
    assert warning("a.example", text) == ("Warning", shown)
