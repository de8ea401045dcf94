"""A reverse proxy on loopback that keeps every exchange, and may answer some itself."""

import http.client
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Headers of one hop, which the proxy says itself.
HOP = {"connection", "keep-alive", "transfer-encoding"}
CHUNK_BYTES = 1 << 16


@dataclass
class Request:
    method: str
    # Path and query as they were sent: a signature covers them.
    target: str
    headers: list
    body: bytes

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass
class Answer:
    status: int
    headers: list = field(default_factory=list)
    body: bytes = b""

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), None)


class Proxy:
    """`with Proxy("127.0.0.1:4620") as proxy`: its endpoint passes everything on, and `exchanges` has what was said.

    `intervene(request, forward)` gives the answer to a request; `forward(request)` asks the cloud.
    """

    def __init__(self, upstream, intervene=None):
        self.upstream = upstream
        self.intervene = intervene
        self.exchanges = []
        self.lock = threading.Lock()
        self.server = Server(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def keep(self, request, answer):
        with self.lock:
            self.exchanges.append((request, answer))

    def take(self):
        """What was said since the last time."""
        with self.lock:
            taken, self.exchanges = self.exchanges, []
        return taken


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # Whoever deploys asks many things at once.
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that leaves in the middle is its own business."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _handler(proxy):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are written apart; together with delayed acknowledgements that would cost 40 ms a call.
        disable_nagle_algorithm = True
        upstream = None

        def setup(self):
            super().setup()
            self.upstream = http.client.HTTPConnection(proxy.upstream, timeout=60)

        def finish(self):
            self.upstream.close()
            super().finish()

        def log_message(self, *_):
            pass

        def _relay(self):
            self.streamed = None
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, self.headers.items(), body)
            answer = proxy.intervene(request, self._forward) if proxy.intervene else self._forward(request)
            proxy.keep(request, answer)
            if answer is not self.streamed:
                self._send(answer)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _relay

        def _forward(self, request):
            for attempt in (1, 2):
                try:
                    return self._ask(request)
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    # A connection that was kept may end at any time; only a fresh one shows a cloud that is gone.
                    self.upstream.close()
                    if attempt == 2:
                        raise

        def _ask(self, request):
            self.upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for key, value in request.headers:
                # The cloud gets the whole body at once, so it need not be asked whether it wants it.
                if key.lower() not in HOP | {"content-length", "expect"}:
                    self.upstream.putheader(key, value)
            if request.body or request.method in ("POST", "PUT", "PATCH"):
                self.upstream.putheader("Content-Length", str(len(request.body)))
            self.upstream.endheaders(request.body or None)
            response = self.upstream.getresponse()
            headers = [(key, value) for key, value in response.getheaders() if key.lower() not in HOP]
            answer = Answer(response.status, headers)
            if response.getheader("Content-Type") == "application/vnd.amazon.eventstream":
                self._stream(answer, response)
            else:
                answer.body = response.read()
            return answer

        def _stream(self, answer, response):
            """Passes on what comes when it comes: whoever follows logs leaves before the end."""
            self.streamed = answer
            self._head(answer, ("Transfer-Encoding", "chunked"))
            try:
                while part := response.read1(CHUNK_BYTES):
                    answer.body += part
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                self.close_connection = True
            self.upstream.close()

        def _head(self, answer, *more):
            self.send_response_only(answer.status)
            for key, value in [*answer.headers, *more]:
                self.send_header(key, value)
            self.end_headers()

        def _send(self, answer):
            bodiless = self.command == "HEAD" or answer.status in (204, 304)
            told = answer.header("content-length") is not None or bodiless
            self._head(answer, *([] if told else [("Content-Length", str(len(answer.body)))]))
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    return Handler
