"""What Prometheus, Grafana and the dashboard get to see: /metrics, the history of the cards, since when they are idle."""
import http.client
import json
import re
import shutil
import subprocess
import time

from cluster import ROOT, Cluster, main, skip, wait_until

c = None
DASHBOARD = ROOT / "packaging" / "grafana-dashboard.json"
SAMPLE = re.compile(r'^(\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def setup_module():
    global c
    c = Cluster()


def teardown_module():
    if c:
        c.destroy()


def metrics_text():
    connection = http.client.HTTPConnection("127.0.0.1", c.port, timeout=10)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200, response.status
    assert response.getheader("Content-Type").startswith("text/plain; version=0.0.4"), response.getheaders()
    return response.read().decode()


def samples(name, **labels):
    """[(labels, value)] of a metric, those with these labels."""
    found = []
    for line in metrics_text().splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.match(line)
        assert match, "no sample: %r" % line
        its = dict(LABEL.findall(match.group(2) or ""))
        if match.group(1) == name and all(its.get(k) == v for k, v in labels.items()):
            found.append((its, float(match.group(3))))
    return found


def value(name, **labels):
    found = samples(name, **labels)
    return found[0][1] if len(found) == 1 else None


def history(node, index, span="10m"):
    status, answer = c.api("GET", "/nodes/%s/gpus/%d/history?span=%s" % (node, index, span))
    assert status == 200, answer
    return answer


def is_connected(node):
    return c.api("GET", "/nodes/%s/runner" % node.name)[0] == 200


def restart(node, meanwhile=lambda: None):
    """kill -9, and a new runner that is connected."""
    node.daemon.kill()
    meanwhile()
    wait_until("the host has noticed", lambda: not is_connected(node))
    node.start(wait=False)
    wait_until("it is back: " + node.daemon.tail(), lambda: is_connected(node))


def seen(answer, name):
    """{time: value} of what is known."""
    return {answer["from_ms"] + i * answer["step_ms"]: v for i, v in enumerate(answer[name]) if v is not None}


# ---- metrics ----

def test_the_figures_of_a_card_have_the_names_of_dcgm_exporter():
    c["mynode"].change_gpu(1, utilization=63, temperature=71, power_mw=412345, memory_used_mib=1000)
    card = {"Hostname": "mynode", "gpu": "1"}
    wait_until("the figures arrive", lambda: value("DCGM_FI_DEV_GPU_UTIL", **card) == 63)
    wait_until("those of the slower tier too", lambda: value("DCGM_FI_DEV_GPU_TEMP", **card) == 71)
    labels = samples("DCGM_FI_DEV_GPU_UTIL", **card)[0][0]
    assert labels == {"gpu": "1", "UUID": c["mynode"].scenario["gpus"][1]["uuid"], "pci_bus_id": "00000000:2A:00.0",
                      "device": "nvidia1", "modelName": "NVIDIA H100 80GB HBM3", "Hostname": "mynode"}, labels
    assert value("DCGM_FI_DEV_GPU_TEMP", **card) == 71 and value("DCGM_FI_DEV_POWER_USAGE", **card) == 412
    used, free = value("DCGM_FI_DEV_FB_USED", **card), value("DCGM_FI_DEV_FB_FREE", **card)
    assert 1000 <= used <= 1600 and used + free == 81559, (used, free)
    assert value("kohakuriver_gpu_idle_seconds", **card) is None, "it is busy"
    c["mynode"].change_gpu(1, utilization=0, temperature=29, power_mw=68750, memory_used_mib=4)
    c["mynode"].wait_free(1)


def test_promtool_has_no_complaint():
    if not shutil.which("promtool"):
        skip("promtool of Debian's package prometheus is not installed")
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics_text(), capture_output=True, text=True)
    # names and labels of dcgm-exporter are as they are
    complaints = [line for line in (done.stdout + done.stderr).splitlines()
                  if not line.startswith("DCGM_FI_DEV_") and "'snake_case' not 'camelCase'" not in line]
    assert not complaints and done.returncode in (0, 3), (done.returncode, complaints)


def test_the_holder_is_named():
    task_id = c.submit("mynode::2", "sleep", "60", options=("--name", 'a "name"'))
    c.wait_state(task_id, "running")
    labels, one = samples("kohakuriver_gpu_holder_info", Hostname="mynode", gpu="2")[0]
    assert one == 1 and labels["task"] == str(task_id) and labels["name"] == 'a \\"name\\"' and labels["kind"] == "task", labels
    assert value("kohakuriver_gpu_state", Hostname="mynode", gpu="2", state="in_use") == 1
    assert value("kohakuriver_tasks", state="running") == 1 and value("kohakuriver_leases", kind="task") == 1
    c.kill_task(task_id)
    assert samples("kohakuriver_gpu_holder_info") == []
    wait_until("it is free", lambda: value("kohakuriver_gpu_state", Hostname="mynode", gpu="2", state="free") == 1)


