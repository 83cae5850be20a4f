"""Causes each trouble at a real `contact-sync serve` with simulated CRMs, and keeps what Prometheus would have scraped before
and after, in scrapes/. `./dev scrapes` calls it with the program (CONTACT_SYNC); names as arguments: only these troubles."""

import base64
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import series

PROGRAM = os.environ["CONTACT_SYNC"]
PATIENCE = 120
SECRETS = {
    "ZENDESK_API_TOKEN": "secret",
    "SALESFORCE_BEARER_TOKEN": "salesforce-token",
    "PIPEDRIVE_API_TOKEN": "pipedrive-token",
}


def wait_until(condition, what, patience=PATIENCE):
    until = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"waited in vain: {what}")
        time.sleep(0.2)
    return found


class Stage:
    """A simulator, a service with a PostgreSQL of its own, an account, and its three CRMs, copied."""

    def __init__(self, name):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"contact-sync-{name[:4]}."))
        # PostgreSQL's user goes through it.
        self.folder.chmod(0o711)
        self.started, self.traffic = time.monotonic(), None
        self.stopped_processes = []
        self.service = self.simulator = None

    def set(self, simulator=(), **settings):
        self.start_simulator(simulator)
        self.settings = {
            "listen": "127.0.0.1:0",
            "admin.listen": "127.0.0.1:0",
            "log.format": "json",
            "worker.poll_ms": "200",
            "worker.backoff_base_ms": "50",
            "providers.zendesk.base_url": self.crm["Zendesk"],
            "providers.salesforce.base_url": self.crm["Salesforce"],
            "providers.pipedrive.base_url": self.crm["Pipedrive"],
        }
        self.start(**settings)
        self.account = json.loads(self.run("account", "create", "--name", "Acme", "--region", "US", "--json"))["account"]["id"]
        for link in (
            ["--zendesk", "acme", "--email", "admin@example.com"],
            ["--salesforce", "00D5g0000000001EAA", "--salesforce-host", "acme.my.salesforce.com"],
            ["--pipedrive", "acme"],
        ):
            self.run("sync", "enable", "--account", self.account, "--period", "1m", *link)

    def start_simulator(self, more):
        log = (self.folder / "simulator.log").open("w")
        flags = [part for crm in ("zendesk", "salesforce", "pipedrive") for part in (f"--{crm}-addr", "127.0.0.1:0")]
        self.simulator = subprocess.Popen(
            [PROGRAM, "simulate", "--contacts", "60", "--seed", "7", *flags, *more], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        address = re.compile(r"^(Zendesk|Salesforce|Pipedrive): (http://[^ ]*) with", re.M)
        read = lambda: dict(address.findall((self.folder / "simulator.log").read_text()))
        self.crm = wait_until(lambda: len(found := read()) == 3 and found, "the simulator")

    def start(self, log=None, **settings):
        self.settings |= {name.replace("__", "."): str(value) for name, value in settings.items()}
        flags = [part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")]
        self.log = self.folder / "service.log"
        stderr = self.log.open("w")
        command = [PROGRAM, "--data-dir", str(self.folder / "data"), *flags, "serve"]
        self.service = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        self.url = "http://" + wait_until(lambda: self.logged("serving gRPC"), "the service")
        self.admin = "http://" + self.logged("serving /metrics, /livez and /readyz")

    def logged(self, message):
        if self.service.poll() is not None:
            raise RuntimeError("the service has ended: " + self.log.read_text()[-500:])
        for line in self.log.read_text().splitlines():
            if f'"{message}"' in line:
                return json.loads(line)["listen"]
        return None

    def run(self, *arguments, check=True, **variables):
        command = [PROGRAM, "--data-dir", str(self.folder / "data"), *arguments, "--server", self.url]
        done = subprocess.run(command, env=os.environ | SECRETS | variables, capture_output=True, text=True, timeout=PATIENCE)
        if check and done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}")
        return done.stdout

    def integrations(self):
        """Their ids, by provider."""
        shown = json.loads("[" + ",".join(self.run("sync", "status", "--account", self.account, "--json").splitlines()) + "]")
        listed = [one for answer in shown for one in answer.get("integrations", [answer])]
        return {one["provider"]: one["id"] for one in listed}

    def trigger(self, provider, *flags):
        integration = self.integrations()[f"PROVIDER_{provider}"]
        self.run("sync", "trigger", "--account", self.account, "--integration", integration, "--watch", *flags, check=False)

    def ask(self, crm, path, body, **headers):
        request = urllib.request.Request(self.crm[crm] + path, json.dumps(body).encode(), headers)
        urllib.request.urlopen(request, timeout=30).read()

    def fault(self, crm, fault, path=""):
        self.ask(crm, "/__control/faults", {"path": path, "times": None, "fault": fault})

    def users(self, count):
        """So many new ones in Zendesk."""
        token = base64.b64encode(b"admin@example.com/token:secret").decode()
        for number in range(count):
            user = {"user": {"name": f"User {number}"}}
            self.ask("Zendesk", "/api/v2/users", user, Authorization=f"Basic {token}", **{"Content-Type": "application/json"})

    def match(self, number="+13105550123", **variables):
        self.run("match", "--account", self.account, number, check=False, **variables)

    def call_on(self, callers=1, **variables):
        """Calls go on, one after the other for each caller, until the stage ends."""
        self.traffic = threading.Event()

        def calls(ended):
            number = 0
            while not ended.is_set():
                number += 1
                self.match(f"+1310555{number % 10_000:04}", **variables)

        for _ in range(callers):
            threading.Thread(target=calls, args=(self.traffic,), daemon=True).start()

    def scrape(self):
        return time.monotonic() - self.started, series.fetch(self.admin + "/metrics")

    def sum(self, name, *labels):
        shown = self.scrape()[1].items()
        return sum(value for key, value in shown if key.partition("{")[0] == name and all(label in key for label in labels))

    def wait_for(self, name, *labels, least=1, patience=PATIENCE):
        wait_until(lambda: self.sum(name, *labels) >= least, f"{name} {labels} in {self.folder}", patience)

    def postgres(self):
        """The processes of its PostgreSQL: the first one, and its children."""
        (lock,) = (self.folder / "data" / "pg").rglob("postmaster.pid")
        first = int(lock.read_text().split()[0])
        children = pathlib.Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def stop_postgres(self):
        self.stopped_processes = self.postgres()
        for process in self.stopped_processes:
            os.kill(process, signal.SIGSTOP)

    def continue_postgres(self):
        for process in self.stopped_processes:
            try:
                os.kill(process, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self.stopped_processes = []

    def stop_service(self):
        self.continue_postgres()
        self.service.terminate()
        self.service.wait(PATIENCE)

    def end(self):
        if self.traffic:
            self.traffic.set()
        if self.service:
            self.stop_service()
        if self.simulator:
            self.simulator.kill()
            self.simulator.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def copied(stage):
    for provider in ("ZENDESK", "SALESFORCE", "PIPEDRIVE"):
        stage.wait_for("contact_sync_integrations", f'provider="{provider}"', 'state="ACTIVE"')


def healthy(stage):
    """Calls are answered, three CRMs are copied and looked at again, and each figure has been read."""
    copied(stage)
    stage.call_on()
    time.sleep(35)
    first = stage.scrape()
    time.sleep(75)
    return first, stage.scrape()


def database(stage):
    """PostgreSQL stands still."""
    copied(stage)
    stage.stop_postgres()
    stage.call_on(callers=4)
    wait_until(lambda: stage.sum("contact_sync_ready") == 0, "not ready")
    first = stage.scrape()
    time.sleep(60)
    return first, stage.scrape()


def tokens(stage):
    """The router's tokens are nonsense."""
    copied(stage)
    stage.call_on(callers=2, CONTACT_SYNC_TOKEN="nonsense")
    stage.wait_for("contact_sync_tokens_refused_total")
    first = stage.scrape()
    time.sleep(20)
    return first, stage.scrape()


@contextlib.contextmanager
def pulses(stage, still, going):
    """PostgreSQL stands still for so many seconds, again and again."""
    ended = threading.Event()

    def pulse():
        while not ended.is_set():
            stage.stop_postgres()
            time.sleep(still)
            stage.continue_postgres()
            time.sleep(going)

    pulsing = threading.Thread(target=pulse)
    pulsing.start()
    try:
        yield
    finally:
        ended.set()
        pulsing.join()


def slow(stage):
    """PostgreSQL stands still for a part of each second."""
    copied(stage)
    stage.call_on()
    with pulses(stage, still=0.6, going=0.6):
        first = stage.scrape()
        time.sleep(30)
        return first, stage.scrape()


def room(stage):
    """More calls than places, and the database takes its time."""
    copied(stage)
    stage.call_on(callers=12)
    with pulses(stage, still=0.9, going=0.3):
        stage.wait_for("contact_sync_calls_refused_total", least=3)
        first = stage.scrape()
        time.sleep(20)
        full = lambda scrape: scrape[1]['contact_sync_places_taken{room="calls"}'] >= 2 and scrape
        return first, wait_until(lambda: full(stage.scrape()), "a full room")


def credentials(stage):
    """Zendesk refuses the credentials; two looks agree."""
    copied(stage)
    stage.call_on()
    stage.fault("Zendesk", {"kind": "unauthorized"})
    stage.wait_for("contact_sync_integrations", 'provider="ZENDESK"', 'state="AUTH_FAILED"', patience=600)
    first = stage.scrape()
    time.sleep(15)
    return first, stage.scrape()


def paused(stage):
    """Zendesk says three times that it does not know the organisation."""
    copied(stage)
    stage.call_on()
    stage.fault("Zendesk", {"kind": "not_found"})
    stage.wait_for("contact_sync_integrations", 'provider="ZENDESK"', 'state="PAUSED"', patience=600)
    first = stage.scrape()
    time.sleep(15)
    return first, stage.scrape()


def unreached(stage):
    """No CRM is reached any more, until the copies are stale."""
    copied(stage)
    stage.call_on()
    stage.simulator.kill()
    stage.wait_for("contact_sync_crm_requests_total", 'outcome="unreached"')
    first = stage.scrape()
    stage.wait_for("contact_sync_integrations", 'state="STALE"', least=3, patience=600)
    return first, stage.scrape()


def idle(stage):
    """No process has workers."""
    copied(stage)
    stage.stop_service()
    stage.start(worker__concurrency=0)
    stage.call_on()
    first = stage.scrape()
    stage.wait_for("contact_sync_integrations_overdue", least=3, patience=600)
    return first, stage.scrape()


def quota(stage):
    """Another program has used up the day's quota of Pipedrive."""
    copied(stage)
    stage.call_on()
    stage.fault("Pipedrive", {"kind": "daily_limit"})
    stage.trigger("PIPEDRIVE")
    stage.wait_for("contact_sync_integrations", 'provider="PIPEDRIVE"', 'state="QUOTA_PAUSED"')
    time.sleep(6)
    first = stage.scrape()
    time.sleep(15)
    return first, stage.scrape()


def rejected(stage):
    """Zendesk gives records that cannot be read."""
    copied(stage)
    stage.call_on()
    first = stage.scrape()
    poisoned = {f"/users/{at}/updated_at": "soon" for at in range(10)}
    stage.fault("Zendesk", {"kind": "patch", "set": poisoned}, path="/incremental/")
    stage.trigger("ZENDESK", "--full")
    stage.wait_for("contact_sync_records_rejected_total", 'provider="ZENDESK"', least=5)
    return first, stage.scrape()


def log(stage):
    """Nobody takes the lines of the log: it goes to a pipe that is full."""
    copied(stage)
    stage.stop_service()
    pipe = stage.folder / "log.pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    flags = [part for name, value in stage.settings.items() for part in ("--set", f"{name}={value}")]
    command = [PROGRAM, "--data-dir", str(stage.folder / "data"), *flags, "--set", "log.filter=trace", "serve"]
    with pipe.open("wb") as writer:
        stage.service = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer)
    taken = b""
    started = time.monotonic()
    # Until it serves; then it stands still.
    while b'"serving gRPC"' not in taken and time.monotonic() < started + PATIENCE:
        try:
            taken += os.read(reader, 1 << 16)
        except BlockingIOError:
            time.sleep(0.05)
    listens = lambda message: re.search(rb'"listen":"([^"]*)"', next(l for l in taken.splitlines() if message in l))[1].decode()
    stage.url, stage.admin = "http://" + listens(b'"serving gRPC"'), "http://" + listens(b'"serving /metrics')
    stage.call_on(callers=3)
    stage.wait_for("contact_sync_log_lines_lost_total", patience=300)
    first = stage.scrape()
    time.sleep(20)
    second = stage.scrape()
    os.close(reader)
    return first, second


def events(stage):
    """Zendesk's events are lost, until polls tell; then those come that do not show its secret."""
    copied(stage)
    stage.call_on()
    stage.ask("Zendesk", "/__control/hooks", {"loss": 1.0})
    # Of what changed within a minute after the webhook was made no event is expected.
    time.sleep(65)
    stage.users(20)
    stage.wait_for("contact_sync_push_channels", 'provider="ZENDESK"', 'state="DEGRADED"', patience=300)
    stage.ask("Zendesk", "/__control/hooks", {"wrong_secret": 1.0})
    first = stage.scrape()
    stage.users(20)
    stage.wait_for("contact_sync_hooks_total", 'outcome="unsigned"', least=20)
    return first, stage.scrape()


def reached():
    """Where CRMs find the service."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return {"http__listen": address, "http__public_url": f"http://{address}"}


TROUBLES = {
    healthy: {},
    database: {},
    tokens: {},
    slow: {},
    room: {"server__calls_max": 2},
    credentials: {},
    paused: {},
    unreached: {},
    idle: {},
    quota: {},
    rejected: {},
    log: {},
    # As Zendesk's lists are: what polls bring is old enough for its event to have come.
    events: {"simulator": ["--zendesk-lag", "60"], **reached()},
}


def record(trouble):
    stage = Stage(trouble.__name__)
    try:
        stage.set(**TROUBLES[trouble])
        series.write(trouble.__name__, trouble(stage))
        return f"{trouble.__name__}: ok"
    except Exception as error:
        return f"{trouble.__name__}: FAILED {type(error).__name__} {error}"
    finally:
        stage.end()


def main():
    series.SCRAPES.mkdir(exist_ok=True)
    chosen = [trouble for trouble in TROUBLES if trouble.__name__ in (sys.argv[1:] or [t.__name__ for t in TROUBLES])]
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("AT_ONCE", "4"))) as pool:
        told = []
        for line in pool.map(record, chosen):
            print(line, flush=True)
            told.append(line)
    sys.exit(any("FAILED" in line for line in told))


if __name__ == "__main__":
    main()
