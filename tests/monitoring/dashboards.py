"""Asks a real Prometheus, which scrapes a real demo, each expression of the dashboards and of the alerts: one of a dashboard
must have a series, and no alert may fire. `./dev dashboards` calls it with the programs (CONTACT_SYNC, PROMETHEUS)."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import series

PATIENCE = 300
DASHBOARDS = sorted((series.ALERTS.parent / "grafana").glob("*.json"))
SCRAPE_SECONDS = 5


def wait_until(condition, what):
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > until:
            sys.exit(f"waited in vain: {what}")
        time.sleep(0.3)
    return found


def logged(log, message):
    """Where the demo says in its log that something is served."""
    for line in log.read_text().splitlines() if log.exists() else ():
        if message in line and "listen=" in line:
            return line.rpartition("listen=")[2].split()[0]
    return None


def start_prometheus(folder, target):
    (folder / "alerts.yaml").write_text(series.ALERTS.read_text())
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{"job_name": "contact-sync", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    log = folder / "prometheus.log"
    process = subprocess.Popen(
        [os.environ["PROMETHEUS"], f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/series",
         "--web.listen-address=127.0.0.1:0", "--log.format=json"],
        stdin=subprocess.DEVNULL, stdout=log.open("w"), stderr=subprocess.STDOUT,
    )

    def address():
        for line in log.read_text().splitlines():
            if '"Listening on"' in line:
                return json.loads(line)["address"]
        return None if process.poll() is None else sys.exit(log.read_text()[-2000:])

    return process, "http://" + wait_until(address, "Prometheus")


def ask(prometheus, path, **parameters):
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        return json.load(urllib.request.urlopen(url, timeout=30))["data"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{parameters}: {error.read().decode()}")


def expressions():
    """Of every panel: dashboard, title, expression as it stands there."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield path.stem, panel["title"], target["expr"]


def check(prometheus, call):
    def found(expression):
        asked = expression.replace("$__rate_interval", "1m")
        return [one for one in ask(prometheus, "query", query=asked)["result"] if one["value"][1] != "NaN"]

    def empty():
        call()
        return [one for one in expressions() if not ask(prometheus, "query", query=one[2].replace("$__rate_interval", "1m"))["result"]]

    # What counts needs two scrapes, and figures about integrations come every half minute.
    until = time.monotonic() + 120
    while (missing := empty()) and time.monotonic() < until:
        time.sleep(2)
    for dashboard, title, expression in expressions():
        print(f"{dashboard:8}{title:38}{len(found(expression)):4} series")
    for dashboard, title, expression in missing:
        print(f"no series: {dashboard}, {title}: {expression}")
    rules = [rule for group in ask(prometheus, "rules")["groups"] for rule in group["rules"]]
    wrong = [f"{rule['name']}: {rule['health']} {rule['state']} {rule.get('lastError', '')}" for rule in rules
             if rule["health"] != "ok" or rule["state"] == "firing"]
    print(*wrong, f"{len(list(expressions()))} expressions, {len(rules)} alerts", sep="\n")
    return not missing and not wrong and bool(rules)


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="contact-sync-dash."))
    # PostgreSQL's user goes through it.
    folder.chmod(0o711)
    program, data = os.environ["CONTACT_SYNC"], folder / "demo"
    demo = prometheus_process = None
    good = False
    try:
        story = folder / "story.txt"
        demo = subprocess.Popen(
            [program, "--data-dir", str(folder), "--listen", "127.0.0.1:0", "demo", "--contacts", "100"],
            stdin=subprocess.DEVNULL, stdout=story.open("w"), stderr=subprocess.STDOUT,
        )
        admin = wait_until(lambda: demo.poll() is not None or logged(data / "service.log", "/metrics"), "the demo's service")
        if demo.poll() is not None:
            sys.exit(story.read_text()[-2000:])
        prometheus_process, prometheus = start_prometheus(folder, admin)

        def export(name):
            for line in story.read_text().splitlines():
                if f"export {name}=" in line:
                    return line.rpartition("=")[2].strip('"')
            return None if demo.poll() is None else sys.exit(story.read_text()[-2000:])

        account = wait_until(lambda: export("CONTACT_SYNC_ACCOUNT"), "the demo's story")
        server = export("CONTACT_SYNC_SERVER") or "http://127.0.0.1:50051"

        def call():
            for number in ("+1 310 867 5309", "+1 310 555 0177", "5035550188"):
                subprocess.run([program, "--data-dir", str(data), "match", "--account", account, "--server", server, number],
                               capture_output=True, timeout=PATIENCE)

        good = check(prometheus, call)
    finally:
        for process in (prometheus_process, demo):
            if process and process.poll() is None:
                process.terminate()
                process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(not good)


if __name__ == "__main__":
    main()
