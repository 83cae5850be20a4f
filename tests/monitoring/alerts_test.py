"""Writes the file with which `promtool test rules` proves deploy/alerts.yaml: every series is one that a real service has
shown (scrapes/, made by record.py), continued as its two scrapes say. `./dev check` calls it with the file to write.

An hour of two healthy replicas comes first, then an hour of what a trouble did. In the healthy hour nothing fires; at the end of
a trouble what stands here fires and nothing else; and each alert of the file stands here."""

import json
import re
import sys

import series

# Minutes.
HEALTHY, TROUBLE = 60, 60
# What a trouble leads to, after an hour of it; then what it may lead to besides.
EXPECTED = {
    "database": ({"NobodyAnswers", "NotReady", "FiguresOld", "CallsFail", "PoolWaitsInVain"}, {"CallsSlow"}),
    "tokens": ({"CallersLockedOut", "TokensRefused"}, set()),
    "slow": ({"CallsSlow"}, {"CallsFail", "PoolWaitsInVain"}),
    "room": ({"CallsRefused", "RoomNearlyFull", "CallsFail"}, {"CallsSlow", "PoolWaitsInVain"}),
    "credentials": ({"AuthFailed"}, set()),
    "paused": ({"Paused"}, set()),
    "unreached": ({"CrmDoesNotAnswer", "Stale"}, set()),
    "idle": ({"Overdue"}, {"Stale"}),
    "quota": ({"QuotaPaused", "QuotaNearlySpent"}, set()),
    "rejected": ({"RecordsRejected"}, set()),
    "log": ({"LogLinesLost"}, set()),
    "events": ({"PushDegraded", "EventsUnsigned"}, set()),
}
# Ages that go on growing in a trouble.
GROWING = {"database": "contact_sync_statistics_age_seconds"}
REPLICAS = ("a:9464", "b:9464")


class Timeline:
    """The values of one process' series, one a minute; None: not there."""

    def __init__(self):
        self.values, self.minutes = {}, 0

    def follow(self, name, minutes):
        """Goes on as a pair of scrapes says: gauges as they were at last, counters as they grew."""
        seconds, before, after = series.read(name)
        for key in {*self.values, *after}:
            past = self.values.setdefault(key, [None] * self.minutes)
            grown = (after.get(key, 0) - before.get(key, 0)) / seconds * 60
            if series.is_counter(key):
                start = past[-1] if past and past[-1] is not None else after.get(key)
                past.extend(start + grown * minute if key in after else start for minute in range(minutes))
            elif key == GROWING.get(name):
                past.extend(after[key] + grown * minute for minute in range(minutes))
            else:
                past.extend([after.get(key)] * minutes)
        self.minutes += minutes
        return self

    def rest(self, minutes):
        """Nothing happens: nobody calls, no run begins."""
        for past in self.values.values():
            past.extend([past[-1]] * minutes)
        self.minutes += minutes
        return self

    def vanish(self, minutes):
        """It is not there."""
        for past in self.values.values():
            past.extend([None] * minutes)
        self.minutes += minutes
        return self

    def begin_anew(self, name, minutes):
        """A new process in its place: its counters are small."""
        fresh = Timeline().follow(name, minutes)
        for key in {*self.values, *fresh.values}:
            past = self.values.setdefault(key, [None] * self.minutes)
            past.extend(fresh.values.get(key, [None] * minutes))
        self.minutes += minutes
        return self


def labelled(key, instance):
    name, _, labels = key.partition("{")
    return f'{name}{{instance="{instance}",job="contact-sync"' + ("," + labels if labels else "}")


def notation(values):
    return " ".join("_" if value is None else f"{value:.10g}" for value in values)


def test(name, replicas, checks):
    """`checks`: minutes, the alerts that fire then, and those that may; without their common beginning."""
    shown = []
    for instance, timeline in zip(REPLICAS, replicas):
        ups = [1 if present is not None else 0 for present in timeline.values["contact_sync_ready"]]
        shown.append({"series": f'up{{instance="{instance}",job="contact-sync"}}', "values": notation(ups)})
        shown += [
            {"series": labelled(key, instance), "values": notation(values)} for key, values in sorted(timeline.values.items())
        ]
    return {
        "name": name,
        "interval": "1m",
        "input_series": shown,
        "promql_expr_test": [expectation(*check) for check in checks],
    }


def expectation(minute, alerts, others=()):
    but = "|".join(f"ContactSync{other}" for other in sorted(others))
    return {
        "expr": f'group by (alertname) (ALERTS{{alertstate="firing",alertname!~"{but}"}})',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": f'{{alertname="ContactSync{alert}"}}', "value": 1} for alert in sorted(alerts)],
    }


def told_of(minute, instance):
    """Whatever fires names this process, and no other."""
    return {
        "expr": 'group by (instance) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": f'{{instance="{instance}"}}', "value": 1}],
    }


def healthy():
    return Timeline().follow("healthy", HEALTHY)


def tests():
    hours = HEALTHY + TROUBLE
    quiet = [(minute, ()) for minute in range(5, HEALTHY, 5)]
    yield test("a healthy hour", [healthy(), healthy()], [(minute, ()) for minute in range(1, HEALTHY)])
    for trouble, (alerts, others) in EXPECTED.items():
        replicas = [healthy().follow(trouble, TROUBLE)] * 2
        yield test(trouble, replicas, [*quiet, (hours - 1, alerts, others)])
    # One of two: the other one's calls are answered.
    yield test("one stands still", [healthy().follow("database", TROUBLE), healthy().follow("healthy", TROUBLE)],
               [*quiet, (hours - 1, {"NotReady", "FiguresOld", "CallsFail", "PoolWaitsInVain"}, {"CallsSlow"})])
    alone = test("one refuses tokens", [healthy().follow("tokens", TROUBLE), healthy().follow("healthy", TROUBLE)],
                 [*quiet, (HEALTHY + 10, EXPECTED["tokens"][0]), (hours - 1, EXPECTED["tokens"][0])])
    alone["promql_expr_test"].append(told_of(hours - 1, REPLICAS[0]))
    yield alone
    yield test("one is gone", [healthy().vanish(TROUBLE), healthy().follow("healthy", TROUBLE)], [*quiet, (hours - 1, {"Down"})])
    yield test("all are gone", [healthy().vanish(TROUBLE)] * 2, [*quiet, (hours - 1, {"Down", "NobodyAnswers"})])
    yield test("nobody calls", [healthy().rest(TROUBLE)] * 2, [(minute, ()) for minute in range(1, hours, 5)])
    anew = healthy().begin_anew("healthy", TROUBLE)
    yield test("processes begin anew", [anew] * 2, [(minute, ()) for minute in range(1, hours)])


def main():
    known = set(re.findall(r"alert: ContactSync(\w+)", series.ALERTS.read_text()))
    proved = {alert for alerts, _ in EXPECTED.values() for alert in alerts} | {"Down"}
    if known != proved:
        sys.exit(f"alerts without a trouble that shows them, or the other way round: {sorted(known ^ proved)}")
    whole = {"rule_files": [str(series.ALERTS)], "evaluation_interval": "1m", "tests": list(tests())}
    # JSON is YAML.
    with open(sys.argv[1], "w") as out:
        json.dump(whole, out)


if __name__ == "__main__":
    main()
