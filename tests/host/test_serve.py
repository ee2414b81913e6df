"""``wisp serve`` as a service manager sees it: a process with logs, counters and an end."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from cryptography import x509

from lab.lab import Lab
from lab.processes import Neighbour
from neighbour.agent.authority import Authority
from neighbour.cli import run_command
from neighbour.config import load

WISP = str(Path(sys.executable).with_name("wisp"))


def start(lab: Lab) -> tuple[Neighbour, str]:
    address = lab.make_domains("a.example")["a.example"]
    lab.change("a.example", '# listen = "127.0.0.1:9464"', f'listen = "{address}:9464"')
    return lab.start_neighbour("a.example"), address


def counters(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}:9464/metrics", timeout=5) as answer:
        text = answer.read()
    assert isinstance(text, bytes)
    return text.decode()


def test_counters_by_http(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        _, address = start(lab)
        assert 'wisp_malformed_total{transport="UDP"}' not in counters(address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"no SIP at all", (address, 5060))
            sock.sendto(
                b"OPTIONS sip:a.example SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1;rport\r\nMax-Forwards: 0\r\n"
                b"From: <sip:x@x>;tag=1\r\nTo: <sip:a.example>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n",
                (address, 5060),
            )
            sock.settimeout(5)
            assert sock.recv(2000).startswith(b"SIP/2.0 ")
        said = counters(address)
        assert 'wisp_malformed_total{transport="UDP"} 1.0' in said
        assert 'wisp_messages_total{direction="in",protection="none"} 2.0' in said
        assert "wisp_bindings 0.0" in said


def test_end_by_signal(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        neighbour, address = start(lab)
        for number in (signal.SIGTERM, signal.SIGINT):
            # An open connection and a half request keep nothing from ending.
            with socket.create_connection((address, 5060)) as held:
                held.sendall(b"OPTIONS sip:a.example SIP/2.0\r\nVia: ")
                os.kill(neighbour.pid, number)
                stopped = neighbour.wait_for("stopped")
            assert stopped["domain"] == "a.example"
            neighbour.wait_until(lambda neighbour=neighbour: not neighbour.is_running, "its end")
            assert neighbour.exit_status == 0
            neighbour = lab.start_neighbour("a.example")


def test_reload_by_signal(tmp_path: Path) -> None:
    """Certificates are taken up by SIGHUP, and a second later without it; connections from then on see the new one."""
    with Lab(tmp_path) as lab:
        neighbour, address = start(lab)
        folder = lab.folder / "a.example"
        serials = [shown(address)]
        for by_signal in (True, False):
            issued = Authority(lab.folder / "ca").issue_domain("a.example")
            issued.write(folder / "a.example.pem", folder / "a.example.key")
            mark = len(neighbour.lines)
            if by_signal:
                os.kill(neighbour.pid, signal.SIGHUP)
                neighbour.wait_for("certificates reloaded", since=mark)
            neighbour.wait_for("TLS uses the new certificates", since=mark)
            serials.append(shown(address))
            assert serials[-1] == issued.certificate.serial_number
        assert len(set(serials)) == 3
        assert neighbour.is_running


def shown(address: str) -> int:
    """The serial number of the certificate that a TLS server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, 5061)) as sock, context.wrap_socket(sock) as tls:
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


_ON_A_TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b""
while b"ready" not in said:
    said += os.read(terminal, 4096)
print(pid, flush=True)
"""


def test_the_end_of_its_terminal(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        lab.make_domains("a.example")
        command = [sys.executable, "-c", _ON_A_TERMINAL, WISP, "serve", str(lab.configuration("a.example"))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        pid = int(done.stdout)
        end = time.monotonic() + 20
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not Path(f"/proc/{pid}").exists()


def test_refused_credentials_are_told_but_not_again_and_again(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        neighbour, address = start(lab)
        run_command("account", "add", "carol", "--phone", "--config", str(lab.configuration("a.example")))
        register = (
            "REGISTER sip:a.example SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK{};rport\r\nMax-Forwards: 70\r\n"
            "From: <sip:carol@a.example>;tag=1\r\nTo: <sip:carol@a.example>\r\nCall-ID: 1\r\nCSeq: {} REGISTER\r\n"
            "Contact: <sip:carol@192.0.2.1>\r\n{}Content-Length: 0\r\n\r\n"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            credentials = ""
            for number in range(4):
                sock.sendto(register.format(number, number, credentials).encode(), (address, 5060))
                answer = sock.recv(2000).decode()
                assert answer.startswith("SIP/2.0 401 ")
                nonce = answer.partition('nonce="')[2].partition('"')[0]
                credentials = (
                    f'Authorization: Digest username="carol", realm="a.example", nonce="{nonce}", uri="sip:a.example", '
                    f'algorithm=SHA-256, qop=auth, nc=00000001, cnonce="x", response="{"0" * 64}"\r\n'
                )
        refused = neighbour.wait_for("credentials refused", user="carol")
        assert list(refused)[:3] == ["timestamp", "level", "event"]
        assert refused["level"] == "warning"
        neighbour.read()
        assert len([line for line in neighbour.lines if line["event"] == "credentials refused"]) == 1


def test_log_levels(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        lab.make_domains("a.example", "b.example")
        lab.change("a.example", 'level = "debug"', 'level = "warning"')
        path = lab.configuration("a.example")
        service = subprocess.Popen([WISP, "serve", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            address = load(path).listen[0].address
            while True:  # until it serves: connection refused before
                try:
                    socket.create_connection((address, 5060), 5).close()
                    break
                except ConnectionRefusedError:
                    assert service.poll() is None
        finally:
            service.terminate()
            said, _ = service.communicate(timeout=10)
        assert service.returncode == 0
        assert said == b"", "nothing to warn of"


def test_a_second_one_is_refused(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        start(lab)
        command = [WISP, "serve", str(lab.configuration("a.example"))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert "address already in use: is a neighbour running here already?" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
