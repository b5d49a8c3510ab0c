"""A receiver of OTLP/HTTP for tests/tests/otlp.rs.

It decodes with OpenTelemetry's own Python messages (package opentelemetry-proto), which share nothing with smilat, and
prints a line of JSON for each request, after a first line with its port.

otlp_receiver.py ANSWER... [--tls CERTIFICATE_AND_KEY] [--closed]

With --closed it has a port that refuses connections, until a line comes on standard input. Each ANSWER is for one request, the last for all further ones: 200, 400, 503:SECONDS (with Retry-After), reject:N
(partial success), moved (to another address), silence (accepts and never answers).
"""

import argparse
import gzip
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

lock = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        answers = self.server.answers
        with lock:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportMetricsServiceRequest()
        request.ParseFromString(body)
        line = {
            "at": time.monotonic(),
            "answer": answer,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": MessageToDict(request),
        }
        with lock:
            print(json.dumps(line), flush=True)
        kind, _, number = answer.partition(":")
        if kind == "silence":
            threading.Event().wait()
        response = b""
        self.send_response({"reject": 200, "moved": 307}.get(kind) or int(kind))
        if kind == "503":
            self.send_header("Retry-After", number)
        if kind == "moved":
            self.send_header("Location", "http://192.0.2.1/v1/metrics")
        if kind == "reject":
            partial = ExportMetricsServiceResponse()
            partial.partial_success.rejected_data_points = int(number)
            partial.partial_success.error_message = "too old for this store"
            response = partial.SerializeToString()
        if kind == "400":
            # google.rpc.Status: field 2 is the message.
            text = b"unknown tenant"
            response = bytes([0x12, len(text)]) + text
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(response)))
        self.end_headers()
        self.wfile.write(response)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("answers", nargs="+")
    parser.add_argument("--tls")
    parser.add_argument("--closed", action="store_true")
    options = parser.parse_args()
    server = Server(("127.0.0.1", 0), Receiver, bind_and_activate=False)
    # A port that is bound is nobody else's; connections are refused until it listens.
    server.server_bind()
    server.answers = options.answers
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    if not options.closed:
        server.server_activate()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    if options.closed:
        sys.stdin.readline()
        server.server_activate()
    # Ends with the test, which holds the other end of standard input.
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


main()