def test_R3_a_silent_node_has_no_figures():
    c["node2"].daemon.freeze()
    wait_until("node2 is offline", lambda: value("kohakuriver_node_online", Hostname="node2") == 0)
    text = metrics_text()
    assert not [line for line in text.splitlines() if line.startswith("DCGM_") and 'Hostname="node2"' in line]
    assert value("kohakuriver_node_last_seen_seconds", Hostname="node2") > 1
    assert not samples("kohakuriver_gpu_state", Hostname="node2", state="free")
    c["node2"].daemon.thaw()
    c["node2"].wait_online()
    wait_until("its figures are back", lambda: samples("DCGM_FI_DEV_GPU_UTIL", Hostname="node2"))


def test_the_dashboard_asks_for_nothing_that_is_not_there():
    text = metrics_text() + c.cli("config", "show", code=0).out
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
    queries += [v["definition"] for v in dashboard["templating"]["list"] if "definition" in v]
    asked = {name for query in queries for name in re.findall(r"\b(?:DCGM|kohakuriver|process)_\w+", query)}
    assert len(asked) > 15, asked
    missing = {name for name in asked if "# TYPE %s " % name not in text}
    assert not missing, missing


def test_the_queries_of_the_dashboard_are_ones():
    if not shutil.which("promtool"):
        skip("promtool of Debian's package prometheus is not installed")
    queries = [t["expr"] for p in json.loads(DASHBOARD.read_text())["panels"] for t in p["targets"]]
    rules = [{"record": "q%d" % i, "expr": query.replace("$", "")} for i, query in enumerate(queries)]
    file = c.dir / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- history ----

def test_the_history_shows_what_was_and_survives_a_restart():
    node = c["mynode"]
    node.change_gpu(3, utilization=88)
    time.sleep(2.5)
    node.change_gpu(3, utilization=0)
    wait_until("it is idle again", lambda: node.gpu(3)["utilization_percent"] == 0)
    before = history("mynode", 3)
    busy = {t for t, v in seen(before, "utilization_percent").items() if v == 88}
    assert len(busy) >= 1 and before["step_ms"] == 1000 and len(before["utilization_percent"]) == 600, busy
    assert max(busy) <= time.time() * 1000 and min(busy) > time.time() * 1000 - 60000
    restart(node)
    after = seen(history("mynode", 3), "utilization_percent")
    assert busy <= {t for t, v in after.items() if v == 88}, (busy, after)
    coarse = history("mynode", 3, "30d")
    assert coarse["step_ms"] == 900000 and max(seen(coarse, "utilization_percent_max").values()) == 88
    assert 0 < max(seen(coarse, "utilization_percent").values()) < 88
    assert seen(history("mynode", 3, "24h"), "power_mw"), "no power"


def test_idle_since_survives_a_restart_and_stays_the_same():
    node = c["mynode"]
    first = wait_until("it is idle", lambda: node.gpu(0).get("idle_since_ms"))
    time.sleep(1.5)
    assert node.gpu(0)["idle_since_ms"] == first
    restart(node)
    again = wait_until("it is idle", lambda: node.gpu(0).get("idle_since_ms"))
    assert first <= again <= first + 1000, (first, again)
    node.change_gpu(0, utilization=50)
    wait_until("it is busy", lambda: "idle_since_ms" not in node.gpu(0))
    node.change_gpu(0, utilization=1)
    later = wait_until("it is idle", lambda: node.gpu(0).get("idle_since_ms"))
    assert later > again and later <= time.time() * 1000


def test_a_damaged_history_is_set_aside():
    node = c["mynode"]
    file = node.state_dir / "history" / node.scenario["gpus"][0]["uuid"]
    restart(node, lambda: file.write_bytes(b"x" * 100))
    assert "set aside" in node.daemon.tail() and file.with_name(file.name + ".unreadable").read_bytes() == b"x" * 100
    wait_until("there is a new one", lambda: seen(history("mynode", 0), "utilization_percent"))


def test_what_cannot_be_asked_is_named():
    for path, status in (("/nodes/nope/gpus/0/history", 404), ("/nodes/mynode/gpus/77/history", 404),
                         ("/nodes/mynode/gpus/x/history", 400), ("/nodes/mynode/gpus/0/history?span=1y", 400)):
        got, answer = c.api("GET", path)
        assert got == status and answer["error"]["message"], (path, got, answer)
    c["node2"].daemon.kill()
    got, answer = wait_until("it is noticed", lambda: (a := c.api("GET", "/nodes/node2/gpus/0/history"))[0] == 503 and a)
    assert "not connected" in answer["error"]["message"], answer
    c["node2"].start(wait=False)
    wait_until("it is back", lambda: is_connected(c["node2"]))


if __name__ == "__main__":
    main()
