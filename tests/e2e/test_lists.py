"""Lists as a page of many tasks needs them: filters, pages, totals; and what only a node can find out."""
import json
from urllib.parse import urlencode

from cluster import Cluster, main, wait_until

c = None


def setup_module():
    global c
    c = Cluster()


def teardown_module():
    if c:
        c.destroy()


def page(**query):
    status, answer = c.api("GET", "/tasks?" + urlencode(query))
    assert status == 200, answer
    return answer


def ids(**query):
    return [task["id"] for task in page(**query)["tasks"]]


def test_filters_pages_and_totals():
    uuids = [gpu["uuid"] for gpu in c["mynode"].status()["gpus"]]
    done = []
    for i in range(3):
        done.append(c.submit("mynode::0", "true", options=("--name", "Größe-%d" % i)))
        c.wait_released(done[-1])
    failed = c.submit("mynode::1", "sh", "-c", "exit 4 # needle")
    c.wait_released(failed)
    runs = c.submit("mynode::1", "sleep", "1000")
    far = c.submit("node2::0", "sleep", "1000")
    for task_id in (runs, far):
        c.wait_state(task_id, "running")
    newest_first = [far, runs, failed] + done[::-1]
    assert ids() == newest_first
    assert ids(status="completed") == done[::-1] and ids(status="failed,completed") == [failed] + done[::-1]
    assert ids(status="live") == [far, runs] == ids(status="running") and ids(status="live,failed") == [far, runs, failed]
    assert ids(gpu=uuids[0]) == done[::-1] and ids(gpu=uuids[1]) == [runs, failed] and ids(gpu=uuids[1], status="failed") == [failed]
    assert ids(gpu="GPU-nothing") == [] and ids(node="node2") == [far] and ids(node="node2", gpu=uuids[1]) == []
    assert ids(q="NEEDLE") == [failed] and ids(q="grÖSSE") == [] and ids(q="größe", limit=2) == done[:0:-1]
    owner = c.task(far)["owner"]
    assert ids(owner=owner) == newest_first and ids(owner=owner[:-1]) == [] and ids(owner=owner, q="1000", status="live") == [far, runs]
    got, before = [], {}
    for _ in range(10):  # page by page, nothing twice and nothing left out
        answer = page(limit=2, count=1, **before)
        got += [task["id"] for task in answer["tasks"]]
        assert answer["total"] == len(newest_first)
        if "next_before" not in answer:
            break
        before = {"before": answer["next_before"]}
    assert got == newest_first and len(answer["tasks"]) == 2, got  # no empty page at the end
    for wrong in ("status=running,", "status=lively", "count=2", "q=" + "x" * 256, "owner=" + "x" * 200, "gpu=" + "x" * 200, "q=%ff",
                  "limit=0", "frob=1"):
        assert c.api("GET", "/tasks?" + wrong)[0] == 400, wrong


def test_R3_a_lost_task_is_listed_and_counted_as_lost():
    live = page(status="live")["tasks"]
    here, far = (next(t["id"] for t in live if t["node"] == node) for node in ("mynode", "node2"))
    c["node2"].daemon.freeze()
    try:
        c.wait_state(far, "lost")
        for query, wanted in ((dict(status="lost"), [far]), (dict(status="running"), [here]), (dict(status="running,lost"), [far, here]),
                              (dict(status="live"), [far, here]), (dict(status="lost", node="mynode"), []),
                              (dict(status="lost", q="1000"), [far]), (dict(status="running", node="node2"), [])):
            answer = page(count=1, **query)
            assert [t["id"] for t in answer["tasks"]] == wanted and answer["total"] == len(wanted), (query, answer)
    finally:
        c["node2"].daemon.thaw()
    c.wait_state(far, "running")
    c.kill_everything()


def test_the_log_of_orders_by_what_they_were_about():
    for index in (0, 1, 0):
        for verb in ("cordon", "uncordon"):
            assert c.api("POST", "/nodes/mynode/gpus/%d/%s" % (index, verb), {"who": "test", "reason": "r"})[0] == 200
    assert c.api("POST", "/nodes/mynode/cordon", {"who": "test"})[0] == 200
    assert c.api("POST", "/nodes/mynode/uncordon", {"who": "test"})[0] == 200
    entries = c.api("GET", "/audit?" + urlencode({"subject": "GPU 0 of node mynode"}))[1]["entries"]
    assert [e["action"] for e in entries] == ["gpu uncordon", "gpu cordon"] * 2, entries
    two = c.api("GET", "/audit?" + urlencode({"subject": "GPU 0 of node mynode", "limit": 2}))[1]["entries"]
    more = c.api("GET", "/audit?" + urlencode({"subject": "GPU 0 of node mynode", "before": two[-1]["id"]}))[1]["entries"]
    assert two + more == entries
    assert len(c.api("GET", "/audit?" + urlencode({"subject": "node mynode"}))[1]["entries"]) == 2
    assert c.api("GET", "/audit?subject=node")[1]["entries"] == [] and len(c.api("GET", "/audit")[1]["entries"]) >= 8


def test_a_node_is_asked_for_its_doctor():
    status, answer = c.api("GET", "/nodes/mynode/doctor")
    assert status == 200 and set(answer) == {"summary", "checks"}, answer
    assert len(answer["checks"]) == sum(answer["summary"].values()) > 30
    for check in answer["checks"]:
        assert check["id"] and check["outcome"] in ("not_applicable", "ok", "unknown", "warning", "error"), check
    own = {check["id"]: check["outcome"] for check in json.loads(c.cli("doctor", "--format", "json").out)["checks"]}
    assert {check["id"] for check in answer["checks"]} == set(own)  # the node is this machine
    assert c.api("GET", "/nodes/nowhere/doctor")[0] == 404
    c["node2"].daemon.stop()
    wait_until("node2 is not connected", lambda: c.api("GET", "/nodes/node2/doctor")[0] == 503)


if __name__ == "__main__":
    main()
