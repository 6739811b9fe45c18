"""The kill matrix: host and runner are killed (-9) at each of their named crash points (src/base/fault.h, needs
-Dfault_points=true), at each moment of a task's life, alone or together with each other and with the Docker Engine. Whatever
died, the task ran once at most and its end is the true one; its GPU is free, with the node's proof; nothing is left at the
engine and on the node's disk.

docs/kill-matrix.md must name the same rows and outcomes (kill_table.py)."""
import concurrent.futures
import http.client
import os
import re
from pathlib import Path

from cluster import EXE, ROOT, Cluster, main, skip, wait_until
from kill_table import check_table, points_of

STARTING = ("runner-lease-written", "runner-container-created", "runner-container-started")
ENDING = ("runner-exit-seen", "runner-result-written", "runner-container-removed", "runner-release-noted", "runner-ack-received")
RUNNER_POINTS = STARTING + ("runner-report-sent",) + ENDING
HOST_POINTS = ("host-before-commit", "host-after-commit", "host-report-received")
RUNS_ONCE = "echo run >> /data/%s; echo begin; %s; echo end; exit 7"

HEAD = """# What dies where, and what comes of it

`tests/e2e/test_kill_matrix.py` kills the processes named, `-9`, at the crash point named, with a real Docker Engine, and starts
them again; this table is its result, and it fails when the two differ. *Ended as*: the task's state and exit code. *Runs*: how
often its command was started. In each row the GPU was free afterwards with its node's proof (no process, idle memory, driver
in order), and neither a container nor a lease file was left.

| crash point | while the task | died too | ended as | runs |
| --- | --- | --- | --- | --- |
"""
c = None
rows, driven = [], set()


def setup_module():
    global c
    if RUNNER_POINTS[0].encode() not in Path(EXE).read_bytes():
        skip("this build has no crash points")
    c = Cluster(nodes=())
    (c.dir / "data").mkdir()
    for i in range(len(RUNNER_POINTS) - 2):
        c.add_node("kill%d" % i, start=False, allowed_mounts=c.dir / "data")
    for name in ("mynode", "node2"):
        c.add_node(name, start=False, allowed_mounts=c.dir / "data")
    for node in c.nodes.values():
        node.start(wait=False)
    for node in c.nodes.values():
        node.wait_online()


def teardown_module():
    if c:
        c.destroy()


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(function, items))


# ---- what is checked in each row ----

def submission(node, name, wait):
    return {"targets": [node.name + "::0"], "command": ["sh", "-c", RUNS_ONCE % (name, wait)],
            "mounts": ["%s:/data" % (c.dir / "data")]}


def runs(name):
    path = c.dir / "data" / name
    return path.read_text().count("run\n") if path.exists() else 0


def check_row(row, task_id, name):
    """row: (point, moment, who else died, node)"""
    point, moment, others, node = row
    task = c.wait_released(task_id, timeout=60)
    if moment == "is killed":
        assert task["state"] == "killed" and runs(name) <= 1, (row, task, runs(name))
        ended = "killed"
    else:
        assert task["state"] == "failed" and task.get("exit_code") == 7 and not task.get("reason"), (row, task)
        assert runs(name) == 1, (row, runs(name))
        assert task["started_ms"] <= task["finished_ms"], task
        wait_until("the output of task %d is there (%r)" % (task_id, row),  # it is the node's, which may be on its way back
                   lambda: c.cli("task", "logs", str(task_id)).out == "begin\nend\n")
        ended = "failed, exit code 7"
    node.wait_free(0, 1)
    wait_until(lambda: "the proof of rest is shown: %r" % node.gpu(0),
               lambda: {"no_process", "memory_idle", "driver"} <= set(node.gpu(0).get("proof", {"facts": []})["facts"]))
    wait_until("no container of task %d is left (%r)" % (task_id, row), lambda: c.engine.container_of(task_id) is None)
    wait_until("no lease file of task %d is left (%r)" % (task_id, row),
               lambda: not list((node.state_dir / "leases").glob("%d.*" % task_id)))
    driven.add(point)
    rows.append((point, moment, others, ended, "1" if moment != "is killed" else "0 or 1"))


# ---- runners ----

def start_one(row):
    """Arms a node, gives it a task and lets it die."""
    point, moment, others, node = row
    name = re.sub(r"\W", "-", "%s-%s-%s" % (point, moment, others))
    wait = "sleep 0.5" if moment != "is killed" else "sleep 300"
    status, answer = c.api("POST", "/tasks", submission(node, name, wait))
    assert status == 201, (row, answer)
    task_id = answer["tasks"][0]["id"]
    if moment == "is killed":
        wait_until("task %d runs, or %s died" % (task_id, node.name),
                   lambda: not node.daemon.is_running() or c.task(task_id)["state"] == "running")
        c.cli("task", "kill", str(task_id), code=0)
    wait_until("the runner dies at " + point, lambda: not node.daemon.is_running(), 40)
    assert node.daemon.process.returncode == -9, node.daemon.tail()
    return task_id, name


