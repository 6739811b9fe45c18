"""A reader of GET /api/v1/events, as strict as a page has to be: chunks, events, ids; and what a page puts together of them."""
import json
import socket
import threading
import time

from tap import wait_until


def merge(target, patch):
    """RFC 7396."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            merge(target[key], value)
        else:
            target[key] = value


class Event:
    def __init__(self, fields, at):
        self.kind, self.id, self.at = fields.get("event"), fields.get("id"), at
        self.text = fields.get("data")
        self.data = json.loads(self.text) if self.text else None

    def __repr__(self):
        return "%s %s %s" % (self.kind, self.id, (self.text or "")[:300])


class Page:
    """What a page knows: rows by their keys."""

    KEYS = {"nodes": lambda r: r["name"], "gpus": lambda r: (r["node"], r["index"]), "vps": lambda r: r["id"]}

    def __init__(self):
        self.rows, self.tasks, self.task_counts, self.storage_problem = None, {}, None, None

    def take(self, event):
        if event.kind == "snapshot":
            self.rows = {name: {key(row): row for row in event.data[name]} for name, key in self.KEYS.items()}
            for name in self.KEYS:
                assert len(self.rows[name]) == len(event.data[name]), "two rows of one key in %s" % name
            self.task_counts = event.data["task_counts"]
            self.storage_problem = event.data.get("storage_problem")
        elif event.kind == "changes":
            assert self.rows is not None, "changes before a snapshot: %r" % event
            for name, key in self.KEYS.items():
                for row in event.data.get(name, []):
                    merge(self.rows[name].setdefault(key(row), {}), row)
                for gone in event.data.get(name + "_gone", []):
                    self.rows[name].pop(key(gone) if isinstance(gone, dict) else gone)
            for task in event.data.get("tasks", []):
                self.tasks[task["id"]] = task
            self.task_counts = event.data.get("task_counts", self.task_counts)
            self.storage_problem = event.data.get("storage_problem", self.storage_problem)
        else:
            assert event.kind == "beat" and event.id is None, event


class Stream:
    """Reads in a thread of its own; `reads=False`: opens the stream and takes nothing until start_reading."""

    def __init__(self, cluster, last_id=None, query="", reads=True, page=None, buffer_bytes=None):
        self.events, self.page, self.head, self.problem = [], page or Page(), None, None
        self.status, self.bytes = None, 0
        self.closed = threading.Event()
        self.lock = threading.Lock()
        self.socket = socket.socket()
        if buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self.socket.settimeout(60)
        self.socket.connect((cluster.address, cluster.port))
        header = "Last-Event-ID: %s\r\n" % last_id if last_id else ""
        self.socket.sendall(("GET /api/v1/events%s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n%s\r\n" %
                             (query, cluster.address, cluster.port, header)).encode())
        self.thread = threading.Thread(target=self.read, daemon=True)
        if reads:
            self.start_reading()

    def start_reading(self):
        self.thread.start()

    def read(self):
        try:
            for line in self.lines():
                self.take_line(line)
        except (OSError, EOFError) as problem:
            self.problem = problem
        except Exception as problem:  # a wrong event: shown by whoever waits
            self.problem = problem
            raise
        finally:
            self.closed.set()

    def lines(self):
        file = self.socket.makefile("rb")
        self.head = {}
        self.status = int(file.readline().split()[1])
        while (line := file.readline().strip()):
            name, _, value = line.decode().partition(":")
            self.head[name.lower()] = value.strip()
        if self.status != 200:
            return
        rest = b""
        while True:
            size = int(file.readline() or b"0", 16)
            if size == 0:
                return
            data = file.read(size)
            self.bytes += size
            assert len(data) == size and file.read(2) == b"\r\n", "a broken chunk"
            *whole, rest = (rest + data).split(b"\n")
            yield from whole

    fields = None

    def take_line(self, line):
        if line:
            name, _, value = line.decode().partition(": ")
            self.fields = self.fields or {}
            assert name not in self.fields, "twice: %r" % line
            self.fields[name] = value
        elif self.fields:
            fields, self.fields = self.fields, None
            if "event" in fields:
                event = Event(fields, time.monotonic())
                with self.lock:
                    self.page.take(event)
                    self.events.append(event)

    # ---- for tests ----

    def wait(self, what, condition, timeout=10):
        """Until condition(page) holds; its value."""
        def check():
            assert not isinstance(self.problem, (AssertionError, ValueError, KeyError)), self.problem
            with self.lock:
                return self.page.rows is not None and condition(self.page)
        return wait_until(lambda: "%s; the newest events: %r" % (what, self.events[-3:]), check, timeout, 0.01)

    def wait_event(self, what, condition, timeout=10):
        return wait_until(lambda: "%s; the newest events: %r" % (what, self.events[-3:]),
                          lambda: next((e for e in list(self.events) if condition(e)), None), timeout, 0.01)

    def last_id(self):
        return [e.id for e in self.events if e.id][-1]

    def kinds(self):
        return [e.kind for e in self.events if e.kind != "beat"]

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
