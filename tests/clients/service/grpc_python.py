"""grpcio against the service: every step prints `ok NAME`; the first failure ends with exit code 1."""

import os

from service import PATIENCE, Service, compile_protos, ok

compile_protos(os.environ["PROTO"])

import connections  # noqa: E402
import grpcurl  # noqa: E402
import contact_sync_client  # noqa: E402
import reflection  # noqa: E402
from story import Story, check_completeness  # noqa: E402

service = Service()
try:
    config = connections.SERVICE_CONFIG
    channel = contact_sync_client.open_channel(service.address, config)
    contact_sync_client.connect(channel, PATIENCE)
    methods = connections.methods_of(channel)
    check_completeness(methods)
    ok("every method has its step")
    story = Story(service, methods)
    story.walk()
    grpcurl.check(service, methods, story.kept["account"])
    reflection.check(channel, service, methods, story.kept["account"])
    connections.check(channel, service, methods, story.kept)
    channel.close()
except BaseException:
    print("the service's log:", *service.lines[-10:], sep="\n")
    raise
finally:
    for replica in Service.started:
        if replica.process.poll() is None:
            replica.process.kill()
faults = [line for replica in Service.started for line in replica.faults()]
assert not faults, faults
ok("nothing in the log is a fault")
