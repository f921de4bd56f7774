"""Exits 0 once the CQL server on 127.0.0.1 and the given port answers a query: STARTUP, then QUERY, of protocol v4."""

import socket
import struct
import sys

STARTUP, READY, QUERY, RESULT = 1, 2, 7, 8


def main() -> None:
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
    answers = connection.makefile("rb")

    def ask(opcode: int, body: bytes) -> int:
        """Sends one frame and returns the opcode of the answer."""
        connection.sendall(struct.pack(">BBhBi", 4, 0, 0, opcode, len(body)) + body)
        answer, length = struct.unpack(">4xBi", answers.read(9))
        answers.read(length)
        return answer

    query = b"SELECT release_version FROM system.local"
    ready = ask(STARTUP, b"\0\1\0\x0bCQL_VERSION\0\x053.0.0") == READY
    if not ready or ask(QUERY, struct.pack(">i", len(query)) + query + b"\0\1\0") != RESULT:
        sys.exit(1)


try:
    main()
except (OSError, struct.error):
    sys.exit(1)
