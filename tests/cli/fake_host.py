"""A stand-in for the host's API: answers from data that a test sets, records what it is asked, and breaks where told."""
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse


class FakeHost:
    """`replies` maps (method, path) to (status, object) or a function of the request; tasks and logs have handlers."""

    def __init__(self, port=0):
        self.requests = []  # (method, path, query, body object or None)
        self.replies = {}
        self.tasks = {}  # id -> task object with state and revision
        self.logs = {}  # (id, stream) -> bytearray
        self.break_after = {}  # (id, stream) -> bytes to send before the connection is cut; used once
        self.changed = threading.Condition()
        self.port = port
        self.start()

    def start(self):
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                fake.handle(self, "GET")

            def do_POST(self):
                fake.handle(self, "POST")

        ThreadingHTTPServer.allow_reuse_address = True
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.connections = set()
        self.is_up = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """As kill -9 does: every connection ends at once."""
        self.is_up = False
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.changed:
            self.changed.notify_all()

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port

    def update(self, task_id, **changes):
        with self.changed:
            task = self.tasks.setdefault(task_id, {"id": task_id, "revision": 0, "node": "mynode", "gpus": [],
                                                   "state": "pending", "command": ["true"]})
            task.update(changes)
            task["revision"] += 1
            self.changed.notify_all()

    def write(self, task_id, stream, data):
        with self.changed:
            self.logs.setdefault((task_id, stream), bytearray()).extend(data)
            self.changed.notify_all()

    # ---- answering ----

    def handle(self, http, method):
        self.connections.add(http.connection)
        url = urlparse(http.path)
        path = url.path[len("/api/v1"):]
        query = {k: v[-1] for k, v in parse_qs(url.query).items()}
        body = http.rfile.read(int(http.headers.get("Content-Length") or 0))
        self.requests.append((method, path, query, json.loads(body) if body else None))
        reply = self.replies.get((method, path))
        parts = path.strip("/").split("/")
        try:
            if callable(reply):
                reply = reply(self.requests[-1])
            if reply:
                self.answer(http, *reply)
            elif method == "GET" and parts[0] == "tasks" and len(parts) == 2:
                self.get_task(http, int(parts[1]), query)
            elif method == "GET" and parts[0] == "tasks" and len(parts) == 3 and parts[2] == "logs":
                self.get_logs(http, int(parts[1]), query)
            else:
                self.error(http, 404, "not_found", "there is no %s" % path)
        except (BrokenPipeError, ConnectionResetError, OSError):
            http.close_connection = True

    def answer(self, http, status, obj, content_type="application/json"):
        data = obj if isinstance(obj, bytes) else json.dumps(obj).encode()
        http.send_response(status)
        http.send_header("Content-Type", content_type)
        http.send_header("Content-Length", str(len(data)))
        http.end_headers()
        http.wfile.write(data)

    def error(self, http, status, code, message, **more):
        self.answer(http, status, {"error": dict(code=code, message=message, **more)})

    def get_task(self, http, task_id, query):
        with self.changed:
            task = self.tasks.get(task_id)
            end = time.monotonic() + int(query.get("wait_ms", 0)) / 1000
            while task and "revision" in query and task["revision"] == int(query["revision"]) and self.is_up:
                if not self.changed.wait(end - time.monotonic()):
                    break
            task = dict(task) if task else None
        if not self.is_up:
            raise OSError("stopped")
        if task:
            self.answer(http, 200, task)
        else:
            self.error(http, 404, "not_found", "there is no task %d" % task_id)

    def is_over(self, task_id):
        return self.tasks.get(task_id, {}).get("state") in ("completed", "failed", "killed")

    def get_logs(self, http, task_id, query):
        key = (task_id, query.get("stream", "stdout"))
        at, follow = int(query.get("offset", 0)), query.get("follow") == "1"
        http.send_response(200)
        http.send_header("Content-Type", "application/octet-stream")
        http.send_header("Transfer-Encoding", "chunked")
        http.end_headers()
        while True:
            with self.changed:
                data = bytes(self.logs.get(key, b"")[at:at + 65536])
                done = not follow or self.is_over(task_id)
                if not data and not done and self.is_up:
                    self.changed.wait(1)
                    continue
            if not self.is_up:
                raise OSError("stopped")
            if not data:
                http.wfile.write(b"0\r\n\r\n")
                return
            limit = self.break_after.get(key)
            if limit is not None and at + len(data) > limit:
                data = data[:max(0, limit - at)]
                del self.break_after[key]
                http.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if data else b"")
                http.wfile.flush()
                http.connection.shutdown(socket.SHUT_RDWR)
                raise OSError("cut")
            http.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            at += len(data)
