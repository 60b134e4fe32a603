#!/usr/bin/env python3
"""An OTLP collector that keeps spans in memory, for tests and for people who want to look at a trace.

Takes OTLP over HTTP (protobuf or JSON, also gzipped) on one port and over gRPC on another, and answers questions on the
HTTP port:

  GET    /spans[?trace_id=ID][&name=NAME][&service=NAME]   the spans it has, as a JSON list
  DELETE /spans                                             forgets them
  GET    /mode, PUT /mode                                   `ok`, `503` (refuses), `partial` (refuses spans, politely)
                                                            or `hang` (takes a request and never answers)
  GET    /requests                                          how many requests came, by protocol and answer

It is strict where exporters are often wrong: ids must have their length and not be zero, a span must not end before it
starts, JSON must have hex ids and no unknown fields. What breaks a rule is refused with 400 and its reason.

    python3 -m pip install -r tests/otlp/requirements.txt
    python3 tests/otlp/collector.py --print

It forgets the oldest spans beyond 100,000. Not for production: anybody who reaches the port reads everything.
"""

from __future__ import annotations

import argparse
import base64
import collections
import gzip
import json
import signal
import sys
import threading
import zlib
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

MODES = ("ok", "503", "partial", "hang")
MAX_SPANS = 100_000
MAX_BODY_BYTES = 64 << 20
# A hanging request ends with the collector, or after this.
HANG_SECONDS = 300
REFUSED = "refused as the mode asks"


class Malformed(ValueError):
    """What an exporter did wrong."""


class Collector:
    """The spans that came, and how to answer."""

    def __init__(self, mode: str = "ok", on_span=None) -> None:
        self._changed = threading.Condition()
        self._spans: collections.deque[dict] = collections.deque(maxlen=MAX_SPANS)
        self._requests: collections.Counter[str] = collections.Counter()
        self._mode = mode
        self._stopped = threading.Event()
        self._on_span = on_span
        self._http: ThreadingHTTPServer | None = None
        self._grpc: grpc.Server | None = None
        self.http_port = 0
        self.grpc_port = 0

    def start(self, http: tuple[str, int] = ("127.0.0.1", 0), grpc_address: tuple[str, int] | None = None) -> "Collector":
        """Serves both protocols in threads of its own; port 0 takes any that is free."""
        collector = self

        class BoundHandler(Handler):
            pass

        BoundHandler.collector = collector
        self._http = Server(http, BoundHandler)
        self.http_port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        host, port = grpc_address or (http[0], 0)
        self._grpc = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(self), self._grpc)
        self.grpc_port = self._grpc.add_insecure_port(f"{host}:{port}")
        self._grpc.start()
        return self

    def stop(self) -> None:
        """Closes both ports, and ends what hangs."""
        self._stopped.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
        if self._grpc is not None:
            self._grpc.stop(grace=None).wait()

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_error) -> None:
        self.stop()

    @property
    def http_url(self) -> str:
        """The base that HTTP exporters are told; they append /v1/traces."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        """What gRPC exporters are told."""
        return f"http://127.0.0.1:{self.grpc_port}"

    @property
    def mode(self) -> str:
        """How exports are answered."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"the mode is one of {', '.join(MODES)}")
        self._mode = mode

    def spans(self, **wanted: str) -> list[dict]:
        """The spans whose fields are as wanted, in the order in which they came."""
        with self._changed:
            return [span for span in self._spans if all(span[name] == value for name, value in wanted.items())]

    def wait_for(self, is_it, seconds: float = 15.0, **wanted: str) -> list[dict]:
        """Waits until `is_it(spans)` holds, and returns the spans; those that are there when time is over otherwise."""
        with self._changed:
            self._changed.wait_for(lambda: is_it(self.spans(**wanted)), seconds)
            return self.spans(**wanted)

    def requests(self) -> dict[str, int]:
        """How many requests came, by protocol and answer, such as `grpc ok`."""
        with self._changed:
            return dict(self._requests)

    def forget(self) -> None:
        """Forgets all spans and requests."""
        with self._changed:
            self._spans.clear()
            self._requests.clear()

    def take(self, protocol: str, request) -> str:
        """Keeps the spans of a request unless the mode says otherwise, and returns the mode. Raises Malformed."""
        mode = self._mode
        if mode == "ok":
            try:
                spans = [span | {"protocol": protocol} for span in read(request)]
            except Malformed:
                self.count(f"{protocol} malformed")
                raise
            with self._changed:
                self._spans.extend(spans)
            for span in spans if self._on_span else ():
                self._on_span(span)
        # Once it is all there: who waits for a request to be counted may then look for its spans.
        self.count(f"{protocol} {mode}")
        if mode == "hang":
            self._stopped.wait(HANG_SECONDS)
        return mode

    def count(self, what: str) -> None:
        """Counts a request."""
        with self._changed:
            self._requests[what] += 1
            self._changed.notify_all()


