"""An S3 server's bad days, over real sockets: a proxy before moto that throttles, resets, stalls and loses replies.

    with faulty_s3(endpoint, Faults(slow_down=0.2, reset=0.05, stall=0.02, lost_reply=0.02), seed=0) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
        ...
        proxy.outage(3.0)  # everything is reset for three seconds
        proxy.counts["arrived"], proxy.counts["slow_down"], proxy.arrivals("PUT", "/bucket/key")

The n-th request that arrives meets the n-th draw of the seed, whoever sends it. Requests are forwarded one at a time: moto checks
a condition and writes in two steps, between which another request could come.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect", "content-length", "host"}
_ERROR = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message><RequestId>0</RequestId></Error>'


@dataclass(frozen=True)
class Faults:
    """Shares of requests that meet a fault, each in [0, 1], at most 1 in all."""

    slow_down: float = 0.0
    """Answered 503 SlowDown."""
    denied: float = 0.0
    """Answered 403 AccessDenied, in words that repeat what the client sent to prove itself."""
    reset: float = 0.0
    """Reset before the server sees it."""
    stall: float = 0.0
    """Left without an answer for `stall_s`, then reset; the server never sees it."""
    lost_reply: float = 0.0
    """Carried out by the server, but reset in place of the reply."""
    cut_body: float = 0.0
    """Carried out, but the reply's body ends halfway."""
    stall_s: float = 1.0
    """Longer than the client's time-out."""

    def draw(self, rng: random.Random) -> str:
        """Name of the fault that a request meets, '' for none."""
        at = rng.random()
        for field in fields(self):
            if field.name != "stall_s" and (at := at - getattr(self, field.name)) < 0:
                return field.name
        return ""


class Arrival(NamedTuple):
    """A request as it came in; `fault` is '', a name of Faults, or 'outage'."""

    time_s: float
    method: str
    path: str
    """With its query."""
    fault: str
    sender: str = ""
    """The client's AWS_SDK_UA_APP_ID, if it has one."""


class FaultyS3(ThreadingHTTPServer):
    """The proxy; make it with `faulty_s3`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, backend: str, faults: Faults, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.backend = urlsplit(backend).netloc
        self.faults = faults
        self.log: list[Arrival] = []
        self.forwarding = threading.Lock()
        self._rng, self._lock, self._dark_until = random.Random(seed), threading.Lock(), 0.0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def counts(self) -> Counter[str]:
        """'arrived', 'forwarded', and requests by fault."""
        faults = [arrival.fault for arrival in list(self.log)]
        met = Counter(fault for fault in faults if fault)
        forwarded = sum(fault in ("", "lost_reply", "cut_body") for fault in faults)
        return met + Counter(arrived=len(faults), forwarded=forwarded)

    def arrivals(self, method: str, path: str) -> list[float]:
        """Times, in seconds, at which requests of this method for this path (without query) came in."""
        return [a.time_s for a in list(self.log) if a.method == method and a.path.partition("?")[0] == path]

    def outage(self, seconds: float) -> None:
        """From now on, every request is reset for so long. Returns at once."""
        self._dark_until = time.monotonic() + seconds

    def admit(self, method: str, path: str, agent: str = "") -> str:
        """Take a request of this user agent down, and say which fault it meets."""
        with self._lock:
            now = time.monotonic()
            fault = "outage" if now < self._dark_until else self.faults.draw(self._rng)
            sender = re.search(r"\bapp/(\S+)", agent)
            self.log.append(Arrival(now, method, path, fault, sender[1] if sender else ""))
            return fault

    def handle_error(self, request, client_address) -> None:
        """A client that gave up is no news here."""


@contextmanager
def faulty_s3(backend_endpoint: str, faults: Faults | None = None, seed: int = 0) -> Iterator[FaultyS3]:
    """A running proxy before an S3 endpoint. Change `proxy.faults` to change what requests meet from then on."""
    proxy = FaultyS3(backend_endpoint, faults or Faults(), seed)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: FaultyS3

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()  # the client sends nothing more before it has seen this
        return True

    def _serve(self) -> None:
        body = self._body()
        fault = self.server.admit(self.command, self.path, self.headers.get("User-Agent", ""))
        if fault == "slow_down":
            return self._refuse(503, "SlowDown", "Please reduce your request rate.")
        if fault == "denied":
            return self._refuse(403, "AccessDenied", f"Not for you: {self.headers.get('Authorization')}")
        if fault == "stall":
            time.sleep(self.server.faults.stall_s)
        if fault in ("reset", "stall", "outage"):
            return self._reset()
        status, headers, answer = self._forward(body)
        if fault == "lost_reply":
            return self._reset()
        self._answer(status, headers, answer, cut=fault == "cut_body")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _body(self) -> bytes:
        """As sent; chunks of the transfer are joined, those that S3 itself defines (aws-chunked) are left alone."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Content-Length"] = str(len(body))
        with self.server.forwarding:
            connection = http.client.HTTPConnection(self.server.backend, timeout=60)
            try:
                connection.request(self.command, self.path, body, headers)
                reply = connection.getresponse()
                return reply.status, reply.getheaders(), reply.read()
            finally:
                connection.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, [("Content-Type", "application/xml")], _ERROR.format(code, message).encode())

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), "0") if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()
        if cut:
            self._reset()

    def _reset(self) -> None:
        """RST, as from a machine that went away."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.wfile.close()
            self.connection.close()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args) -> None:
        """Silent."""
