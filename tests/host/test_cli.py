import json
import os
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from neighbour.agent.authority import Authority
from sipwire.digest import ha1

WISP = str(Path(sys.executable).with_name("wisp"))


def wisp(*arguments: str, status: int = 0, given: str = "", folder: Path | None = None) -> str:
    """Run the command; returns what it says, errors included."""
    done = subprocess.run(
        [WISP, *arguments],
        input=given,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "a"
    wisp("init", str(folder), "--domain", "a.example", "--peer", "b.example=127.0.0.9:5061")
    return folder


def test_init(made: Path) -> None:
    assert wisp("check", str(made)) == "a.example: the configuration is good\n"
    for name in ("a.example.key", "ca/root.key", "ca/intermediate.key", "wisp.db"):
        assert stat.S_IMODE((made / name).stat().st_mode) == 0o600, name
    chain = x509.load_pem_x509_certificates((made / "a.example.pem").read_bytes())
    assert len(chain) == 2
    assert 'domain = "b.example"' in (made / "wisp.toml").read_text()
    text = (made / "wisp.toml").read_text()
    assert "or tcp or udp, for a carrier" in text  # every key stays explained
    assert '\nauthority = "ca" ' in text
    assert '\n# uri = "sip:support@a.example"' in text


def test_init_with_an_authority(tmp_path: Path) -> None:
    """Its folder is named as the configuration's folder sees it, and certificates come from there."""
    wisp("ca", "init", str(tmp_path / "the ca"))
    said = wisp("init", "x/a", "--domain", "a.example", "--ca", "the ca", folder=tmp_path)
    assert "a neighbour for a.example" in said
    assert '\nauthority = "../../the ca" ' in (tmp_path / "x" / "a" / "wisp.toml").read_text()
    assert wisp("check", str(tmp_path / "x" / "a")) == "a.example: the configuration is good\n"
    assert "sip:alice@a.example: until " in wisp("cert", "renew", "alice", "-c", str(tmp_path / "x" / "a"))
    assert "Wisp intermediate" in wisp("cert", "list", "-c", "x/a", folder=tmp_path)


def test_names_that_mean_something_to_a_console(tmp_path: Path) -> None:
    folder = tmp_path / "[red]:smile:[" / "b"
    assert str(folder) in wisp("init", str(folder), "--domain", "a.example")
    assert f"{folder}-: No such file" in wisp("check", f"{folder}-", status=2)


def test_where_a_terminal_finds_us(tmp_path: Path) -> None:
    """All interfaces are no address: our name then, and the port that a terminal wants said."""
    wisp("init", str(tmp_path), "--domain", "a.example", "--address", "0.0.0.0")
    for options, told in (([], "a.example:5060"), (["--neighbour", "192.0.2.1:5070"], "192.0.2.1:5070")):
        path = tmp_path / f"{len(options)}.json"
        wisp("account", "add", f"u{len(options)}", "-c", str(tmp_path), "--terminal", str(path), *options)
        assert json.loads(path.read_text())["neighbour"] == told


def test_whole_names_in_a_pipe(made: Path) -> None:
    user = "y" * 64
    wisp("account", "add", user, "-c", str(made), "--phone")
    assert f"sip:{user}@a.example" in wisp("account", "list", "-c", str(made))
    wisp("account", "remove", user, "-c", str(made))


def test_without_a_configuration(tmp_path: Path) -> None:
    assert "make one with `wisp init`" in wisp("account", "list", folder=tmp_path, status=2)


def test_a_password_that_is_no_text(made: Path) -> None:
    command = [WISP, "account", "add", "bad", "-c", str(made), "--phone", "--password-stdin"]
    done = subprocess.run(command, input=b"p\xff\n", capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, b"--password-stdin: is not UTF-8\n")


def test_init_twice(made: Path) -> None:
    before = (made / "wisp.toml").read_text()
    assert "is there already" in wisp("init", str(made), "--domain", "c.example", status=2)
    assert (made / "wisp.toml").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--domain", "a b"], "a domain name is wanted"),
        (["--domain", "a.example", "--address", "localhost"], "a numeric IPv4 or IPv6 address is wanted"),
        (["--domain", "a.example", "--peer", "b.example"], "DOMAIN=ADDRESS:PORT is wanted"),
        (["--domain", "a.example", "--peer", "b.example=x"], "host:port is wanted"),
        (["--domain", "a.example", "--ca", "nowhere"], "make an authority with `wisp ca init`"),
        (["--domain", "a.example", "--port", "5061"], "listen: two entries want the same socket"),
        (["--domain", "a.example", "--peer", "a.example=127.0.0.1:1"], "peer: a.example is this domain itself"),
        (["--domain", "127.0.0.1"], "a domain name is wanted"),
    ],
)
def test_init_mistakes(tmp_path: Path, arguments: list[str], message: str) -> None:
    said = wisp("init", str(tmp_path / "x"), *arguments, status=2)
    assert message in said
    assert not (tmp_path / "x").exists()
    assert "wisp.toml" not in said


