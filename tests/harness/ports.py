"""Loopback ports that stay ours while the server that uses them is down."""

from __future__ import annotations

import socket


class ReservedPort:
    """A free port, held by a bound socket that never listens.

    The kernel gives the port to nobody else, neither to a bind of port 0 nor to an outgoing connection, while a server that sets
    SO_REUSEADDR (Java's and Redis's do) may listen on it, end, and listen again. Connections are refused meanwhile.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        # Set after the bind: the choice of the port must not share with anyone, the server's later bind may.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        self._socket.close()
