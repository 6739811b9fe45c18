"""The runner is killed between every two of its steps (the named crash points of src/runner, needs -Dfault_points=true): the
task runs once, its output is whole, its result is true, its GPU comes back."""
import time
from pathlib import Path

from cluster import EXE, Cluster, main, skip, wait_until

POINTS = ("runner-lease-written", "runner-container-created", "runner-container-started", "runner-exit-seen",
          "runner-result-written", "runner-container-removed", "runner-release-noted", "runner-report-sent", "runner-ack-received")
c = None


def setup_module():
    global c
    if POINTS[0].encode() not in Path(EXE).read_bytes():
        skip("this build has no crash points")
    c = Cluster(nodes=("mynode",))


def teardown_module():
    if c:
        c.destroy()


def crash_at(point):
    node = c["mynode"]
    node.daemon.stop()
    node.start(KOHAKURIVER_FAULT=point)
    task_id = c.submit("mynode::1", "sh", "-c", "echo begin; sleep 0.5; echo end; exit 7")
    wait_until("the runner dies at " + point, lambda: not node.daemon.is_running(), 20)
    assert node.daemon.process.returncode == -9, node.daemon.tail()
    time.sleep(0.7)  # it ends while nobody looks, if it runs
    started_before = c.engine.container_of(task_id)
    node.start()
    task = c.wait_released(task_id)
    assert task["state"] == "failed" and task["exit_code"] == 7 and not task.get("reason"), (point, task)
    wait_until("the output of task %d is there" % task_id,  # it is the node's, which may still be on its way back
               lambda: c.cli("task", "logs", str(task_id)).out == "begin\nend\n", 10)
    assert task["started_ms"] <= task["finished_ms"], task
    if started_before and started_before["State"]["Pid"] == 0 and started_before["State"]["Status"] == "exited":
        assert task["finished_ms"] - task["started_ms"] < 3000  # the engine's times, not those of the second life
    node.wait_free(1)
    assert c.engine.container_of(task_id) is None, point
    wait_until("nothing is left of task %d in %s" % (task_id, node.state_dir),
               lambda: not list((node.state_dir / "leases").glob("%d.*" % task_id)), 10)


def add(point):
    def test():
        crash_at(point)
    test.__name__ = "test_killed_at_" + point.replace("-", "_")
    globals()[test.__name__] = test


for each in POINTS:
    add(each)

if __name__ == "__main__":
    main()