def test_authority(tmp_path: Path) -> None:
    wisp("ca", "init", str(tmp_path / "ca"))
    assert "already" in wisp("ca", "init", str(tmp_path / "ca"), status=2)
    wisp("ca", "issue", str(tmp_path / "ca"), "c.example", "--out", str(tmp_path))
    done = subprocess.run(
        [
            "openssl",
            "verify",
            "-CAfile",
            "ca/root.pem",
            "-untrusted",
            "c.example.pem",
            "-purpose",
            "sslclient",
            "c.example.pem",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "c.example.pem: OK\n", done.stderr
    assert stat.S_IMODE((tmp_path / "c.example.key").stat().st_mode) == 0o600


def test_terminal_account(made: Path, tmp_path: Path) -> None:
    said = wisp("account", "add", "alice", "--config", str(made), folder=tmp_path)
    values = json.loads((tmp_path / "alice.json").read_text())
    assert stat.S_IMODE((tmp_path / "alice.json").stat().st_mode) == 0o600
    assert values == {
        "user": "alice",
        "domain": "a.example",
        "ha1": values["ha1"],
        "neighbour": "127.0.0.1:5060",
        "expires_s": 600,
    }
    assert len(values["ha1"]) == 64
    assert values["ha1"] not in said
    assert "sip:alice@a.example" in wisp("account", "list", "-c", str(made))
    assert "already" in wisp("account", "add", "alice", "-c", str(made), folder=tmp_path, status=2)
    again = wisp("account", "add", "alice", "-c", str(made), "--terminal", "b.json", folder=tmp_path, status=1)
    assert again == "alice: there is such a user, or digest user name, already\n"
    assert json.loads((tmp_path / "alice.json").read_text()) == values, "a failed add must not touch what is there"
    assert not (tmp_path / "b.json").exists()
    wisp("account", "remove", "alice", "-c", str(made))
    assert "no such user" in wisp("account", "remove", "alice", "-c", str(made), status=1)


def test_phone_accounts(made: Path, tmp_path: Path) -> None:
    said = wisp("account", "add", "carol", "-c", str(made), "--phone", "--password-stdin", given="pass word\n")
    assert "pass word" not in said
    said = wisp("account", "add", "dave", "-c", str(made), "--phone")
    assert "password: " in said  # made by us: the person has to see it once
    said = wisp("account", "add", "old", "-c", str(made), "--phone", "--md5", "--password-stdin", given="x\n")
    assert "auth.md5 = true" in said
    listed = wisp("account", "list", "-c", str(made))
    assert [line.split() for line in listed.splitlines()[1:]] == [
        ["sip:carol@a.example", "phone", "SHA-256"],
        ["sip:dave@a.example", "phone", "SHA-256"],
        ["sip:old@a.example", "phone", "MD5"],
    ]
    data = (made / "wisp.db").read_bytes() + b"".join(path.read_bytes() for path in made.glob("wisp.db-*"))
    assert b"pass word" not in data
    assert ha1(b"carol", b"a.example", b"pass word") in data


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["a b"], 2, "letters, digits"),
        (["x@y"], 2, "letters, digits"),
        (["x", "--md5"], 2, "--md5 goes with --phone"),
        (["x", "--phone", "--terminal", "x.json"], 2, "exclude each other"),
        (["x", "--redirect"], 2, "--redirect goes with --phone: a terminal is reached through its neighbour only"),
        (["x", "--terminal", "x.json", "--redirect"], 2, "--redirect goes with --phone"),
        (["x", "--phone", "--password-stdin"], 2, "there is none on standard input"),
        (["x" * 65], 2, "1 to 64 letters, digits"),
        (["x", "--password-stdin"], 2, "--password-stdin goes with --phone"),
        (["x", "--phone", "--neighbour", "h:1"], 2, "--neighbour goes into a terminal's configuration"),
        (["x", "--neighbour", "h"], 2, "--neighbour h: host:port is wanted"),
    ],
)
def test_account_mistakes(made: Path, arguments: list[str], status: int, message: str) -> None:
    assert message in wisp("account", "add", *arguments, "-c", str(made), status=status)


