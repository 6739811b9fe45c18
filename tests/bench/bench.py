#!/usr/bin/python3
"""The benchmarks: a table on stdout, the same as JSON in BUILD/bench.json. Figures of a shared machine are compared
within one run: SQLite alone beside our submissions, the Engine API alone beside our tasks."""
import argparse
import json
import re
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = []


def row(name, value, unit, goal="", note=""):
    ROWS.append({"name": name, "value": value, "unit": unit, "goal": goal, "note": note})
    text = "{:,.1f}".format(value) if value >= 10 else "{:.2f}".format(value)
    print("%-58s %12s %-6s %-14s %s" % (name, re.sub(r"\.0+$", "", text), unit, goal, note), flush=True)


def json_line(argv, **kwargs):
    done = subprocess.run(argv, capture_output=True, text=True, check=True, **kwargs)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def sqlite_alone(folder, seconds=3):
    """Single transactions per second with the store's settings: what one fsync per submission would allow."""
    db = sqlite3.connect(str(Path(folder) / "alone.db"), isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
    begin, n = time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        db.execute("INSERT INTO t (text) VALUES (?)", ("x" * 500,))
        n += 1
    db.close()
    return n / (time.monotonic() - begin)


def rss_mib(pid):
    for line in Path("/proc/%d/status" % pid).read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


def bench_submissions(cluster_module, build):
    submit = str(build / "tests" / "bench" / "bench_submit")
    with tempfile.TemporaryDirectory() as folder:
        alone = sqlite_alone(folder)
    row("SQLite alone, WAL, synchronous=FULL, transactions", alone, "1/s")
    for connections, goal in ((1, None), (8, 2500), (32, 5000)):
        with cluster_module.Cluster(nodes=(), engine=False, log_level="warning") as c:
            result, _ = json_line([submit, str(c.port), str(c.token_file), str(connections), "5"])
            row("durable submissions, %d connection(s)" % connections, result["value"], "1/s",
                ">= %d" % goal if goal else "", "%.2f x SQLite alone" % (result["value"] / alone))


def bench_kill9(cluster_module, build):
    submit = str(build / "tests" / "bench" / "bench_submit")
    with cluster_module.Cluster(nodes=(), engine=False, log_level="warning") as c:
        load = subprocess.Popen([submit, str(c.port), str(c.token_file), "8", "10"], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, env=dict(os.environ, BENCH_IDS="1"))
        time.sleep(2)
        c.host.kill()
        answered = {int(line) for line in load.communicate()[1].split() if line.isdigit()}
        c.start_host()
        kept, before = set(), None
        while True:
            page = c.api("GET", "/tasks?limit=1000" + ("&before=%d" % before if before else ""))[1]["tasks"]
            if not page:
                break
            kept |= {task["id"] for task in page}
            before = page[-1]["id"]
        row("answered submissions lost at kill -9 of the host", len(answered - kept), "", "0",
            "of %d" % len(answered))


def parse_time(text):
    """Docker's time stamps have nanoseconds."""
    return datetime.strptime(text[:26].rstrip("Z"), "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=timezone.utc).timestamp()


def direct(engine, config):
    """create + start over the Engine API; seconds until the container had started."""
    begin = time.time()
    status, made = engine.call("POST", "/containers/create", config)
    assert status == 201, made
    engine.call("POST", "/containers/%s/start" % made["Id"])
    inspected = engine.call("GET", "/containers/%s/json" % made["Id"])[1]
    engine.call("DELETE", "/containers/%s?force=1&v=1" % made["Id"])
    return parse_time(inspected["State"]["StartedAt"]) - begin


def ours(c, body):
    """A task; seconds until its container had started. The engine is left alone meanwhile: the host tells."""
    begin = time.time()
    status, answer = c.api("POST", "/tasks", body)
    assert status == 201, answer
    task = answer["tasks"][0]
    while task["state"] != "running":
        task = c.api("GET", "/tasks/%d?revision=%d&wait_ms=5000" % (task["id"], task["revision"]))[1]
    container = c.engine.container_of(task["id"])
    c.kill_task(task["id"])
    return parse_time(container["State"]["StartedAt"]) - begin, container


def same_container(inspected):
    """What our runner asked the engine for, as a create request."""
    host = inspected["HostConfig"]
    return {"Image": inspected["Config"]["Image"], "Cmd": inspected["Config"]["Cmd"], "Env": inspected["Config"]["Env"],
            "Entrypoint": [], "HostConfig": {key: host[key] for key in (
                "DeviceRequests", "NetworkMode", "Init", "ShmSize", "LogConfig", "Ulimits", "CpusetCpus", "CpusetMems")}}


def bench_latency(cluster_module, rounds=15):
    with cluster_module.Cluster(nodes=("mynode",), log_level="warning") as c:
        body = {"targets": ["mynode::0"], "command": ["sleep", "60"]}
        config = same_container(ours(c, body)[1])
        pairs = [(ours(c, body)[0], direct(c.engine, config)) for _ in range(rounds)]
        over = statistics.median(a - b for a, b in pairs) * 1000
        row("create + start over the Engine API alone, median", statistics.median(b for _, b in pairs) * 1000, "ms")
        row("submit to container start, median", statistics.median(a for a, _ in pairs) * 1000, "ms")
        row("... above the Engine API, paired median", over, "ms", "<= 10")
        time.sleep(15)
        row("host, resident when idle", rss_mib(c.host.pid), "MiB", "<= 16")
        runner = c["mynode"].daemon.pid
        children = [int(p) for p in Path("/proc/%d/task/%d/children" % (runner, runner)).read_text().split()]
        row("runner, resident when idle", rss_mib(runner), "MiB", "<= 10")
        row("its GPU worker", sum(map(rss_mib, children)), "MiB")


SWITCH = """
for i in 1 2 3; do
begin=$(now_ms)
for f in 3 2 1 0; do
    d=0000:01:00.$f; echo vfio-pci >$D/$d/driver_override; [ -e $D/$d/driver ] && echo $d >$D/$d/driver/unbind; done
for f in 0 1 2 3; do echo 0000:01:00.$f >/sys/bus/pci/drivers_probe; done
for f in 3 2 1 0; do
    d=0000:01:00.$f; echo $d >$D/$d/driver/unbind; echo >$D/$d/driver_override; echo $d >/sys/bus/pci/drivers_probe; done
say BARE "$(( $(now_ms) - begin ))"
bind vps-1 0000:01:00.0; give_back vps-1
done
"""


def bench_switch(build):
    """On an emulated machine, where all is some thirty times slower: the two are to be compared with each other."""
    sys.path.insert(0, str(ROOT / "tests" / "vm"))
    from bed import Bed
    bed = Bed(build)
    try:
        text = bed.run(SWITCH, 120).text
    finally:
        bed.close()
    bare = min(int(n) for n in re.findall(r"^BARE (\d+)", text, re.M))
    took = [int(n) for n in re.findall(r'"took_ms":(\d+)', text)]
    ours = min(a + b for a, b in zip(took[::2], took[1::2]))
    row("card with 4 functions to vfio-pci and back, bare writes", bare, "ms", "", "emulated machine")
    row("the same as a journalled switch, looks included", ours, "ms", "",
        "%.1f x the bare writes, %+d ms" % (ours / bare, ours - bare))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--only", default="ledger,recovery,sim,submissions,kill9,latency,machines,switch,runner,host,streams,dashboard")
    options = parser.parse_args()
    build = Path(options.build).resolve()
    os.environ["KR_BUILD"] = str(build)
    sys.path.insert(0, str(ROOT / "tests" / "e2e"))
    import cluster
    import bench_machines
    import dashboard
    import monitoring
    import streams
    wanted = options.only.split(",")
    if "ledger" in wanted:
        result, _ = json_line([str(build / "tests" / "bench" / "bench_ledger")])
        row("ledger decisions, 200 nodes x 8 GPUs", result["value"], "1/s", ">= 100000")
    if "recovery" in wanted:
        done = subprocess.run([str(build / "tests" / "bench" / "bench_recovery")], capture_output=True, text=True, check=True)
        restore, reconcile = [json.loads(line) for line in done.stdout.splitlines()]
        row("host restart: store with %d tasks loaded" % restore["tasks"], restore["value"], "ms", "< 1000")
        row("hello of a node with %d tasks reconciled" % reconcile["tasks"], reconcile["value"], "us", "")
    if "sim" in wanted:
        done = subprocess.run([str(build / "tests" / "sim" / "sim_host"), "--tap"], capture_output=True, text=True, check=True,
                              env=dict(os.environ, SIM_SOAK="1000000"))
        row("simulated cluster, checked after each step", float(re.search(r"sim: (\d+) steps/s", done.stderr).group(1)), "steps/s", "")
    if "submissions" in wanted:
        bench_submissions(cluster, build)
    if "kill9" in wanted:
        bench_kill9(cluster, build)
    if "latency" in wanted:
        bench_latency(cluster)
    if "runner" in wanted:
        monitoring.bench_history(build, row)
        monitoring.bench_runner(cluster, row, rss_mib)
    if "host" in wanted:
        monitoring.bench_host(cluster, build, row, rss_mib)
    if "streams" in wanted:
        streams.bench_streams(cluster, build, row, rss_mib)
    if "dashboard" in wanted:
        dashboard.bench_dashboard(cluster, build, row)
    if "machines" in wanted:
        bench_machines.bench_machines(cluster, row)
    if "switch" in wanted:
        bench_switch(build)
    (build / "bench.json").write_text(json.dumps(ROWS, indent=1) + "\n")


main()
