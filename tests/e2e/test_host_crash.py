"""R5: the host is killed (-9, by its own fault point) between two of its steps, on a real engine. Afterwards the task has run
exactly once and has its exit code, its output is whole, its GPU is free, and nothing is left of it."""
import http.client
import re
from pathlib import Path

from cluster import EXE, ROOT, Cluster, main, skip, wait_until

c = None


def setup_module():
    global c
    if b"host-before-commit" not in Path(EXE).read_bytes():
        skip("this build has no crash points")
    c = Cluster(nodes=())
    (c.dir / "data").mkdir()
    c.add_node("node2", allowed_mounts=c.dir / "data")


def teardown_module():
    if c:
        c.destroy()


def fault_points():
    names = set()
    for path in Path(ROOT / "src").rglob("*.c"):
        names |= set(re.findall(r'fault_point\("([^"]+)"\)', path.read_text()))
    return sorted(names)


def submission(name):
    """Writes a line into a file of its own each time it runs."""
    return {"targets": ["node2::0"], "command": ["sh", "-c", "echo run >> /data/%s; echo out; echo err >&2; exit 5" % name],
            "mounts": ["%s:/data" % (c.dir / "data")]}


def try_submit(name):
    """The id that was answered; None when the host died before it answered."""
    try:
        status, answer = c.api("POST", "/tasks", submission(name))
    except (OSError, http.client.HTTPException):
        return None
    assert status == 201, answer
    return answer["tasks"][0]["id"]


def check_outcome(name, task_id):
    task = c.wait_released(task_id, timeout=30)
    assert task["state"] == "failed" and task.get("exit_code") == 5, (name, task)
    assert (c.dir / "data" / name).read_text() == "run\n", "%s: ran %r" % (name, (c.dir / "data" / name).read_text())
    # A node counts as online for a while after its connection broke: the logs wait for the new one.
    wait_until("node2 is connected", lambda: c.cli("task", "logs", str(task_id)).code == 0)
    assert c.cli("task", "logs", str(task_id), code=0).out == "out\n", name
    assert c.cli("task", "logs", "--stderr", str(task_id), code=0).out == "err\n", name
    c["node2"].wait_free(0, 1)
    wait_until("no container is left after %s" % name, lambda: not c.engine.containers())
    leases = c["node2"].state_dir / "leases"
    wait_until("no lease file is left after %s" % name, lambda: not list(leases.glob("*.json")))


def crash_host(name):
    c.host.stop()
    c.start_host(KOHAKURIVER_FAULT=name + ":2")  # the first is the node's own coming, or an earlier record
    before = {task["id"] for task in c.tasks()}
    c["node2"].wait_online()
    answered = try_submit(name)
    wait_until("the host dies at %s" % name, lambda: not c.host.is_running(), 20)
    c.start_host()
    c["node2"].wait_online()
    now = {task["id"] for task in c.tasks()} - before
    assert answered is None or now == {answered}, (name, answered, now)
    if now:
        check_outcome(name, now.pop())
    else:
        assert not (c.dir / "data" / name).exists(), "%s: it ran and is not known" % name
        c["node2"].wait_free(0, 1)


def test_every_fault_point_of_the_host():
    points = [name for name in fault_points() if name.startswith("host-")]
    assert points
    for name in points:
        crash_host(name)


if __name__ == "__main__":
    main()