class Server(ThreadingHTTPServer):
    """Threads that hang do not keep the process."""

    daemon_threads = True
    block_on_close = False


class Handler(BaseHTTPRequestHandler):
    """OTLP over HTTP, and the questions."""

    collector: Collector
    protocol_version = "HTTP/1.1"
    # An answer is two small writes; without this the second waits for the peer's delayed acknowledgement.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        if urlsplit(self.path).path != "/v1/traces":
            return self.answer(404, {"error": "export to /v1/traces"})
        kind = self.headers.get_content_type()
        try:
            body = self.body()
            if kind == "application/x-protobuf":
                protocol, request = "http/protobuf", from_protobuf(body)
            elif kind == "application/json":
                protocol, request = "http/json", from_json(body)
            else:
                return self.answer(415, {"error": f"Content-Type {kind} is neither protobuf nor JSON"})
            mode = self.collector.take(protocol, request)
        except Malformed as error:
            print(f"collector.py: refused: {error}", file=sys.stderr, flush=True)
            return self.answer(400, {"error": str(error)})
        if mode == "hang":
            self.close_connection = True
            return None
        if mode == "503":
            return self.answer(503, {"error": REFUSED})
        response = response_of(mode, request)
        if protocol == "http/json":
            return self.answer(200, json_format.MessageToDict(response))
        return self.send(200, "application/x-protobuf", response.SerializeToString())

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/spans":
            wanted = {name: values[0] for name, values in parse_qs(url.query).items()}
            unknown = wanted.keys() - {"trace_id", "name", "service"}
            if unknown:
                return self.answer(400, {"error": f"unknown parameter {sorted(unknown)[0]}"})
            return self.answer(200, self.collector.spans(**wanted))
        if url.path == "/mode":
            return self.answer(200, {"mode": self.collector.mode})
        if url.path == "/requests":
            return self.answer(200, self.collector.requests())
        return self.answer(404, {"error": "there are /spans, /mode and /requests"})

    def do_DELETE(self) -> None:
        if self.path != "/spans":
            return self.answer(404, {"error": "there is /spans"})
        self.collector.forget()
        return self.send(204, "text/plain", b"")

    def do_PUT(self) -> None:
        if self.path != "/mode":
            return self.answer(404, {"error": "there is /mode"})
        try:
            self.collector.mode = self.body().decode("utf-8", "replace").strip()
        except ValueError as error:
            return self.answer(400, {"error": str(error)})
        return self.answer(200, {"mode": self.collector.mode})

    def body(self) -> bytes:
        """Reads the body, unpacked. Raises Malformed."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self.close_connection = True
            raise Malformed("a request needs a Content-Length here") from None
        if not 0 <= length <= MAX_BODY_BYTES:
            self.close_connection = True
            raise Malformed(f"the body is larger than {MAX_BODY_BYTES} bytes")
        body = self.rfile.read(length)
        if self.headers.get("Content-Encoding", "identity") == "gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError, zlib.error) as error:
                raise Malformed(f"the body is not gzip: {error}") from None
        return body

    def answer(self, status: int, document) -> None:
        self.send(status, "application/json", json.dumps(document).encode() + b"\n")

    def send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments) -> None:
        """Says nothing."""


class Service(trace_service_pb2_grpc.TraceServiceServicer):
    """OTLP over gRPC."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def Export(self, request, context):  # noqa: N802, the name is the protocol's
        try:
            mode = self.collector.take("grpc", request)
        except Malformed as error:
            print(f"collector.py: refused: {error}", file=sys.stderr, flush=True)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if mode in ("503", "hang"):
            context.abort(grpc.StatusCode.UNAVAILABLE, REFUSED)
        return response_of(mode, request)


def response_of(mode: str, request):
    """What a request is answered when it is not refused as a whole."""
    response = trace_service_pb2.ExportTraceServiceResponse()
    if mode == "partial":
        response.partial_success.rejected_spans = sum(
            len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
        )
        response.partial_success.error_message = REFUSED
    return response


def from_protobuf(body: bytes):
    """Reads a request. Raises Malformed."""
    try:
        return trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise Malformed(f"the body is no ExportTraceServiceRequest: {error}") from None


