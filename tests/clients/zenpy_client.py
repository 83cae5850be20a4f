"""zenpy against the simulated Zendesk.

ZENDESK_URL is the simulator's base URL. Every step prints `ok NAME`; the first failure ends with exit code 1.
"""

import os
from urllib.parse import urlsplit

url = urlsplit(os.environ["ZENDESK_URL"])
# zenpy builds its URLs from a subdomain; these two send it elsewhere.
os.environ["ZENPY_FORCE_SCHEME"] = url.scheme
os.environ["ZENPY_FORCE_NETLOC"] = url.netloc

from zenpy import Zenpy  # noqa: E402
from zenpy.lib.api_objects import Identity, User  # noqa: E402
from zenpy.lib.exception import APIException, RecordNotFoundException  # noqa: E402

CREDENTIALS = {"subdomain": "acme", "email": "admin@example.com", "token": "secret"}
# zenpy answers from its cache otherwise.
client = Zenpy(**CREDENTIALS, disable_cache=True)


def ok(name):
    print(f"ok {name}", flush=True)


def refused(kind, call):
    try:
        call()
    except kind:
        return True
    return False


assert client.users.me().role == "admin"
bearer = Zenpy(subdomain="acme", oauth_token="zendesk-token", disable_cache=True)
assert bearer.users.me().role == "admin"
ok("me")

ann = client.users.create(User(name="Zenpy Ann", email="zenpy.ann@example.com", phone="+15550200"))
assert ann.phone == "+15550200" and ann.shared_phone_number is False
bob = client.users.create(User(name="Zenpy Bob", phone="+15550200"))
assert bob.shared_phone_number is True
others = [client.users.create(User(name=f"Zenpy {number}")) for number in range(120)]
assert refused(APIException, lambda: client.users.create(User(name="Twice", email="Zenpy.Ann@example.com")))
ok("create")

assert client.users(id=ann.id).name == "Zenpy Ann"
assert refused(RecordNotFoundException, lambda: client.users(id=1))
assert [user.id for user in client.users(ids=[ann.id, bob.id])] == [ann.id, bob.id]
ok("show")

listed = [user.id for user in client.users()]
assert {ann.id, bob.id, *(user.id for user in others)} <= set(listed)
assert len(listed) == len(set(listed))
ok("list and page")

export = client.users.incremental(start_time=0, paginate_by_time=False, per_page=50, include=["identities"])
seen = [user.id for user in export]
assert {ann.id, bob.id, *(user.id for user in others)} <= set(seen)
cursor = export.after_cursor
assert cursor
bob.notes = "changed"
assert client.users.update(bob).notes == "changed"
changed = {user.id for user in client.users.incremental(cursor=cursor, paginate_by_time=False)}
assert bob.id in changed and ann.id not in changed
ok("increment")

identity = client.users.identities.create(ann, Identity(type="phone_number", value="+15550299"))
assert [known.value for known in client.users.identities(id=ann.id)] == [
    "zenpy.ann@example.com",
    "+15550200",
    "+15550299",
]
client.users.identities.delete(ann, identity)
assert len(list(client.users.identities(id=ann.id))) == 2
ok("identities")

ann.phone = "+15550211"
assert client.users.update(ann).phone == "+15550211"
ok("update")

assert [user.id for user in client.users.search(query="phone:*5550211")] == [ann.id]
assert [user.id for user in client.search("phone:*5550211", type="user")] == [ann.id]
ok("search")

assert client.users.merge(others[0], ann).id == ann.id
assert client.users(id=others[0].id).active is False
ok("merge")

client.users.delete(bob)
assert client.users(id=bob.id).active is False
assert bob.id in {user.id for user in client.users.deleted()}
client.users.permanently_delete(bob)
assert refused(RecordNotFoundException, lambda: client.users(id=bob.id))
ok("delete")
