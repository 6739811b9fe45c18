"""kill -9 of host, runner and dockerd while tasks run: no task, log or exit code is lost, no GPU freed or given twice."""
import time

from cluster import Cluster, main, wait_until

c = None
# Prints a line every 0.1 s, so that a gap or a repetition shows; ends with a code of its own.
COUNTER = "i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); sleep 0.1; done; exit %d"


def setup_module():
    global c
    c = Cluster()


def teardown_module():
    if c:
        c.destroy()


def lines(n):
    return "".join("line %d\n" % i for i in range(n))


def check_held(task_id, node, index):
    gpu = c[node].gpu(index)
    assert gpu["holder"]["task_id"] == task_id and not gpu["free"], gpu
    assert c.cli("task", "submit", "-t", "%s::%d" % (node, index), "--", "true").code == 1


def check_same_process(task_id, pid):
    """It was not started again; it may have ended by itself meanwhile."""
    container = c.engine.container_of(task_id)
    assert not container or container["State"]["Pid"] in (pid, 0) and container["RestartCount"] == 0, container["State"]


def test_kill_9_of_the_host_while_tasks_run():
    waiter = c.popen("task", "submit", "-w", "-t", "mynode::0", "--", "sh", "-c", COUNTER % (40, 6))
    assert waiter.stdout.readline() == b"line 0\n"
    long_one = c.submit("mynode::1", "sleep", "300")
    short_one = c.submit("node2::0", "sh", "-c", "echo bye; exit 11")
    c.wait_state(long_one, "running")
    pid_before = c.engine.container_of(long_one)["State"]["Pid"]
    c.host.kill()
    time.sleep(1.5)  # short_one ends meanwhile
    c.start_host()
    check_held(long_one, "mynode", 1)
    assert c.engine.container_of(long_one)["State"]["Pid"] == pid_before
    task = c.wait_released(short_one)
    assert task["exit_code"] == 11, task
    assert c.cli("task", "logs", str(short_one), code=0).out == "bye\n"
    out, err = waiter.communicate(timeout=40)
    assert waiter.returncode == 6 and ("line 0\n" + out.decode()) == lines(40), (waiter.returncode, out[-200:], err[-500:])
    assert c.kill_task(long_one)["state"] == "killed"


def test_what_was_answered_201_is_there_after_kill_9():
    ids = []
    for _ in range(10):
        ids.append(c.api("POST", "/tasks", {"targets": ["mynode"], "command": ["true"]})[1]["tasks"][0]["id"])
    c.host.kill()
    c.start_host()
    for task_id in ids:
        assert c.task(task_id)["command"] == ["true"]
    for task_id in ids:
        c.wait_released(task_id, timeout=40)
        assert c.task(task_id)["state"] == "completed", c.task(task_id)


def test_kill_9_of_a_runner_while_tasks_run():
    node = c["mynode"]
    counting = c.submit("mynode::0", "sh", "-c", COUNTER % (80, 7))
    short_one = c.submit("mynode::2", "sh", "-c", "sleep 2; echo meanwhile; exit 12")
    c.wait_state(counting, "running")
    c.wait_state(short_one, "running")
    pid_before = c.engine.container_of(counting)["State"]["Pid"]
    node.daemon.kill()
    time.sleep(2.5)  # short_one ends while nobody looks
    check_held(counting, "mynode", 0)
    node.start()
    check_held(counting, "mynode", 0)
    assert c.engine.container_of(counting)["State"]["Pid"] == pid_before
    task = c.wait_released(short_one)
    assert task["exit_code"] == 12, task
    assert c.cli("task", "logs", str(short_one), code=0).out == "meanwhile\n"
    task = c.wait_released(counting, timeout=30)
    assert task["exit_code"] == 7, task
    assert c.cli("task", "logs", str(counting), code=0).out == lines(80)
    node.wait_free(0, 1, 2, 3)


def test_kill_9_of_dockerd_while_tasks_run():
    counting = c.submit("mynode::0", "sh", "-c", COUNTER % (60, 8))
    c.wait_state(counting, "running")
    pid_before = c.engine.container_of(counting)["State"]["Pid"]
    c.engine.kill()
    time.sleep(1)
    assert c.task(counting)["state"] not in ("failed", "killed", "completed"), c.task(counting)
    check_held(counting, "mynode", 0)
    c.engine.start()
    check_same_process(counting, pid_before)
    task = c.wait_released(counting, timeout=40)
    assert task["exit_code"] == 8, task
    assert c.cli("task", "logs", str(counting), code=0).out == lines(60)
    c["mynode"].wait_free(0, 1, 2, 3)


def test_kill_9_of_everything_at_once():
    counting = c.submit("mynode::0,1", "sh", "-c", COUNTER % (70, 9))
    c.wait_state(counting, "running")
    pid_before = c.engine.container_of(counting)["State"]["Pid"]
    c.host.kill()
    c["mynode"].daemon.kill()
    c["node2"].daemon.kill()
    c.engine.kill()
    c.engine.start()
    c.start_host()
    check = c.task(counting)
    assert check["holds_lease"] and check["state"] not in ("failed", "killed", "completed"), check
    check_held(counting, "mynode", 1)
    for node in ("mynode", "node2"):
        c[node].start()
    check_same_process(counting, pid_before)
    task = c.wait_released(counting, timeout=40)
    assert task["exit_code"] == 9, task
    assert c.cli("task", "logs", str(counting), code=0).out == lines(70)
    wait_until("everything is free", lambda: not c.holders())


def test_a_graceful_stop_touches_no_task():
    task_id = c.submit("mynode::3", "sleep", "300")
    c.wait_state(task_id, "running")
    pid_before = c.engine.container_of(task_id)["State"]["Pid"]
    assert c["mynode"].daemon.stop() == 0 and c.host.stop() == 0
    assert c.engine.container_of(task_id)["State"]["Pid"] == pid_before
    c.start_host()
    c["mynode"].start()
    c.wait_state(task_id, "running")
    check_held(task_id, "mynode", 3)
    c.kill_task(task_id)


def test_a_kill_asked_for_while_the_runner_is_down_arrives_later():
    task_id = c.submit("mynode::3", "sleep", "300")
    c.wait_state(task_id, "running")
    c["mynode"].daemon.kill()
    assert c.cli("task", "kill", str(task_id), code=0)
    c["mynode"].start()
    assert c.wait_released(task_id)["state"] == "killed"


if __name__ == "__main__":
    main()