def kill_runners(moment, others):
    """Every point of the runner at once, each on a node of its own."""
    batch = [(point, moment, others, node) for point, node in zip(RUNNER_POINTS, c.nodes.values())]
    for point, _, _, node in batch:
        node.daemon.kill()
        node.start(wait=False, KOHAKURIVER_FAULT=point)
    for row in batch:
        row[3].wait_online()
    tasks = in_parallel(start_one, batch)
    if "host" in others:
        c.host.kill()
    if "dockerd" in others:
        c.engine.kill()
        c.engine.start()
    if "host" in others:
        c.start_host()
    for row in batch:
        row[3].start(wait=False)
    for row in batch:
        row[3].wait_online()
    in_parallel(lambda each: check_row(each[0], *each[1]), list(zip(batch, tasks)))


def test_runners_die_from_submission_to_completion():
    kill_runners("runs and ends", "—")


def test_runners_die_while_their_tasks_are_killed():
    kill_runners("is killed", "—")


def test_runners_and_the_host_die():
    kill_runners("runs and ends", "host")


def test_runners_and_dockerd_die():
    kill_runners("runs and ends", "dockerd")


def test_runners_the_host_and_dockerd_die_while_tasks_are_killed():
    kill_runners("is killed", "host, dockerd")


# ---- the host ----

def only_node2():
    """The others' coming would be recorded too, and count as hits."""
    for node in c.nodes.values():
        if node.name != "node2" and node.daemon.is_running():
            node.daemon.stop()


def restart_armed(point):
    c.host.stop()
    c.start_host(wait_nodes=False,  # the first commit is that of the node's own coming
                 KOHAKURIVER_FAULT=point + ":%d" % (1 if point == "host-report-received" else 2))
    c["node2"].wait_online()


def try_submit(node, name, wait):
    """The id that was answered; None when the host died before it answered."""
    try:
        status, answer = c.api("POST", "/tasks", submission(node, name, wait))
    except (OSError, http.client.HTTPException):
        return None
    assert status == 201, answer
    return answer["tasks"][0]["id"]


def crash_host(point, moment, others):
    only_node2()
    node = c["node2"]
    name = re.sub(r"\W", "-", "%s-%s-%s" % (point, moment, others))
    go = "while [ ! -e /data/%s.go ]; do sleep 0.1; done" % name
    if moment == "is submitted":
        restart_armed(point)
        before = {task["id"] for task in c.tasks()}
        task_id = try_submit(node, name, "true")
    else:
        task_id = c.api("POST", "/tasks", submission(node, name, go))[1]["tasks"][0]["id"]
        c.wait_state(task_id, "running")
        restart_armed(point)
        if moment == "runs and ends":
            (c.dir / "data" / (name + ".go")).touch()
        else:
            answered = c.cli("task", "kill", str(task_id)).code == 0
    wait_until("the host dies at " + point, lambda: not c.host.is_running(), 40)
    assert c.host.process.returncode == -9, c.host.tail()
    if "runner" in others:
        node.daemon.kill()
    if "dockerd" in others:
        c.engine.kill()
        c.engine.start()
    c.start_host()
    if "runner" in others:
        node.start()
    row = (point, moment, others, node)
    if moment == "is submitted":
        now = {task["id"] for task in c.tasks()} - before
        assert task_id is None or now == {task_id}, (row, task_id, now)
        if not now:
            assert runs(name) == 0, "%s: it ran and is not known" % name
            node.wait_free(0, 1)
            driven.add(point)
            rows.append((point, moment, others, "refused: never answered, not recorded", "0"))
            return
        task_id = now.pop()
    if moment == "is killed" and not answered:  # then it may not have been recorded: whoever asked knows, and asks again
        c.cli("task", "kill", str(task_id))
    check_row(row, task_id, name)


def test_the_host_dies_while_a_task_is_submitted():
    for point in HOST_POINTS:
        crash_host(point, "is submitted", "—")


def test_the_host_dies_while_a_task_ends():
    for point in HOST_POINTS:
        crash_host(point, "runs and ends", "—")


def test_the_host_dies_while_a_task_is_killed():
    for point in HOST_POINTS:
        crash_host(point, "is killed", "—")


def test_the_host_and_the_runner_die_while_a_task_ends():
    for point in HOST_POINTS:
        crash_host(point, "runs and ends", "runner")


# ---- the table ----

def test_every_crash_point_of_a_containers_task_was_driven():
    """Those of switching cards are driven by tests/unit/test_vfio_crash.c; those of machines by test_vps_kill_matrix.py."""
    points = points_of(*(room.name for room in (ROOT / "src").iterdir() if room.is_dir() and room.name not in ("vfio", "vm")))
    switching = (ROOT / "tests/unit/test_vfio_crash.c").read_text()
    assert all('"%s"' % point in switching for point in points_of("vfio")), points_of("vfio")
    assert points == set(RUNNER_POINTS + HOST_POINTS), points ^ set(RUNNER_POINTS + HOST_POINTS)
    if os.environ.get("TEST_NAMES"):
        skip("only some rows were driven")
    assert driven == points, points - driven


def test_the_table_is_the_one_in_the_documentation():
    check_table("kill-matrix", HEAD, RUNNER_POINTS + HOST_POINTS, rows)


if __name__ == "__main__":
    main()