def from_json(body: bytes):
    """Reads a request in OTLP's JSON: that of protocol buffers, but with ids in hex. Raises Malformed."""
    try:
        document = json.loads(body)
        for resource in document.get("resourceSpans", []):
            for scope in resource.get("scopeSpans", []):
                for span in scope.get("spans", []):
                    for holder in (span, *span.get("links", [])):
                        hex_to_base64(holder)
        return json_format.ParseDict(document, trace_service_pb2.ExportTraceServiceRequest())
    except Malformed:
        raise
    except (ValueError, AttributeError, TypeError, json_format.ParseError) as error:
        raise Malformed(f"the body is not OTLP in JSON: {error}") from None


def hex_to_base64(holder: dict) -> None:
    """Turns OTLP's hex ids into what the JSON of protocol buffers has for bytes."""
    for name in ("traceId", "spanId", "parentSpanId"):
        if name in holder:
            try:
                raw = bytes.fromhex(holder[name])
            except (ValueError, TypeError):
                raise Malformed(f"{name} {holder[name]!r} is not hex") from None
            holder[name] = base64.b64encode(raw).decode()


def read(request):
    """Yields the spans of a request as flat dictionaries. Raises Malformed."""
    for resource in request.resource_spans:
        attributes = attributes_of(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                check(span)
                yield {
                    "service": attributes.get("service.name", ""),
                    "resource": attributes,
                    "scope": {"name": scope.scope.name, "version": scope.scope.version},
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent_span_id": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "attributes": attributes_of(span.attributes),
                    "status": {
                        "code": trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_").lower(),
                        "message": span.status.message,
                    },
                    "events": [
                        {"name": event.name, "time": event.time_unix_nano, "attributes": attributes_of(event.attributes)}
                        for event in span.events
                    ],
                    "links": [
                        {
                            "trace_id": link.trace_id.hex(),
                            "span_id": link.span_id.hex(),
                            "attributes": attributes_of(link.attributes),
                        }
                        for link in span.links
                    ],
                }


def check(span) -> None:
    """Raises Malformed for what no exporter may send."""
    for name, value, length in (("trace_id", span.trace_id, 16), ("span_id", span.span_id, 8)):
        if len(value) != length or not any(value):
            raise Malformed(f"{name} {value.hex()!r} of span {span.name!r} is not {length} bytes that are not all zero")
    if span.parent_span_id and (len(span.parent_span_id) != 8 or not any(span.parent_span_id)):
        raise Malformed(f"parent_span_id {span.parent_span_id.hex()!r} of span {span.name!r} is no span's")
    if not span.name:
        raise Malformed("a span has no name")
    if not 0 < span.start_time_unix_nano <= span.end_time_unix_nano:
        raise Malformed(f"span {span.name!r} ends before it starts, or does not say when")
    keys = [attribute.key for attribute in span.attributes]
    if len(set(keys)) != len(keys) or "" in keys:
        raise Malformed(f"span {span.name!r} has an attribute twice, or without a name")


def attributes_of(pairs) -> dict:
    """Attributes as Python has them."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value):
    """One value."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return None if kind is None else getattr(value, kind)


def line_of(span: dict) -> str:
    """A span in one line for a person."""
    parent = span["parent_span_id"] or "-" * 16
    took = (span["end"] - span["start"]) / 1e6
    failed = " FAILED" if span["status"]["code"] == "error" else ""
    return f"{span['trace_id']} {parent} > {span['span_id']} {span['service']}: {span['name']} ({span['kind']}, {took:.2f} ms){failed}"


def address(text: str) -> tuple[str, int]:
    """Reads HOST:PORT."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def main() -> int:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--http", type=address, default=("127.0.0.1", 4318), metavar="HOST:PORT", help="default 127.0.0.1:4318")
    parser.add_argument("--grpc", type=address, default=("127.0.0.1", 4317), metavar="HOST:PORT", help="default 127.0.0.1:4317")
    parser.add_argument("--mode", choices=MODES, default="ok", help="how to answer at first (default ok)")
    parser.add_argument("--print", action="store_true", help="print a line a span")
    parser.add_argument("--json", action="store_true", help="print a JSON object a span")
    arguments = parser.parse_args()

    def show(span: dict) -> None:
        print(json.dumps(span) if arguments.json else line_of(span), flush=True)

    collector = Collector(arguments.mode, show if arguments.print or arguments.json else None)
    try:
        collector.start(arguments.http, arguments.grpc)
    except (OSError, RuntimeError) as error:
        print(f"collector.py: cannot listen: {error}", file=sys.stderr)
        return 1
    print(
        f"OTLP over HTTP at http://{arguments.http[0]}:{collector.http_port}, over gRPC at "
        f"http://{arguments.grpc[0]}:{collector.grpc_port}; spans at /spans",
        file=sys.stderr,
        flush=True,
    )
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    done.wait()
    collector.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
