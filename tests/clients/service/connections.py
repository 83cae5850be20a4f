"""What a client does beside plain calls: details of errors, deadlines, cancels, large messages, crowds, pings, a restart."""

import importlib
import json
import os
import pathlib
import threading
import time
import urllib.request
from concurrent import futures

import grpc
from contact_sync_client import call_again, error_details, match_caller, open_channel, watch_health
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from service import PATIENCE, Relay, Service, new_id, ok, wait_until
from story import refusal, refused

SERVICE_CONFIG = (pathlib.Path(__file__).parent / "service-config.json").read_text()
TLS = pathlib.Path(__file__).parent / "tls"
WATCHERS_MAX = 32
# For several addresses: this client would send the whole list as :authority, which is none.
REPLICAS = [("grpc.default_authority", "contact-sync"), ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1_000)]
# Of a connection, in seconds: a tenth less than what `service` sets.
AGE_MAX = 9


def bearer(token):
    return [("authorization", "Bearer " + token)] if token else []


def methods_of(channel):
    """Every method of the proto files, by its path: called with a dictionary, a token and a deadline in seconds."""
    methods = {}
    for file in pathlib.Path(os.environ["PROTO"], "contactsync/v1").glob("*.proto"):
        messages = importlib.import_module(f"contactsync.v1.{file.stem}_pb2")
        stubs = importlib.import_module(f"contactsync.v1.{file.stem}_pb2_grpc")
        for service in messages.DESCRIPTOR.services_by_name.values():
            stub = getattr(stubs, service.name + "Stub")(channel)
            for method in service.methods:
                methods[f"/{service.full_name}/{method.name}"] = caller_of(getattr(stub, method.name), method)
    return methods


def caller_of(stub, method):
    request = GetMessageClass(method.input_type)

    def call(fields, token, timeout=PATIENCE, metadata=(), **options):
        answer = stub(request(**fields), metadata=[*bearer(token), *metadata], timeout=timeout, **options)
        # Of a stream the last.
        return list(answer)[-1] if method.server_streaming else answer

    call.stub, call.request = stub, request
    return call


class Steady:
    """Calls and calls; none may fail."""

    def __init__(self, target, token, options=()):
        self.failed, self.answered, self.stopped = [], 0, threading.Event()
        self.thread = threading.Thread(target=self.call, args=(target, token, options), daemon=True)
        self.thread.start()

    def call(self, target, token, options):
        with grpc.insecure_channel(target, options) as channel:
            accounts = methods_of(channel)["/contactsync.v1.AccountService/ListAccounts"]
            while not self.stopped.wait(0.002):
                try:
                    accounts({}, token)
                    self.answered += 1
                except grpc.RpcError as error:
                    self.failed.append(error)

    def stop(self):
        self.stopped.set()
        self.thread.join(PATIENCE)
        assert self.answered and not self.failed, (self.answered, self.failed[:5])


