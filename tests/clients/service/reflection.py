"""Reflection: finds the services by it and builds the messages, and they are those of the proto files."""

from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from service import PATIENCE, ok


def shape(message):
    """A message's fields, as far as they are on the wire."""
    kind = lambda field: (field.message_type or field.enum_type).full_name if field.message_type or field.enum_type else None
    return {(field.name, field.number, field.type, kind(field)) for field in message.fields}


def check(channel, service, methods, account):
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    names = set(database.get_services())
    ours = {path.split("/")[1] for path in methods}
    assert ours < names and "grpc.health.v1.Health" in names, names
    found = set()
    for name in names:
        reflected = pool.FindServiceByName(name)
        if name in ours:
            found |= {f"/{name}/{method.name}" for method in reflected.methods}
            for method in reflected.methods:
                filed = Default().FindServiceByName(name).methods_by_name[method.name]
                assert shape(method.input_type) == shape(filed.input_type), method.name
                assert shape(method.output_type) == shape(filed.output_type), method.name
    assert found == set(methods), found ^ set(methods)
    ok("reflection tells of every method")

    method = pool.FindServiceByName("contactsync.v1.AccountService").methods_by_name["GetAccount"]
    request, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    call = channel.unary_unary(
        "/contactsync.v1.AccountService/GetAccount",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
    metadata = [("authorization", "Bearer " + service.token())]
    assert call(request(account_id=account), metadata=metadata, timeout=PATIENCE).account.id == account
    ok("reflection builds messages that are understood")