def test_modes(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    wisp("init", str(folder), "--domain", "m.example")
    config = ("-c", str(folder))
    wisp("account", "add", "alice", *config, folder=tmp_path)
    wisp("account", "add", "carol", *config, "--phone", "--redirect", "--password-stdin", given="x\n")
    wisp("account", "add", "dave", *config, "--phone", "--password-stdin", given="x\n")

    def modes() -> dict[str, str]:
        lines = [line.split() for line in wisp("account", "list", *config).splitlines()[1:]]
        return {line[0].partition("@")[0][4:]: line[3] if len(line) > 3 else "" for line in lines}

    assert modes() == {"alice": "", "carol": "redirect", "dave": ""}
    assert wisp("account", "set", "dave", "--mode", "redirect", *config) == "sip:dave@m.example: mode redirect\n"
    wisp("account", "set", "carol", "--mode", "proxy", *config)
    assert modes() == {"alice": "", "carol": "proxy", "dave": "redirect"}
    wisp("account", "set", "dave", "--mode", "default", *config)
    assert modes() == {"alice": "", "carol": "proxy", "dave": ""}
    said = wisp("account", "set", "alice", "--mode", "redirect", *config, status=2)
    assert said == "alice: a terminal is reached through its neighbour only, it can't be redirected to\n"
    assert wisp("account", "set", "nobody", "--mode", "proxy", *config, status=1) == "nobody: no such user\n"
    assert wisp("account", "set", "dave", *config, status=2) == (
        "one of --mode, --level, --assist, --signer, --show, --relay, --srtp is wanted\n"
    )
    assert "'b2bua' is not one of 'proxy', 'redirect', 'default'" in wisp(
        "account", "set", "dave", "--mode", "b2bua", *config, status=2
    )


def test_settings_of_an_account(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    wisp("init", str(folder), "--domain", "s.example")
    path = folder / "wisp.toml"
    path.write_text(path.read_text() + '[[group]]\nuri = "sip:support@s.example"\nmembers = ["carol"]\n')
    config = ("-c", str(folder))
    wisp("account", "add", "carol", *config, "--phone", "--password-stdin", given="x\n")
    wisp("account", "add", "dave", *config, "--phone", "--password-stdin", given="x\n")

    def shown() -> str:
        """Carol's line, as narrow as a terminal may be."""
        lines = wisp("account", "list", *config).splitlines()
        return " ".join(next(line for line in lines if "carol" in line).split()[1:])

    assert shown() == "phone SHA-256"
    said = wisp("account", "set", "carol", "--level", "heavy", "--signer", "support", "--show", "both", *config)
    assert said == "sip:carol@s.example: level heavy, signer support, show both\n"
    assert shown() == "phone SHA-256 heavy support subject,asserted"
    wisp("account", "set", "carol", "--assist", "sign,encrypt", "--mode", "redirect", *config)
    assert shown() == "phone SHA-256 redirect heavy sign,encrypt support subject,asserted"
    wisp(
        "account",
        "set",
        "carol",
        "--assist",
        "none",
        "--level",
        "none",
        "--signer",
        "domain",
        "--show",
        "asserted",
        *config,
    )
    assert shown() == "phone SHA-256 redirect none none domain asserted"
    wisp(
        "account",
        "set",
        "carol",
        "--assist",
        "default",
        "--level",
        "default",
        "--signer",
        "user",
        "--show",
        "nothing",
        *config,
    )
    assert shown() == "phone SHA-256 redirect"
    for arguments, told in (
        (["--level", "light"], "'light' is not one of 'none', 'medium', 'heavy', 'default'"),
        (["--assist", "encrypt,sign"], "is not one of 'none', 'sign', 'encrypt', 'sign,encrypt'"),
        (["--show", "x"], "'x' is not one of 'subject', 'asserted', 'both', 'nothing'"),
        (["--signer", "sales"], "user, domain, or a group of the configuration is wanted (support)"),
    ):
        assert told in wisp("account", "set", "carol", *arguments, *config, status=2)
    said = wisp("account", "set", "dave", "--signer", "support", *config, status=2)
    assert said.startswith(f"--signer support: dave is not in that group; add it to {path}:")
    assert wisp("account", "set", "nobody", "--level", "heavy", *config, status=1) == "nobody: no such user\n"
    said = wisp("account", "add", "support", *config, "--phone", status=2)
    assert said == "support: is a group of the configuration; an account has another name\n"


def test_a_terminals_secret_is_not_lost(made: Path, tmp_path: Path) -> None:
    """It is in one file only: that is not overwritten, and without it there is no account."""
    mine = tmp_path / "mine.json"
    wisp("account", "add", "erin", "-c", str(made), "--terminal", str(mine))
    before = mine.read_text()
    said = wisp("account", "add", "fred", "-c", str(made), "--terminal", str(mine), status=2)
    assert said == f"{mine}: is there already; remove it, or name another file with --terminal\n"
    assert mine.read_text() == before
    for place, reason in ((tmp_path / "nowhere" / "x.json", "No such file or directory"), (Path("/proc/x"), "")):
        assert f"{place}: {reason}" in wisp(
            "account", "add", "fred", "-c", str(made), "--terminal", str(place), status=2
        )
    assert "fred" not in wisp("account", "list", "-c", str(made))
    wisp("account", "remove", "erin", "-c", str(made))


def test_version() -> None:
    assert re.fullmatch(r"wisp \d+\.\d+\.\d+\n", wisp("--version"))


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, reason in (("/proc/x", "No such file or directory"), (str(tmp_path / "file"), "File exists")):
        assert wisp("init", folder, "--domain", "p.example", status=2) == f"{folder}: {reason}\n"
    assert wisp("ca", "init", "/proc/ca", status=2) == "/proc/ca: No such file or directory\n"
    wisp("ca", "init", str(tmp_path / "ca"))
    assert "a domain name is wanted" in wisp("ca", "issue", str(tmp_path / "ca"), "no domain", status=2)


def test_check_names_file_and_line(tmp_path: Path) -> None:
    wisp("init", str(tmp_path / "d"), "--domain", "d.example")
    path = tmp_path / "d" / "wisp.toml"
    path.write_text(path.read_text().replace("port = 5060", "port = 0").replace("# md5", "md6"))
    said = wisp("check", str(path), status=2)
    lines = path.read_text().splitlines()
    md6 = next(number for number, line in enumerate(lines, 1) if line.startswith("md6"))
    assert said.splitlines() == [
        f"{path}:15: listen[0].port: should be greater than or equal to 1",
        f"{path}:21: listen[1].port: should be greater than or equal to 1",
        f"{path}:{md6}: auth.md6: is not known",
    ]
    assert wisp("serve", str(path), status=2) == said


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"e.example.key"', '"none.key"', "30: tls.key: {folder}/none.key: No such file or directory"),
        ("# url =", 'url = "sqlite:///wisp.db" #', "35: store.url: The asyncio extension requires an async driver"),
    ],
)
def test_mistakes_in_what_a_configuration_names(tmp_path: Path, old: str, new: str, told: str) -> None:
    """`check` and `serve` say them alike, with file and line, and nothing is started; test_check.py has them all."""
    folder = tmp_path / "e"
    wisp("init", str(folder), "--domain", "e.example")
    path = folder / "wisp.toml"
    path.write_text(path.read_text().replace(old, new))
    said = wisp("check", str(path), status=2)
    assert said.startswith(f"{path}:{told.format(folder=folder)}")
    assert len(said.splitlines()) == 1
    assert wisp("serve", str(path), status=2) == said
    if "store.url" in told:
        assert wisp("account", "list", "-c", str(path), status=2) == said


