"""simple-salesforce against the simulated Salesforce.

SALESFORCE_URL is the simulator's base URL. Every step prints `ok NAME`; the first failure ends with exit code 1. The
client knows https only: its session is told to speak http to the simulator instead.
"""

import csv
import io
import os
import time
from datetime import datetime, timedelta, timezone

import requests
from simple_salesforce import Salesforce, SFType
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceResourceNotFound,
)

BASE = os.environ["SALESFORCE_URL"]
MARKER = f"Simple{time.time_ns()}"
MINE = f"LastName LIKE '{MARKER}%'"


class PlainSession(requests.Session):
    """Speaks http where the client says https."""

    def request(self, method, url, *args, **kwargs):
        return super().request(method, url.replace("https://", "http://", 1), *args, **kwargs)


def ok(name):
    print(f"ok {name}", flush=True)


def expect(error, work):
    try:
        work()
    except error as refusal:
        return refusal
    raise AssertionError(f"{error.__name__} is expected")


def token(**fields):
    client = {"client_id": "client", "client_secret": "secret"}
    return requests.post(f"{BASE}/services/oauth2/token", data={**client, **fields}, timeout=10)


session_id = token(grant_type="client_credentials").json()["access_token"]
client = Salesforce(instance_url=BASE, session_id=session_id, session=PlainSession(), version="67.0")
contacts: SFType = client.Contact
ok("token")

ids = []
for number in range(5):
    made = contacts.create({"LastName": f"{MARKER} {number}", "Phone": f"(415) 555-010{number}"})
    assert made["success"] and len(made["id"]) == 18, made
    ids.append(made["id"])
refusal = expect(SalesforceMalformedRequest, lambda: contacts.create({"FirstName": "x"}))
assert refusal.content[0]["errorCode"] == "REQUIRED_FIELD_MISSING", refusal.content
ok("create")

record = contacts.get(ids[0][:15])
assert (record["Id"], record["Phone"]) == (ids[0], "(415) 555-0100"), record
expect(SalesforceResourceNotFound, lambda: contacts.get("003D000000QV9n2IAD"))
ok("get")

page = client.query(f"SELECT Id, Name, SystemModstamp FROM Contact WHERE {MINE} ORDER BY SystemModstamp, Id")
assert (page["totalSize"], page["done"]) == (5, True), page
assert [row["Id"] for row in page["records"]] == ids
ok("query")

# More rows than a page of 200 has: over the API's own collections, 200 at once.
for start in (0, 200):
    records = [{"attributes": {"type": "Contact"}, "LastName": f"{MARKER} x{start + number}"} for number in range(200)]
    results = client.restful("composite/sobjects", method="POST", json={"records": records})
    assert all(result["success"] for result in results)
small = {"Sforce-Query-Options": "batchSize=200"}
everything = f"SELECT Id, Account.Name FROM Contact WHERE {MINE} ORDER BY Id"
page = client.query(everything, headers=small)
assert (page["done"], len(page["records"])) == (False, 200), page["done"]
rest = client.query_more(page["nextRecordsUrl"], True)
again = client.query_more(page["nextRecordsUrl"].rsplit("/", 1)[1])
assert rest["records"] == again["records"]
assert len(client.query_all(everything, headers=small)["records"]) == 405
ok("pages")

since = client.query(f"SELECT SystemModstamp FROM Contact WHERE {MINE} ORDER BY SystemModstamp DESC LIMIT 1")
since = since["records"][0]["SystemModstamp"].replace("+0000", "Z")
time.sleep(0.005)
assert contacts.update(ids[1], {"MobilePhone": "1", "Phone": None}) == 204
changed = client.query(f"SELECT Id, Phone, MobilePhone FROM Contact WHERE {MINE} AND SystemModstamp > {since}")
assert [(row["Id"], row["Phone"], row["MobilePhone"]) for row in changed["records"]] == [(ids[1], None, "1")]
ok("increment")

assert contacts.delete(ids[2]) == 204
gone = f"SELECT Id, IsDeleted FROM Contact WHERE {MINE} AND IsDeleted = true"
assert client.query(gone)["totalSize"] == 0
assert [row["Id"] for row in client.query(gone, include_deleted=True)["records"]] == [ids[2]]
assert client.query_all(everything, include_deleted=True, headers=small)["totalSize"] == 405
expect(SalesforceResourceNotFound, lambda: contacts.delete(ids[2]))
ok("delete and queryAll")


