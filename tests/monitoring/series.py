"""Scrapes of a service, as they are kept in files: a comment that says when, then lines as Prometheus reads them."""

import pathlib
import re
import urllib.request

HERE = pathlib.Path(__file__).parent
SCRAPES = HERE / "scrapes"
ALERTS = HERE.parent.parent / "deploy" / "alerts.yaml"
NAME = re.compile(r"contact_sync_[a-z_]+")


def named_by_alerts():
    """The metrics that alerts read: a fixture holds no others."""
    return set(NAME.findall(ALERTS.read_text()))


def fetch(url):
    """Every series with its value."""
    text = urllib.request.urlopen(url, timeout=30).read().decode()
    return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[:1] not in ("", "#"))}


def is_counter(key):
    return key.partition("{")[0].endswith(("_total", "_bucket", "_sum", "_count"))


def write(name, scrapes):
    """Two scrapes of one process: `scrapes` has pairs of the time in seconds, and the series."""
    names = named_by_alerts()
    for number, (at, series) in enumerate(scrapes, 1):
        lines = [f"# scraped at {at:.1f} s"]
        lines += [f"{key} {value!r}" for key, value in sorted(series.items()) if key.partition("{")[0] in names]
        (SCRAPES / f"{name}.{number}.txt").write_text("\n".join(lines) + "\n")


def read(name):
    """The seconds between the two, and both."""
    times, scrapes = [], []
    for number in (1, 2):
        first, *lines = (SCRAPES / f"{name}.{number}.txt").read_text().splitlines()
        times.append(float(first.split()[3]))
        scrapes.append({key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines)})
    return times[1] - times[0], *scrapes