class Connections:
    def __init__(self, channel, service, methods, kept):
        self.channel, self.service, self.kept, self.token = channel, service, kept, service.token()
        self.account = {"account_id": kept["account"]}
        self.of = lambda name: methods["/contactsync.v1." + name]
        # Until the server ends: its connection is told to go meanwhile, for its age.
        states = []
        watcher = threading.Thread(target=lambda: states.extend(watched(channel, states)), daemon=True)
        watcher.start()
        self.watched = states, watcher

    def get_account(self, **options):
        return self.of("AccountService/GetAccount")(self.account, self.token, **options).account.id == self.kept["account"]

    def hanging(self):
        """From now on Zendesk answers nobody."""
        rule = {"path": "/", "times": None, "fault": {"kind": "hang"}}
        urllib.request.urlopen(os.environ["ZENDESK_URL"] + "/__control/faults", json.dumps(rule).encode()).close()

    def asked(self):
        with urllib.request.urlopen(os.environ["ZENDESK_URL"] + "/__control/requests") as answer:
            return answer.read()

    def refusals(self):
        for path in ("/contactsync.v1.CallerService/Nobody", "/contactsync.v2.CallerService/MatchCaller"):
            unknown = self.channel.unary_unary(path)
            refused(lambda: unknown(b"", timeout=PATIENCE), "UNIMPLEMENTED", "METHOD_NOT_SERVED")
        unreadable = self.channel.unary_unary("/contactsync.v1.AccountService/GetAccount")
        refused(lambda: unreadable(b"\xff", metadata=bearer(self.token), timeout=PATIENCE), "INVALID_ARGUMENT", "MESSAGE_UNREADABLE")
        again = {"provider": "PROVIDER_ZENDESK", "connection": {"zendesk_subdomain": "acme"},
                 "credentials": {"zendesk_api_token": {"email": "admin@example.com", "token": "secret"}}}
        enable = self.of("SyncService/EnableSync")
        details = refused(lambda: enable({**self.account, **again}, self.token), "ALREADY_EXISTS", "INTEGRATION_EXISTS")
        assert details["ErrorInfo"].metadata["integration_id"] == self.kept["zendesk"]
        ok("refusals say why")

    def example(self):
        caller = importlib.import_module("contactsync.v1.caller_pb2_grpc").CallerServiceStub(self.channel)
        ask = lambda token, call_id: match_caller(caller, token, self.kept["account"], "+13105550199", call_id, PATIENCE)
        assert ask(self.token, "example-1").selected.display_name == "New Customer"
        assert ask("none", "example-2") is None
        ok("the page's example names the caller")

    def large(self):
        match = self.of("CallerService/MatchCaller")
        for size in (70_000, 3_000_000):
            request = {**self.account, "phone_number": "1" * size}
            refused(lambda: match(request, self.token), "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
        request = {**self.account, "phone_number": "+13105550199"}
        refused(lambda: match(request, self.token, metadata=[("x-large", "1" * 20_000)]), "RESOURCE_EXHAUSTED", "HEADERS_TOO_LARGE")
        assert self.get_account()
        ok("what is too large is refused, and the connection goes on")

    def metadata(self):
        parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        answer, call = self.of("AccountService/GetAccount").stub.with_call(
            self.of("AccountService/GetAccount").request(**self.account),
            metadata=[*bearer(self.token), parent, ("x-router-bin", b"\x00\xff")], timeout=PATIENCE)
        assert answer.account.id == self.kept["account"] and call.code() == grpc.StatusCode.OK
        # Under this the access log has the call.
        request_id = dict(call.initial_metadata())["x-request-id"]
        wait_until(lambda: any(request_id in line for line in self.service.lines), "the access log")
        twice = bearer(self.token)
        refused(lambda: self.get_account(metadata=twice), "UNAUTHENTICATED", "TOKEN_INVALID")
        ok("metadata")

    def compression(self):
        refused(lambda: self.get_account(compression=grpc.Compression.Gzip), "UNIMPLEMENTED", "UNIMPLEMENTED")
        assert self.get_account()
        ok("compressed messages are refused by name")

    def deadlines(self):
        self.hanging()
        test = self.of("SyncService/TestConnection")
        request = {**self.account, "provider": "PROVIDER_ZENDESK", "connection": {"zendesk_subdomain": "acme"},
                   "credentials": {"zendesk_api_token": {"email": "admin@example.com", "token": "secret"}}}
        try:
            test(request, self.token, timeout=0.5)
            raise AssertionError("was answered")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
            # If the server was first, it has said so.
            assert error_details(error).get("ErrorInfo") is None or error_details(error)["ErrorInfo"].reason == "DEADLINE_EXCEEDED"
        ok("a call ends by its deadline")
        before = self.asked()
        call = test.stub.future(test.request(**request), metadata=bearer(self.token), timeout=PATIENCE)
        wait_until(lambda: self.asked() != before, "the CRM is asked")
        assert call.cancel() and call.code() == grpc.StatusCode.CANCELLED
        assert self.get_account()
        ok("a call is cancelled, and the next is answered")

    def streams(self):
        run = self.of("SyncService/TriggerSync")({**self.account, "integration_id": self.kept["zendesk"]}, self.token).sync_run
        watch = self.of("SyncService/WatchSyncRun")
        request = watch.request(sync_run_id=run.id, **self.account)
        open_stream = lambda timeout=PATIENCE: watch.stub(request, metadata=bearer(self.token), timeout=timeout)
        seen = []
        error, _ = refusal_of_stream(open_stream(1), seen)
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and seen and all(answer.sync_run.id == run.id for answer in seen)
        stream = open_stream()
        assert next(stream).sync_run.id == run.id
        stream.cancel()
        error, _ = refusal_of_stream(stream, [])
        assert error.code() == grpc.StatusCode.CANCELLED
        assert self.get_account()
        ok("streams end by their deadline, or are cancelled")

        # A stream that has ended gives its place back when the server has noticed.
        streams = [call_again(lambda: begun(open_stream()), tries=60) for _ in range(WATCHERS_MAX)]
        error, details = refusal(lambda: next(open_stream()))
        assert (error.code().name, details["ErrorInfo"].reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_WATCHERS")
        assert details["RetryInfo"].retry_delay.ToTimedelta().total_seconds() > 0
        for stream in streams:
            stream.cancel()
        ok("RetryInfo says when to come again")
        return open_stream

    def crowd(self):
        match, get = self.of("CallerService/MatchCaller"), self.of("AccountService/GetAccount")
        token = self.service.token(self.kept["account"])
        calls = [
            match.stub.future(match.request(phone_number="+13105550199", **self.account), metadata=bearer(self.token), timeout=PATIENCE)
            for _ in range(50)
        ]
        assert all(call.result().selected.display_name == "New Customer" for call in calls)
        # More than the streams of one connection: the client waits with some.
        calls = [get.stub.future(get.request(**self.account), metadata=bearer(token), timeout=PATIENCE) for _ in range(400)]
        assert all(call.result().account.id == self.kept["account"] for call in calls)
        ok("a crowd of calls on one channel")

    def pings(self):
        relay = Relay(self.service.address)
        options = [("grpc.keepalive_time_ms", 100), ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)]
        with grpc.insecure_channel(relay.address, options) as channel:
            get = methods_of(channel)["/contactsync.v1.AccountService/GetAccount"]
            get(self.account, self.token)
            # Of 17 bytes each; one a second is as often as this client does it.
            before, begun_at = relay.sent, time.monotonic()
            wait_until(lambda: relay.sent >= before + 4 * 17, "pings")
            get(self.account, self.token)
            # One may be told to go for its age.
            old = (time.monotonic() - begun_at) // AGE_MAX
            assert relay.connections <= 1 + old, "the server has sent the client away"
        ok("frequent pings are no reason to be sent away")

    def tls(self):
        read = lambda name: (TLS / name).read_bytes()
        files = {"tls.certificate_file": TLS / "server.pem", "tls.key_file": TLS / "server.key", "tls.client_ca_file": TLS / "ca.pem"}
        service = Service(beside=self.service, **files)
        address = "localhost:" + service.address.split(":")[1]
        shown = grpc.ssl_channel_credentials(read("ca.pem"), read("client.key"), read("client.pem"))
        for credentials, code in ((shown, None), (grpc.ssl_channel_credentials(read("ca.pem")), "UNAVAILABLE"), (None, "UNAVAILABLE")):
            with open_channel(address, "{}", credentials) as channel:
                get = methods_of(channel)["/contactsync.v1.AccountService/GetAccount"]
                try:
                    assert get(self.account, self.token).account.id == self.kept["account"] and not code, credentials
                except grpc.RpcError as error:
                    assert error.code().name == code, error
        service.process.kill()
        ok("TLS, for those who show a certificate")

    def health(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        request = lambda name: health_pb2.HealthCheckRequest(service=name)
        names = ["", *("contactsync.v1." + name for name in ("AccountService", "CallerService", "ContactService", "SyncService"))]
        serving = health_pb2.HealthCheckResponse.SERVING
        assert all(stub.Check(request(name), timeout=PATIENCE).status == serving for name in names)
        listed = stub.List(health_pb2.HealthListRequest(), timeout=PATIENCE).statuses
        assert {name: answer.status for name, answer in listed.items()} == {name: serving for name in names}
        refused(lambda: stub.Check(request("nobody"), timeout=PATIENCE), "NOT_FOUND", "SERVICE_NOT_FOUND")
        assert next(watch_health(self.channel, "nobody")) == "SERVICE_UNKNOWN"
        ok("health is told of each service")

    def restart(self, open_stream):
        beside, relay = Service(beside=self.service), Relay(self.service.address)
        options = [("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'), *REPLICAS]
        steady = Steady(f"ipv4:{relay.address},{beside.address}", self.token, options)
        wait_until(lambda: relay.connections > 0 and steady.answered > 0, "both replicas are called")
        states, watcher = self.watched
        assert states == ["SERVING"]
        stream = begun(open_stream())
        self.service.terminate()
        wait_until(lambda: states == ["SERVING", "NOT_SERVING"], "health is NOT_SERVING")
        assert self.get_account()
        error, details = refusal_of_stream(stream, [])
        assert (error.code().name, details["ErrorInfo"].reason) == ("UNAVAILABLE", "SHUTTING_DOWN"), error
        watcher.join(PATIENCE)
        assert states == ["SERVING", "NOT_SERVING", "END"], states
        assert self.service.end() == 0
        ok("a server that ends says so, answers meanwhile, and lets nobody hang")
        try:
            self.get_account(timeout=5)
            raise AssertionError("was answered")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        connected = relay.connections
        self.service.start()
        assert call_again(self.get_account, tries=100, pause=0.1)
        assert next(watch_health(self.channel)) == "SERVING"
        ok("the channel finds the server again")
        wait_until(lambda: relay.connections > connected, "the restarted replica is called")
        beside.terminate()
        assert beside.end() == 0
        steady.stop()
        ok("replicas are restarted one after the other, and no call fails")


def begun(stream):
    next(stream)
    return stream


def watched(channel, states):
    for state in watch_health(channel):
        states.append(state)
    return ["END"]


def refusal_of_stream(stream, seen):
    """Reads to the end, which must be an error."""
    try:
        for answer in stream:
            seen.append(answer)
    except grpc.RpcError as error:
        return error, error_details(error)
    raise AssertionError("the stream ended well")


class Refusing(grpc.GenericRpcHandler):
    """A server that is UNAVAILABLE, whatever it is asked, and counts how often."""

    def __init__(self):
        self.asked = []

    def service(self, details):
        self.asked.append(details.method)
        return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "away"))


def retries(methods):
    known = {tuple(path[1:].split("/")) for path in methods}
    for name in (name for config in json.loads(SERVICE_CONFIG)["methodConfig"] for name in config["name"]):
        assert any(name["service"] == service and name.get("method", method) == method for service, method in known), name
    server, refusing = grpc.server(futures.ThreadPoolExecutor(4)), Refusing()
    server.add_generic_rpc_handlers([refusing])
    address = "127.0.0.1:%d" % server.add_insecure_port("127.0.0.1:0")
    server.start()
    tries = {"CallerService/MatchCaller": 3, "CallerService/SelectMatch": 3, "SyncService/GetIntegration": 4,
             "SyncService/EnableSync": 1, "SyncService/TriggerSync": 1}
    with open_channel(address, SERVICE_CONFIG) as channel:
        for name in tries:
            error = methods_of(channel)["/contactsync.v1." + name]
            try:
                error({"account_id": new_id()}, "none")
                raise AssertionError("was answered")
            except grpc.RpcError as failed:
                assert failed.code() == grpc.StatusCode.UNAVAILABLE, failed
    counted = {name: refusing.asked.count("/contactsync.v1." + name) for name in tries}
    assert counted == tries, counted
    server.stop(None)
    ok("the service config repeats what may be repeated, and nothing else")


def check(channel, service, methods, kept):
    relay = Relay(service.address)
    # With nothing set.
    steady = Steady(relay.address, service.token())
    connections = Connections(channel, service, methods, kept)
    connections.refusals()
    connections.example()
    connections.large()
    connections.metadata()
    connections.compression()
    retries(methods)
    connections.tls()
    connections.health()
    connections.crowd()
    connections.pings()
    connections.deadlines()
    open_stream = connections.streams()
    wait_until(lambda: relay.connections > 1, "a connection is told to go")
    steady.stop()
    ok("calls go on when the server tells a connection to go")
    connections.restart(open_stream)
