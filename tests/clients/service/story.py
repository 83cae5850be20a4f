"""Walks story.json: every method rightly and wrongly, in the order in which a customer comes to it."""

import json
import os
import pathlib
import urllib.request

import grpc
from contact_sync_client import error_details
from google.protobuf.descriptor import FieldDescriptor
from service import PATIENCE, new_id, ok

STORY = json.loads((pathlib.Path(__file__).parent / "story.json").read_text())["steps"]
CRM_HEADERS = {
    "zendesk": {"authorization": "Bearer zendesk-token"},
    "pipedrive": {"x-api-token": "pipedrive-token"},
}


def path_of(step):
    return f"/contactsync.v1.{step['call']}"


def check_completeness(methods):
    """A method that is added later needs a step, and something wrong to refuse."""
    assert set(methods) == {path_of(step) for step in STORY if "call" in step}, "story.json has other methods"
    refused = {path_of(step) for step in STORY if "wrong" in step}
    assert set(methods) == refused, f"nothing wrong is tried of {set(methods) - refused}"


def fill(value, kept):
    """The value with what `$name` stands for."""
    if isinstance(value, dict):
        return {key: fill(inner, kept) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, kept) for inner in value]
    return kept[value[1:]] if isinstance(value, str) and value.startswith("$") else value


def look_up(message, path):
    """What stands at a path: enums by their names, numbers of 64 bits as texts, as in proto's JSON form."""
    for part in path.split("."):
        if part == "#":
            return "some" if isinstance(message, str) and message else len(message)
        if part.isdigit():
            message = message[int(part)]
            continue
        field, message = message.DESCRIPTOR.fields_by_name[part], getattr(message, part)
        if field.type == FieldDescriptor.TYPE_ENUM:
            message = field.enum_type.values_by_number[message].name
        elif field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
            message = str(message)
    return message


def refusal(call):
    """The error of a call that must fail, and its details by kind."""
    try:
        answer = call()
    except grpc.RpcError as error:
        details = error_details(error)
        assert details["ErrorInfo"].domain == "contactsync", error
        assert details["ErrorInfo"].reason, error
        return error, details
    raise AssertionError(f"was not refused: {answer}")


def refused(call, code, reason):
    error, details = refusal(call)
    assert (error.code().name, details["ErrorInfo"].reason) == (code, reason), error
    return details


class Story:
    """`methods`: by path, what calls a method with a dictionary, a token and a deadline in seconds."""

    def __init__(self, service, methods):
        self.service, self.methods = service, methods
        self.kept = {"account": new_id(), "request": new_id()}

    def walk(self):
        chapter = None
        for step in STORY:
            if "chapter" in step:
                if chapter:
                    ok(f"every method: {chapter}")
                chapter = step["chapter"]
            elif "crm" in step:
                self.ask_crm(step)
            else:
                self.call(step)
        ok(f"every method: {chapter}")

    def call(self, step):
        method, send = self.methods[path_of(step)], fill(step["send"], self.kept)
        answers = lambda token, **changed: method({**send, **changed}, token, PATIENCE)
        if "wrong" in step:
            self.refuse(step, answers)
        answer = answers(self.service.token())
        for path, expected in step.get("expect", {}).items():
            found, expected = look_up(answer, path), fill(expected, self.kept)
            assert found == expected, f"{step['call']}: {path} is {found}, not {expected}"
        for name, path in step.get("keep", {}).items():
            self.kept[name] = look_up(answer, path)

    def refuse(self, step, answers):
        account = self.kept["account"]
        details = refused(lambda: answers(self.service.token(), **fill(step["wrong"], self.kept)), "INVALID_ARGUMENT", "INVALID_ARGUMENT")
        fields = sorted({violation.field for violation in details["BadRequest"].field_violations})
        assert fields == sorted(step["fields"]), f"{step['call']}: {fields}"
        assert all(violation.description for violation in details["BadRequest"].field_violations)

        refused(lambda: answers(None), "UNAUTHENTICATED", "TOKEN_MISSING")
        refused(lambda: answers(self.service.token(exp=1)), "UNAUTHENTICATED", "TOKEN_EXPIRED")
        details = refused(lambda: answers(self.service.token(account, scopes="other")), "PERMISSION_DENIED", "SCOPE_MISSING")
        assert details["ErrorInfo"].metadata["scope"], step["call"]
        stranger = self.service.token([new_id()])
        if "account_id" in step["send"]:
            refused(lambda: answers(stranger), "NOT_FOUND", "ACCOUNT_NOT_FOUND")
        else:
            assert not answers(stranger).accounts

    def ask_crm(self, step):
        first, last = step.get("numbers", [0, 0])
        for number in range(first, last + 1):
            body = json.dumps(step["body"]).encode() if "body" in step else None
            headers = {"content-type": "application/json", **CRM_HEADERS[step["crm"]]}
            url = os.environ[f"{step['crm'].upper()}_URL"] + step["path"].format(number)
            asked = urllib.request.Request(url, body, headers, method=step["method"])
            with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
                said = answer.read()
        for name, path in step.get("keep", {}).items():
            found = json.loads(said)
            for part in path.split("."):
                found = found[part]
            self.kept[name] = str(found)