def test_warnings(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    wisp("init", str(folder), "--domain", "f.example")
    (folder / "f.example.key").chmod(0o644)
    said = wisp("check", str(folder))
    assert f"warning: {folder}/wisp.toml:30: tls.key: {folder}/f.example.key can be read by others" in said
    assert "the configuration is good" in said


def test_serve_says_what_keeps_it_from_starting(tmp_path: Path) -> None:
    """A certificate that has expired does not: calls within the domain need none."""
    folder = tmp_path / "g"
    wisp("init", str(folder), "--domain", "g.example", "--address", "192.0.2.77")
    now = datetime.now(UTC)
    old = Authority(folder / "ca").issue_domain("g.example", now - timedelta(days=2), now - timedelta(days=1))
    old.write(folder / "g.example.pem", folder / "g.example.key")
    assert "g.example.pem expired on " in wisp("check", str(folder), status=2)
    assert "listen[0]: udp 192.0.2.77:5060: " in wisp("serve", str(folder), status=1)


@pytest.mark.parametrize(
    ("authority", "told"),
    [
        ("ca", "h.example.pem: made by ca\n"),
        ("", "h.example.pem: made, signed by itself: other domains trust it only with"),
    ],
)
def test_serve_makes_a_certificate(tmp_path: Path, authority: str, told: str) -> None:
    folder = tmp_path / "h"
    wisp("init", str(folder), "--domain", "h.example", "--address", "192.0.2.77")
    path = folder / "wisp.toml"
    path.write_text(path.read_text().replace('authority = "ca"', f'authority = "{authority}"'))
    for name in ("h.example.pem", "h.example.key"):
        (folder / name).unlink()
    assert "h.example.pem and its key are not there; `wisp serve` " in wisp("check", str(folder))
    said = wisp("serve", str(folder), status=1)
    assert told in said
    assert "listen[0]: udp 192.0.2.77:5060: " in said
    assert stat.S_IMODE((folder / "h.example.key").stat().st_mode) == 0o600
    assert "the configuration is good" in wisp("check", str(folder))


def test_help() -> None:
    said = wisp("--help")
    for name in ("init", "check", "serve", "ca", "account", "cert"):
        assert name in said
    for command in (
        ["init"],
        ["serve"],
        ["check"],
        ["ca", "init"],
        ["ca", "issue"],
        ["account", "add"],
        ["account", "set"],
        ["cert", "list"],
        ["cert", "show"],
        ["cert", "export"],
        ["cert", "import"],
        ["cert", "renew"],
    ):
        assert "--help" in wisp(*command, "--help")
