"""A real `contact-sync serve` as a child process, its keys and its tokens, and a relay that counts what a client sends.

./dev gives the program (CONTACT_SYNC), a database of the script's own (DATABASE_URL) and a simulator of each CRM.
"""

import base64
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SCOPES = "calls sync contacts.read contacts.erase admin"
# Nothing takes so long, but on a machine with much else to do.
PATIENCE = 60


def ok(name):
    print(f"ok {name}", flush=True)


def compile_protos(folder):
    """What `python -m grpc_tools.protoc` makes of the proto files, in a scratch folder that is on the path then."""
    made = tempfile.mkdtemp(dir=pathlib.Path(__file__).parent)
    files = sorted(str(path) for path in pathlib.Path(folder, "contactsync/v1").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", folder, f"--python_out={made}", f"--grpc_python_out={made}"]
    subprocess.run(command + files, check=True)
    sys.path.insert(0, made)


class Service:
    """Started on a free port; a restart takes the same one. `beside`: another replica, with its keys and database."""

    started = []

    def __init__(self, beside=None, **settings):
        Service.started.append(self)
        self.address, self.lines, self.settings = "127.0.0.1:0", [], settings
        if beside:
            self.folder, self.key = beside.folder, beside.key
        else:
            self.make_keys()
        self.start()

    def make_keys(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=pathlib.Path(__file__).parent))
        self.key = Ed25519PrivateKey.generate()
        public = base64.urlsafe_b64encode(self.key.public_key().public_bytes_raw()).rstrip(b"=").decode()
        jwk = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "test", "alg": "EdDSA", "x": public}
        ring = {"primary": "k1", "keys": [{"id": "k1", "key": base64.b64encode(os.urandom(32)).decode()}]}
        (self.folder / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
        (self.folder / "key-ring.json").write_text(json.dumps(ring))
        (self.folder / "key-ring.json").chmod(0o600)

    def start(self):
        settings = {
            "listen": self.address,
            "reflection": "true",
            "data_dir": str(self.folder / "data"),
            "auth.jwks_file": str(self.folder / "jwks.json"),
            "vault.key_ring_file": str(self.folder / "key-ring.json"),
            "http.listen": "127.0.0.1:0",
            "http.public_url": "http://localhost:1",
            "admin.listen": "127.0.0.1:0",
            "log.format": "json",
            # The least that may be set: connections change under the script's calls.
            "server.connection_age_max_seconds": "10",
            "worker.poll_ms": "100",
            # A busy machine is no fault: who waits for the database waits on.
            "pools.call.acquire_timeout_ms": "60000",
            "pools.api.acquire_timeout_ms": "60000",
            "providers.zendesk.base_url": os.environ["ZENDESK_URL"],
            "providers.pipedrive.base_url": os.environ["PIPEDRIVE_URL"],
            "providers.pipedrive.client_id": "client",
            "providers.pipedrive.client_secret": "secret",
            **self.settings,
        }
        flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        self.process = subprocess.Popen(
            [os.environ["CONTACT_SYNC"], *flags, "serve"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        serving = queue.Queue()
        threading.Thread(target=self.read_log, args=(self.process.stderr, serving), daemon=True).start()
        self.address = serving.get(timeout=PATIENCE)
        assert self.address, "the service has ended: " + "".join(self.lines[-5:])

    def read_log(self, log, serving):
        for line in log:
            self.lines.append(line)
            if '"serving gRPC"' in line:
                serving.put(json.loads(line)["listen"])
        serving.put(None)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self):
        """The exit code."""
        return self.process.wait(timeout=PATIENCE)

    def token(self, accounts="*", scopes=SCOPES, **claims):
        now = int(time.time())
        claims = {"iss": "contact-sync", "aud": "contact-sync", "sub": "python", "exp": now + 3600, "accounts": accounts,
                  "scope": scopes, **claims}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": "test"})

    def faults(self):
        """Lines of the log that tell of a fault of the service, of a client that was sent away, or a caller's number."""
        telling = ('"ERROR"', '"a connection is closed"', "panick", "3108675309", "3105550199")
        return [line for line in self.lines if any(text in line for text in telling)]


class Relay:
    """Stands between a client and the service: counts connections that came through, and the bytes that the client sends."""

    def __init__(self, address):
        self.target = address.rsplit(":", 1)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.connections = self.sent = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection((self.target[0], int(self.target[1])))
            except OSError:
                client.close()
                continue
            self.connections += 1
            threading.Thread(target=self.copy, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.copy, args=(server, client, False), daemon=True).start()

    def copy(self, source, target, counts):
        try:
            while received := source.recv(65536):
                self.sent += len(received) if counts else 0
                target.sendall(received)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            target.close()


def wait_until(condition, what):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"waited in vain: {what}"
        time.sleep(0.02)


def new_id():
    return str(uuid.uuid4())
