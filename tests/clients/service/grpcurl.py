"""The pages' lines for grpcurl, without grpcurl: their file, method and message are sent, and answered."""

import os
import pathlib
import re

from google.protobuf.json_format import Parse
from service import ok


def check(service, methods, account):
    root = pathlib.Path(os.environ["PROTO"]).parent
    lines = []
    for page in ("README.md", "docs/clients.md"):
        for block in (root / page).read_text().split("```sh\n")[1:]:
            lines += re.findall(r"^grpcurl .*", block.split("```")[0].replace("\\\n", ""), re.MULTILINE)
    assert len(lines) == 2, lines
    for line in lines:
        file, message = re.search(r"-proto (\S+)", line)[1], re.search(r"-d '(\{.*\})'", line)[1]
        assert (root / "proto" / file).exists(), line
        method = methods["/" + line.split()[-1]]
        request = Parse(re.sub(r"'\$\w+'", account, message), method.request())
        answer = method.stub(request, metadata=[("authorization", "Bearer " + service.token())])
        assert answer.outcome, line
    ok("the pages' lines for grpcurl are answered")
