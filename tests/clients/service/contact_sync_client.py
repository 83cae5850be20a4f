"""The Python of docs/clients.md, as the tests run it: each block there stands here, word for word."""

import time

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from contactsync.v1 import caller_pb2


def open_channel(address, service_config, credentials=None, authority=None):
    """One for the whole process: every call shares its connections."""
    options = [
        ("grpc.service_config", service_config),
        # A server that was away for long is found within two seconds of its return.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A connection that a firewall has forgotten is noticed before the next phone rings.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if authority:
        options.append(("grpc.default_authority", authority))
    if credentials:
        return grpc.secure_channel(address, credentials, options)
    return grpc.insecure_channel(address, options)


def connect(channel, timeout):
    """Until the channel is connected."""
    grpc.channel_ready_future(channel).result(timeout)


def match_caller(caller, token, account_id, phone_number, call_id, timeout=0.3):
    """Who is calling, by a `caller_pb2_grpc.CallerServiceStub(channel)`; None: connect the call without a name."""
    request = caller_pb2.MatchCallerRequest(account_id=account_id, phone_number=phone_number, call_id=call_id)
    try:
        return caller.MatchCaller(request, metadata=[("authorization", "Bearer " + token)], timeout=timeout)
    except grpc.RpcError as error:
        # The log of your router: the code and the reason, never the number.
        print(error.code().name, error_details(error).get("ErrorInfo"))
        return None


DETAILS = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)


def error_details(error):
    """What an error carries, by its kind: ErrorInfo, BadRequest, RetryInfo."""
    found = {}
    status = rpc_status.from_call(error)
    for packed in status.details if status else []:
        for kind in DETAILS:
            detail = kind()
            if packed.Unpack(detail):
                found[kind.DESCRIPTOR.name] = detail
    return found


def call_again(call, tries=5, pause=0.2):
    """For writes that may be repeated: tries again what time mends, after the time that the server asks for."""
    for left in reversed(range(tries)):
        try:
            return call()
        except grpc.RpcError as error:
            retry = error_details(error).get("RetryInfo")
            if left == 0 or not (retry or error.code() == grpc.StatusCode.UNAVAILABLE):
                raise
            time.sleep(retry.retry_delay.ToTimedelta().total_seconds() if retry else pause)


def watch_health(channel, service=""):
    """The states of a service as they change; the stream ends when the server does."""
    request = health_pb2.HealthCheckRequest(service=service)
    for answer in health_pb2_grpc.HealthStub(channel).Watch(request):
        yield health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
