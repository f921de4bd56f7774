#!/usr/bin/env python3
"""Sends requests that schemathesis generates from the OpenAPI document of a running node.

It fails if an answer is a server error, or has a status, media type, header or body that the document does not
describe. It calls the queries, the commands of one aggregate, the health and the progress of the node. The seed is
fixed, so each run generates the same requests.

    python3 tests/python/openapi.py URL EXAMPLES-MAX ORDER-ID
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request

SEED = "1"
# Maximum time for all requests, in seconds. The random requests come last, so only they are left out when the time is
# over.
SECONDS_MAX = "60"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)
# The id of an order in the document's examples.
EXAMPLE = "order_01h455vb4pex5vsknk084sn02q"
# All operations, except the batch at /api/v1/admin/commands: schemathesis can't write or read NDJSON, and the document
# describes the batch's body as a text, so each generated line would only be a malformed one. Other tests send batches.
OPERATIONS = r"^/api/v1/(products|orders|customers|countries|analytics|admin/progress$)|^/health/"
# These answers have no end, so each request would wait until its time-out. Other tests follow events.
STREAMS = r"/events$"
# The only paths that the two patterns leave out, so that no other one is left out by mistake.
LEFT_OUT = {"/api/v1/admin/commands", "/api/v1/orders/{id}/events", "/api/v1/customers/{id}/events"}
# The parameter whose example no node accepts: its value must come from an earlier answer.
CURSOR = "cursor"


def main():
    url, examples_max, order = sys.argv[1:]
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
        document = answer.read().decode()
    if EXAMPLE not in document:
        raise SystemExit(f"the document has no example {EXAMPLE}")
    # The node does not have the order of the examples, so an existing order replaces it.
    document = document.replace(EXAMPLE, order)
    document = without_cursors(json.loads(document))
    left_out = {path for path in document["paths"] if not is_called(path)}
    if left_out != LEFT_OUT:
        raise SystemExit(f"the operations that are not called are {sorted(left_out)} instead of {sorted(LEFT_OUT)}")
    document = json.dumps(document)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "openapi.json"
        path.write_text(document, encoding="utf-8")
        program = pathlib.Path(sys.executable).with_name("schemathesis")
        command = [
            str(program), "run", str(path), "--url", url, "--checks", CHECKS, "--seed", SEED,
            "--max-examples", examples_max, "--max-time", SECONDS_MAX, "--phases", "examples,coverage,fuzzing",
            "--include-path-regex", OPERATIONS, "--exclude-path-regex", STREAMS, "--generation-database", "none",
            "--request-timeout", "20",
            "--suppress-health-check", "all", "--no-color",
        ]  # fmt: skip
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    sys.stdout.write(result.stdout[-20_000:])
    sys.stderr.write(result.stdout[-20_000:] if result.returncode else "")
    sys.stderr.write(result.stderr[-5_000:])
    raise SystemExit(result.returncode)


def is_called(path):
    """Whether requests to a path are generated."""
    return re.search(OPERATIONS, path) is not None and re.search(STREAMS, path) is None


def without_cursors(document):
    """Removes the examples of cursors, so that the requests of the other examples get a page."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == CURSOR:
                    parameter.pop("example", None)
    return document


if __name__ == "__main__":
    main()
