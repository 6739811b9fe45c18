"""What open dashboards cost: bytes of the live stream, and the host's share of a core with 100 of them, next to the same host
without any."""
import json
import selectors
import socket
import subprocess
import threading
import time

from monitoring import percent_of_core


class Readers:
    """Streams that are read as fast as they come, and counted."""

    def __init__(self, cluster, n):
        self.selector, self.bytes, self.sockets = selectors.DefaultSelector(), 0, []
        for _ in range(n):
            one = socket.create_connection((cluster.address, cluster.port))
            one.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            one.setblocking(False)
            self.selector.register(one, selectors.EVENT_READ)
            self.sockets.append(one)
        self.is_running = True
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while self.is_running:
            for key, _ in self.selector.select(0.2):
                data = key.fileobj.recv(1 << 20)
                assert data, "the host ended a stream"
                self.bytes += len(data)

    def close(self):
        self.is_running = False
        self.thread.join()
        for one in self.sockets:
            one.close()


def with_readers(c, n, seconds):
    """-> (share of a core, bytes a second of one of them), once their snapshots are through."""
    readers = Readers(c, n)
    time.sleep(4)
    before, begin = readers.bytes, time.monotonic()
    share = percent_of_core([c.host.pid], seconds)[0]
    rate = (readers.bytes - before) / (time.monotonic() - begin) / n
    readers.close()
    return share, rate


def bench_streams(cluster_module, build, row, rss_mib, nodes=200, n=100, seconds=12):
    for kind in ("busy", "idle"):
        with cluster_module.Cluster(nodes=(), engine=False, log_level="warning", heartbeat_ms=1000, offline_after_ms=30000) as c:
            argv = [str(build / "tests" / "bench" / "bench_heartbeats"), str(c.port), str(c.token_file), str(nodes), str(4 * seconds + 20)]
            load = subprocess.Popen(argv + (["idle"] if kind == "idle" else []), stdout=subprocess.PIPE, text=True)
            assert load.stdout.readline() == "ready\n"
            time.sleep(4)
            what = "%d nodes x 8 cards, %s" % (nodes, "half busy" if kind == "busy" else "idle")
            alone = percent_of_core([c.host.pid], seconds)[0]
            before = rss_mib(c.host.pid)
            share_of_one, rate = with_readers(c, 1, seconds)
            share, _ = with_readers(c, n, seconds)
            row("live stream, %s: bytes a second" % what, rate, "B/s")
            row("... host with 1 stream, share of a core", share_of_one, "%", "", "without: %.2f %%" % alone)
            row("... host with %d streams, share of a core" % n, share, "%", "", "%.2f times that of the host without" % (share / alone))
            row("... resident with %d streams, more than without" % n, rss_mib(c.host.pid) - before, "MiB")
            assert json.loads(load.communicate()[0])["answers"] > 0
