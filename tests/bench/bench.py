#!/usr/bin/python3
"""The benchmarks: a table on stdout, then one JSON object (also in BUILD/bench.json). Run by `make bench`.

decisions    ledger and placement alone, 200 nodes x 8 GPUs
submissions  durable ones through HTTP, against a node that ends every task at once, at 1, 8 and 32 connections; then
             the host is killed (-9) in the middle of such a load and started again: every id that was answered must be there
latency      from the request to the container's start, above what the Engine API itself takes for the same container,
             taken in turns
memory       resident size of host and runner, idle
"""
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
os.environ.setdefault("KR_BUILD", str(ROOT / "build"))
sys.path[:0] = [str(ROOT / "tests" / "lib"), str(ROOT / "tests" / "e2e")]
from cluster import BUILD, IMAGE, Cluster  # noqa: E402
from tap import Skip  # noqa: E402

SECONDS, PAIRS = int(os.environ.get("BENCH_SECONDS", "3")), 20
GOALS = {"decisions_per_second": (">=", 100_000), "submissions_8": (">=", 2500), "submissions_32": (">=", 5000),
         "latency_overhead_ms": ("<=", 10), "host_rss_mib": ("<=", 16), "runner_rss_mib": ("<=", 10), "lost_after_kill": ("<=", 0)}


def rss_mib(pid):
    with open("/proc/%d/status" % pid) as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def decisions():
    done = subprocess.run([str(BUILD / "tests/bench/bench_decisions")], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def load(cluster, connections, seconds):
    return [str(BUILD / "tests/bench/bench_load"), "127.0.0.1", str(cluster.port), cluster.token_file.read_text().strip(),
            str(connections), str(seconds)]


def submissions():
    results = {}
    with Cluster(nodes=(), engine=False, offline_after_ms=30000) as c:
        for connections in (1, 8, 32):
            done = subprocess.run(load(c, connections, SECONDS), capture_output=True, text=True, check=True)
            results[connections] = json.loads(done.stdout)
    return results


def lost_after_kill():
    """Submits one by one from this process until the host dies under it; then counts what is missing."""
    with Cluster(nodes=(), engine=False, offline_after_ms=30000) as c:
        noise = subprocess.Popen(load(c, 16, 60), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answered, end = [], time.monotonic() + 2
        try:
            while time.monotonic() < end + 5:
                status, answer = c.api("POST", "/tasks", {"targets": ["bench"], "command": ["true"]})
                if status == 201:
                    answered.append(answer["tasks"][0]["id"])
                if time.monotonic() > end:
                    c.host.process.kill()
        except (OSError, http.client.HTTPException):
            pass
        noise.kill()
        noise.wait()
        c.host.kill()
        c.start_host()
        return len(answered), [i for i in answered if c.api("GET", "/tasks/%d" % i)[0] != 200]


def started_at(container):
    text = container["State"]["StartedAt"]
    return datetime.strptime(text[:26].rstrip("Z"), "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=timezone.utc).timestamp()


def direct_ms(engine, like):
    """Creates and starts the same container that the runner made."""
    config, host = like["Config"], like["HostConfig"]
    begin = time.time()
    status, made = engine.call("POST", "/containers/create", {
        "Image": IMAGE, "Cmd": config["Cmd"], "Entrypoint": config.get("Entrypoint"), "Env": config["Env"], "HostConfig": host})
    assert status == 201, made
    assert engine.call("POST", "/containers/%s/start" % made["Id"])[0] == 204
    span = started_at(engine.call("GET", "/containers/%s/json" % made["Id"])[1]) - begin
    engine.call("DELETE", "/containers/%s?force=1" % made["Id"])
    return span * 1000


def latency_and_memory():
    ours, theirs = [], []
    with Cluster(nodes=("node2",), heartbeat_ms=5000, offline_after_ms=30000) as c:
        time.sleep(6)
        memory = {"host_rss_mib": rss_mib(c.host.pid), "runner_rss_mib": rss_mib(c["node2"].daemon.pid)}
        for _ in range(PAIRS):
            begin = time.time()
            task_id = c.api("POST", "/tasks", {"targets": ["node2::0"], "command": ["sleep", "60"]})[1]["tasks"][0]["id"]
            c.wait_state(task_id, "running")
            container = c.engine.container_of(task_id)
            ours.append((started_at(container) - begin) * 1000)
            c.kill_task(task_id)
            theirs.append(direct_ms(c.engine, container))
    return ours, theirs, memory


def report(results):
    goals_met = True
    print("%-34s %12s   %s" % ("", "measured", "goal"))
    for name, value in results.items():
        sign, goal = GOALS.get(name, ("", None))
        met = goal is None or (value >= goal if sign == ">=" else value <= goal)
        goals_met = goals_met and met
        print("%-34s %12s   %s" % (name, ("%.1f" % value).rstrip("0").rstrip("."),
                                  "" if goal is None else "%s %d%s" % (sign, goal, "" if met else "  NOT MET")))
    text = json.dumps(results, indent=1)
    (BUILD / "bench.json").write_text(text + "\n")
    print(text)
    return goals_met


def main():
    results = {"decisions_per_second": decisions()["decisions_per_second"]}
    for connections, result in submissions().items():
        results["submissions_%d" % connections] = result["per_second"]
        results["submissions_%d_median_ms" % connections] = result["median_ms"]
        results["submissions_%d_p99_ms" % connections] = result["p99_ms"]
    n_answered, lost = lost_after_kill()
    results["answered_before_kill"], results["lost_after_kill"] = n_answered, len(lost)
    try:
        ours, theirs, memory = latency_and_memory()
        results["engine_start_ms"] = statistics.median(theirs)
        results["latency_overhead_ms"] = statistics.median(o - t for o, t in zip(ours, theirs))
        results.update(memory)
    except Skip as why:
        print("latency and memory: skipped: %s" % why)
    sys.exit(0 if report(results) else 1)


if __name__ == "__main__":
    main()
