"""What the dashboard costs a browser: 200 nodes with 8 cards each that send heartbeats, 10,000 tasks."""
import json
import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def make_tasks(c, build, wanted):
    """At least so many tasks that have ended."""
    made, seconds = 0, 2
    while made < wanted:
        done = subprocess.run([str(build / "tests" / "bench" / "bench_submit"), str(c.port), str(c.token_file), "32", str(seconds)],
                              capture_output=True, text=True, check=True)
        made += int(json.loads(done.stdout.splitlines()[-1])["value"] * seconds)
    return made


def bench_dashboard(cluster_module, build, row, nodes=200, tasks=10000, seconds=20):
    for kind in ("busy", "idle"):
        with cluster_module.Cluster(nodes=(), engine=False, log_level="warning", heartbeat_ms=1000, offline_after_ms=30000) as c:
            if kind == "busy":
                made = make_tasks(c, build, tasks)
            load = subprocess.Popen([str(build / "tests" / "bench" / "bench_heartbeats"), str(c.port), str(c.token_file), str(nodes), "300"] +
                                    (["idle"] if kind == "idle" else []), stdout=subprocess.PIPE, text=True)
            try:
                assert load.stdout.readline() == "ready\n"
                time.sleep(3)
                done = subprocess.run(["/usr/bin/python3", str(ROOT / "tests" / "web" / "run.py"), "bench"], capture_output=True, text=True,
                                      env=dict(os.environ, KR_BUILD=str(build), KR_URL=c.url, KR_CARDS=str(8 * nodes), KR_SECONDS=str(seconds),
                                               KR_TASKS="1" if kind == "busy" else ""))
                assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
                result = json.loads(done.stdout.splitlines()[-1])
            finally:
                load.kill()
                load.wait()
            what = "dashboard, %d nodes x 8 cards, 1 Hz, %s" % (nodes, "half busy" if kind == "busy" else "idle")
            if kind == "busy":
                row("dashboard: first paint, %d nodes x 8 cards, %d tasks" % (nodes, made), result["paint_ms"], "ms", "")
                row("... complete grid", result["grid_ms"], "ms", "", "after the navigation began")
                row("... page of tasks", result["tasks_ms"], "ms", "")
            row(what + ": browser, all processes", result["browser"], "%", "", "painting in software included")
            row(what + ": main thread, share of a core", result["main"], "%", "<= 10",
                "script %.1f %%, style and layout %.1f %%, heap %.0f MiB" % (result["script"], result["layout"], result["heapMib"]))
