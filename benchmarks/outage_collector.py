"""A collector that can be killed: `python outage_collector.py PORT FILE` appends "batch id, spans" for each batch."""

from __future__ import annotations

import json
import os
import sys
from http.server import ThreadingHTTPServer
from typing import Any

from process import Collector


class Counting(Collector):
    """Writes down what it is about to accept: the append is one write, durable against a kill."""

    log = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        os.write(self.log, f"{self.headers['x-batch-id']} {self.headers['x-span-count']}\n".encode())
        answer = json.dumps({"accepted": int(self.headers["x-span-count"]), "rejected": 0, "errors": []}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is its own business."""


if __name__ == "__main__":
    Counting.log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    server = Server(("127.0.0.1", int(sys.argv[1])), Counting)
    print(server.server_address[1], flush=True)
    server.serve_forever()
