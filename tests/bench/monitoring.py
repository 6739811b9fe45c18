"""What watching costs: a runner with 8 cards, the bytes of its heartbeats, a host with 200 nodes."""
import copy
import json
import os
import random
import socket
import subprocess
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def percent_of_core(pids, seconds):
    begin, at = time.monotonic(), [cpu_seconds(pid) for pid in pids]
    time.sleep(seconds)
    return [100 * (cpu_seconds(pid) - before) / (time.monotonic() - begin) for pid, before in zip(pids, at)]


class CountingProxy:
    """Between a runner and its host: counts the bytes that the runner sends."""

    def __init__(self, port):
        self.host_port, self.sent = port, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            runner = self.listener.accept()[0]
            host = socket.create_connection(("127.0.0.1", self.host_port))
            threading.Thread(target=self.pump, args=(runner, host, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(host, runner, False), daemon=True).start()

    def pump(self, source, sink, counts):
        try:
            while data := source.recv(65536):
                self.sent += len(data) if counts else 0
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def eight_cards(cluster_module):
    data = cluster_module.scenario("mynode")
    cards = [copy.deepcopy(card) for card in data["gpus"] + data["gpus"]]
    for i, card in enumerate(cards):
        card.update(uuid="GPU-b0000000-0000-0000-0000-%012d" % i, pci="0000:%02x:00.0" % (16 + i), minor=i)
    return dict(data, gpus=cards)


def work(node):
    """Every card at work: other figures, without a new PCI tree."""
    for card in node.scenario["gpus"]:
        card.update(utilization=random.randint(80, 100), power_mw=random.randint(500000, 700000), temperature=random.randint(60, 66),
                    memory_used_mib=random.randint(40000, 41000))
    part = node.scenario_file.with_suffix(".part")
    part.write_text(json.dumps(node.scenario))
    part.rename(node.scenario_file)


def bytes_per_heartbeat(proxy, heartbeat_s, n, meanwhile):
    before, begin = proxy.sent, time.monotonic()
    while time.monotonic() - begin < n * heartbeat_s:
        meanwhile()
        time.sleep(1)
    return (proxy.sent - before) / n


def bench_runner(cluster_module, row, rss_mib, seconds=20):
    with cluster_module.Cluster(nodes=(), log_level="warning", heartbeat_ms=5000, offline_after_ms=30000) as c:
        proxy = CountingProxy(c.port)
        node = cluster_module.Node(c, "bench8", eight_cards(cluster_module), c.engine, gpu_interval_ms=2000, log_level="warning",
                                   host_url="http://127.0.0.1:%d" % proxy.port)
        c.nodes["bench8"] = node
        node.start()
        time.sleep(15)  # the start is over, memory has been trimmed
        runner = node.daemon.pid
        worker = int(Path("/proc/%d/task/%d/children" % (runner, runner)).read_text().split()[0])
        shares = percent_of_core([runner, worker], seconds)
        row("runner with 8 cards, share of a core", shares[0], "%", "<= 0.5")
        row("its GPU worker", shares[1], "%", "", "together %.2f %%" % sum(shares))
        row("runner with 8 cards, resident", rss_mib(runner), "MiB", "<= 10", "worker %.1f MiB" % rss_mib(worker))
        row("bytes of a heartbeat, 8 idle cards", bytes_per_heartbeat(proxy, 5, 4, lambda: None), "B", "<= 300", "pings and headers included")
        row("bytes of a heartbeat, 8 busy cards", bytes_per_heartbeat(proxy, 5, 4, lambda: work(node)), "B")


def bench_history(build, row):
    done = subprocess.run([str(build / "tests" / "bench" / "bench_history")], capture_output=True, text=True, check=True)
    us = json.loads(done.stdout)["value"]
    row("history: a look at 8 cards kept", us, "us", "", "every 2 s: %.4f %% of a core" % (us / 2e6 * 100))


def bench_host(cluster_module, build, row, rss_mib, nodes=200, seconds=20):
    for kind in ("busy", "idle"):
        with cluster_module.Cluster(nodes=(), engine=False, log_level="warning", heartbeat_ms=1000, offline_after_ms=30000) as c:
            argv = [str(build / "tests" / "bench" / "bench_heartbeats"), str(c.port), str(c.token_file), str(nodes), str(seconds + 8)]
            load = subprocess.Popen(argv + (["idle"] if kind == "idle" else []), stdout=subprocess.PIPE, text=True)
            assert load.stdout.readline() == "ready\n"
            time.sleep(5)
            share = percent_of_core([c.host.pid], seconds)[0]
            rss = rss_mib(c.host.pid)
            result = json.loads(load.communicate()[0])
            assert result["answers"] >= 0.95 * result["heartbeats"], result
            row("host, %d nodes x 8 cards, 1 Hz, %s: share of a core" % (nodes, "half busy" if kind == "busy" else "idle"), share, "%",
                "<= 3", "%.0f B each" % result["bytes_each"])
            row("... resident", rss, "MiB", "<= 64")
