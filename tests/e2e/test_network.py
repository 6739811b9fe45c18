"""Cut networks, real ones: each runner in a network namespace of its own (netns.py), its link pulled or its packets swallowed
for longer than offline_after, at four moments of a task: while it starts, runs, ends, is killed. Nothing is freed and nothing
given twice meanwhile; afterwards each task has run once and has its true end."""
import os
import time

from cluster import Cluster, main, wait_until
from netns import Cable

c = None
cables = []
WAITS = "echo run >> /data/%s; while [ ! -e /data/go ]; do sleep 0.1; done; exit %d"


def setup_module():
    global c
    cables.extend((Cable(), Cable()))
    cables[1].route(cables[0].host)
    c = Cluster(nodes=(), address=cables[0].host)
    (c.dir / "data").mkdir()
    for name, cable in zip(("mynode", "node2"), cables):
        c.add_node(name, start=False, prefix=cable.prefix, allowed_mounts=c.dir / "data").start(wait=False)
    for node in c.nodes.values():
        node.wait_online()


def teardown_module():
    try:
        if c:
            c.destroy()
    finally:
        for cable in cables:
            cable.close()
    left = [name for name in os.listdir("/sys/class/net") + os.listdir("/run/netns") if name in [each.name for each in cables]]
    assert not left, left


def submit(target, name, code):
    status, answer = c.api("POST", "/tasks", {"targets": [target], "command": ["sh", "-c", WAITS % (name, code)],
                                              "mounts": ["%s:/data" % (c.dir / "data")]})
    assert status == 201, answer
    return answer["tasks"][0]["id"]


def runs(name):
    path = c.dir / "data" / name
    return path.read_text().count("run\n") if path.exists() else 0


def pid_of(task_id):
    container = c.engine.container_of(task_id)
    return container and container["State"]["Pid"]


def let_go():
    (c.dir / "data" / "go").touch()


def check_silent(node, tasks):
    """{GPU index: task id}: they are lost, keep their GPUs, and whoever wants these hears why not."""
    wait_until("%s is offline" % node.name, lambda: not node.status()["online"])
    for index, task_id in tasks.items():
        wait_until("task %d is lost" % task_id, lambda: c.task(task_id)["state"] == "lost")
        gpu = node.gpu(index)
        assert c.task(task_id)["holds_lease"] and gpu["holder"]["task_id"] == task_id and not gpu["free"], (gpu, c.task(task_id))
        refused = c.cli("task", "submit", "-t", "%s::%d" % (node.name, index), "--", "true", code=1)
        assert "silent" in refused.err or "offline" in refused.err, refused
        assert "held by task %d" % task_id in refused.err, refused


def check_end(task_id, name, code):
    task = c.wait_released(task_id, 60)
    assert task["state"] == "failed" and task["exit_code"] == code and runs(name) == 1, (task, runs(name))


def check_nothing_left():
    c["mynode"].wait_free(0, 1, 2, 3)
    c["node2"].wait_free(0, 1)
    wait_until("no container is left", lambda: not c.engine.containers())
    for node in c.nodes.values():
        wait_until("no lease file is left", lambda: not list((node.state_dir / "leases").glob("*.json")))
    (c.dir / "data" / "go").unlink(missing_ok=True)


def test_a_link_that_is_pulled_and_plugged_in_again():
    node, cable = c["node2"], cables[1]
    running = submit("node2::0", "pulled-running", 8)
    c.wait_state(running, "running")
    pid = pid_of(running)
    starting = submit("node2::1", "pulled-starting", 9)
    cable.pull()
    check_silent(node, {0: running, 1: starting})
    cable.plug()
    cable.route(cables[0].host)
    node.wait_online()
    for task_id in (running, starting):
        c.wait_state(task_id, "running")
    assert pid_of(running) == pid
    let_go()
    check_end(running, "pulled-running", 8)
    check_end(starting, "pulled-starting", 9)
    check_nothing_left()


def test_packets_that_are_swallowed_until_both_sides_give_the_connection_up():
    node, cable = c["mynode"], cables[0]
    ending, killed, running = submit("mynode::0", "ending", 3), submit("mynode::1", "killed", 4), submit("mynode::2", "running", 5)
    for task_id in (ending, killed, running):
        c.wait_state(task_id, "running")
    pids = {task_id: pid_of(task_id) for task_id in (killed, running)}
    starting = submit("mynode::3", "starting", 6)
    begin = time.monotonic()
    cable.swallow()  # the connection is half open: neither end is told
    c.engine.call("POST", "/containers/%s/kill?signal=KILL" % c.engine.container_of(ending)["Id"])
    check_silent(node, {0: ending, 1: killed, 2: running, 3: starting})
    c.cli("task", "kill", str(killed), code=0)  # it is recorded, and reaches the node when that is back
    assert c.task(killed)["holds_lease"] and pid_of(killed) == pids[killed]
    for daemon in (c.host, node.daemon):
        wait_until(lambda: "%s notices: %s" % (daemon.name, daemon.tail()), lambda: "silent" in daemon.tail(), 60)
    assert time.monotonic() - begin < 50, "noticed too late"
    check_silent(node, {0: ending, 1: killed, 2: running, 3: starting})
    cable.pass_on()
    node.wait_online()
    assert c.wait_released(killed)["state"] == "killed" and runs("killed") == 1
    task = c.wait_released(ending)
    assert task["state"] == "failed" and task["exit_code"] == 137 and runs("ending") == 1, task
    for task_id in (running, starting):
        c.wait_state(task_id, "running")
    assert pid_of(running) == pids[running]
    let_go()
    check_end(running, "running", 5)
    check_end(starting, "starting", 6)
    check_nothing_left()


if __name__ == "__main__":
    main()