def soap(body):
    header = f'<SessionHeader xmlns="urn:partner.soap.sforce.com"><sessionId>{session_id}</sessionId></SessionHeader>'
    envelope = (
        '<se:Envelope xmlns:se="http://schemas.xmlsoap.org/soap/envelope/">'
        f'<se:Header>{header}</se:Header><se:Body xmlns="urn:partner.soap.sforce.com">{body}</se:Body></se:Envelope>'
    )
    headers = {"Content-Type": "text/xml", "SOAPAction": '""'}
    answer = requests.post(f"{BASE}/services/Soap/u/67.0", data=envelope, headers=headers, timeout=10)
    assert answer.status_code == 200 and "<success>true</success>" in answer.text, answer.text


soap(f"<undelete><ids>{ids[2]}</ids></undelete>")
assert contacts.get(ids[2])["IsDeleted"] is False
losers = "".join(f"<recordToMergeIds>{loser}</recordToMergeIds>" for loser in ids[3:5])
soap(
    f"<merge><request><masterRecord><type>Contact</type><Id>{ids[2]}</Id></masterRecord>{losers}</request></merge>"
)
merged = client.query(f"SELECT Id FROM Contact WHERE MasterRecordId = '{ids[2]}'", include_deleted=True)
assert [row["Id"] for row in merged["records"]] == ids[3:5], merged
ok("undelete and merge")

sosl = f"FIND {{4155550100}} IN PHONE FIELDS RETURNING Contact(Id, Name WHERE {MINE}), Lead(Id)"
assert [row["Id"] for row in client.search(sosl)["searchRecords"]] == [ids[0]]
assert client.quick_search("4155550100")["searchRecords"]
ok("search")

described = contacts.describe()
assert {"Phone", "MobilePhone"} <= {field["name"] for field in described["fields"] if field["type"] == "phone"}
assert {"Account", "Contact", "Lead"} <= {found["name"] for found in client.describe()["sobjects"]}
assert contacts.metadata()["objectDescribe"]["keyPrefix"] == "003"
refusal = expect(SalesforceMalformedRequest, lambda: client.query("SELECT Id, Foo FROM Contact"))
assert refusal.content[0]["errorCode"] == "INVALID_FIELD", refusal.content
ok("describe")

now = datetime.now(timezone.utc)
deleted = contacts.deleted(now - timedelta(hours=1), now + timedelta(minutes=2))
assert {"deletedRecords", "earliestDateAvailable", "latestDateCovered"} <= deleted.keys(), deleted
updated = contacts.updated(now - timedelta(hours=1), now + timedelta(minutes=2))
assert {"ids", "latestDateCovered"} <= updated.keys(), updated
refusal = expect(SalesforceMalformedRequest, lambda: contacts.deleted(now - timedelta(days=20), now))
assert refusal.content[0]["errorCode"] == "INVALID_REPLICATION_DATE", refusal.content
ok("deleted and updated")

limits = client.limits()["DailyApiRequests"]
usage = client.api_usage["api-usage"]
assert usage.total == limits["Max"] and usage.used >= limits["Max"] - limits["Remaining"], (usage, limits)
ok("limits")

parts = list(client.bulk2.Contact.query(everything.replace("Id,", "Id, Name,"), max_records=150, wait=0.01))
rows = [row for part in parts for row in csv.DictReader(io.StringIO(part))]
assert [len(list(csv.DictReader(io.StringIO(part)))) for part in parts] == [150, 150, 103]
assert rows[0] == {"Id": ids[0], "Name": f"{MARKER} 0", "Account.Name": ""}, rows[0]
assert len({row["Id"] for row in rows}) == 403
assert sum(1 for part in client.bulk2.Contact.query_all(gone, wait=0.01) for _ in csv.DictReader(io.StringIO(part))) == 2
ok("bulk2 query")

expired = Salesforce(instance_url=BASE, session_id="expired", session=PlainSession(), version="67.0")
refusal = expect(SalesforceExpiredSession, lambda: expired.query("SELECT Id FROM Contact LIMIT 1"))
assert refusal.content[0]["errorCode"] == "INVALID_SESSION_ID", refusal.content
ok("expired session")


class LoginSession(PlainSession):
    """Leads the login host to the simulator."""

    def request(self, method, url, *args, **kwargs):
        return super().request(method, url.replace("https://login.salesforce.com", BASE, 1), *args, **kwargs)


login = {"username": "admin@example.com", "password": "secret", "version": "67.0"}
logged_in = Salesforce(security_token="token", session=LoginSession(), **login)
assert logged_in.query("SELECT Id FROM User")["totalSize"] >= 1
# A session that has expired is renewed by a login of its own.
logged_in.session_id = "expired"
logged_in._generate_headers()
assert logged_in.query("SELECT Id FROM User")["totalSize"] >= 1
refusal = expect(
    SalesforceAuthenticationFailed, lambda: Salesforce(**{**login, "password": "x"}, security_token="", session=LoginSession())
)
assert "INVALID_LOGIN" in str(refusal), refusal
ok("login and renewal")
