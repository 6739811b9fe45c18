"""Things that break: nodes that fall silent, GPUs that do not answer, engines that stop, disks that are full."""
import os
import signal
import subprocess
import time

from cluster import HOOK_DIR, NVML_OLD, OFFLINE_MS, TERMINAL, Cluster, fill_disk, main, skip, wait_until

c = None
SLEEP = ("sleep", "300")


def setup_module():
    global c
    c = Cluster()


def teardown_module():
    if c:
        c.destroy()


# ---- a silent node ----

def test_L27_a_silent_node_is_offline_its_task_lost_and_its_gpu_stays_held():
    node = c["node2"]
    task_id = c.submit("node2::0", *SLEEP)
    c.wait_state(task_id, "running")
    node.daemon.freeze()
    try:
        begin = time.monotonic()
        wait_until("node2 is offline", lambda: not node.status()["online"], OFFLINE_MS / 1000 + 25)
        assert time.monotonic() - begin > OFFLINE_MS / 1000 - 1.5, "too early"
        assert c.task(task_id)["state"] == "lost" and c.task(task_id)["holds_lease"]
        assert node.gpu(0)["holder"]["task_id"] == task_id and not node.gpu(0)["free"]
        result = c.cli("task", "submit", "-t", "node2::1", "--", "true", code=1)
        assert "offline" in result.err or "silent" in result.err, result
        assert "offline" in c.cli("node", "list", code=0).out
        assert [t["id"] for t in c.api("GET", "/tasks?status=lost")[1]["tasks"]] == [task_id]
        # Somebody gives up on it: the kill is recorded and reaches the node when it is back.
        assert c.cli("task", "kill", str(task_id), code=0)
        assert c.task(task_id)["holds_lease"]
    finally:
        node.daemon.thaw()
    node.wait_online()
    assert c.wait_released(task_id)["state"] == "killed"
    node.wait_free(0, 1)


def test_a_task_that_ends_while_its_node_is_silent_keeps_its_exit_code():
    node = c["node2"]
    task_id = c.submit("node2::0", "sh", "-c", "sleep 3; echo done; exit 9")
    c.wait_state(task_id, "running")
    node.daemon.freeze()
    try:
        wait_until("the task is lost", lambda: c.task(task_id)["state"] == "lost", OFFLINE_MS / 1000 + 25)
        wait_until("it has ended there", lambda: not c.engine.container_of(task_id)["State"]["Running"])
    finally:
        node.daemon.thaw()
    task = c.wait_released(task_id)
    assert task["state"] == "failed" and task["exit_code"] == 9, task
    assert c.cli("task", "logs", str(task_id), code=0).out == "done\n"


# ---- GPUs ----

def test_nvml_failing_makes_gpus_unknown_and_unknown_is_not_free():
    node = c["mynode"]
    for fault in ({"return": "DRIVER_NOT_LOADED"}, {"return": "LIB_RM_VERSION_MISMATCH"}, {"hang": True}, {"crash": True}):
        node.set_faults(**{"*": fault})
        wait_until(lambda: "no GPU of mynode is free with %r: %r" % (fault, node.status()), lambda: not node.free_gpus(), 30)
        result = c.cli("task", "submit", "-t", "mynode::0", "--", "true", code=1)
        assert "mynode" in result.err, result
        assert node.status()["online"], "a hanging card took the node down"
        node.set_faults()
        node.wait_free(0, 1, 2, 3, timeout=30)
    assert [g["index"] for g in node.status()["gpus"]] == [0, 1, 2, 3]


def test_a_worker_has_none_of_its_runners_connections():
    """Else the host would not see the death of a runner whose worker hangs on a card."""
    node = c["node2"]

    def worker():
        found = subprocess.run(["pgrep", "-P", str(node.daemon.pid), "-f", "gpu-worker"], capture_output=True, text=True).stdout.split()
        return int(found[0]) if len(found) == 1 else None

    first = worker()
    os.kill(first, signal.SIGKILL)  # the next one is started while the runner has its connection
    wait_until("another worker", lambda: worker() not in (None, first), 20)
    shared = sockets_of(worker()) & sockets_of(node.daemon.pid)
    assert not shared, shared
    assert sockets_of(node.daemon.pid)


def sockets_of(pid):
    links = (os.readlink(entry.path) for entry in os.scandir("/proc/%d/fd" % pid))
    return {link for link in links if link.startswith("socket:")}


def test_L57_one_lost_gpu_leaves_the_others_usable_and_indices_as_they_are():
    node = c["mynode"]
    node.change_gpu(1, faults={"*": {"return": "GPU_IS_LOST"}})
    try:
        wait_until(lambda: "GPU 1 alone is out: %r" % node.status()["gpus"], lambda: node.free_gpus() == [0, 2, 3], 20)
        assert c.run("mynode::2", "sh", "-c", "cd /dev; echo nvidia[0-9]*").out == "nvidia2\n"
        result = c.cli("task", "submit", "-t", "mynode::1", "--", "true", code=1)
        assert "GPU 1" in result.err and "0, 2, 3" in result.err, result
    finally:
        node.change_gpu(1, faults={})
    node.wait_free(0, 1, 2, 3)


def test_L10_a_foreign_process_makes_a_gpu_not_free():
    node = c["mynode"]
    process = subprocess.Popen(["sleep", "300"])
    node.change_gpu(2, processes=[{"pid": process.pid, "memory_mib": 900, "kind": "compute"}], memory_used_mib=904)
    try:
        wait_until("GPU 2 is foreign", lambda: node.gpu(2)["condition"] == "foreign", 20)
        wait_until(lambda: "the process is named: %r" % node.gpu(2), lambda: str(process.pid) in node.gpu(2)["reason"], 40)
        assert str(process.pid) in c.cli("task", "submit", "-t", "mynode::2", "--", "true", code=1).err
    finally:
        process.kill()
        process.wait()
        node.change_gpu(2, processes=[], memory_used_mib=4)
    node.wait_free(2)


def test_R2_memory_that_stays_after_a_task_keeps_the_gpu_held_and_says_so():
    node = c["mynode"]
    task_id = c.submit("mynode::3", *SLEEP)
    c.wait_state(task_id, "running")
    node.change_gpu(3, memory_used_mib=40000)
    time.sleep(0.5)
    c.cli("task", "kill", str(task_id), code=0)
    task = c.wait_state(task_id, "killed", timeout=25)
    assert task["holds_lease"] and task["holding"], task
    assert c.cli("task", "submit", "-t", "mynode::3", "--", "true").code == 1
    assert "still held by" in c.cli("task", "status", str(task_id), code=0).out
    node.change_gpu(3, memory_used_mib=4)
    c.wait_released(task_id)
    node.wait_free(3)


def test_a_node_without_nvml_says_so_and_gets_no_gpu_task():
    node = c.add_node("blind", nvml_library="libnvidia-ml-that-is-not-there.so.1")
    status = node.status()
    assert node.free_gpus() == [], status
    result = c.cli("task", "submit", "-t", "blind::0", "--", "true", code=1)
    assert "blind" in result.err, result
    shown = c.cli("node", "status", "blind", code=0).out
    assert "libnvidia-ml-that-is-not-there" in shown, shown
    assert c.run("blind", "echo", "no GPU needed").out == "no GPU needed\n"
    assert node.daemon.stop() == 0


def test_an_old_nvml_without_new_functions_still_counts_its_gpus():
    if not NVML_OLD.exists():
        skip("%s is not built" % NVML_OLD)
    node = c.add_node("old", nvml_library=NVML_OLD)
    node.wait_free(0, 1)
    gpu = node.gpu(0)
    assert gpu["name"] and gpu["memory_total_bytes"] > 0, gpu
    assert c.run("old::0", "sh", "-c", "cd /dev; echo nvidia[0-9]*").out == "nvidia%d\n" % node.scenario["gpus"][0]["minor"]
    assert node.daemon.stop() == 0


# ---- engines ----

def test_L52_an_engine_that_drops_the_gpus_silently_fails_the_task():
    # The hook is replaced by one that does nothing: the container starts without its card.
    fake = c.dir / "silent-hook"
    fake.mkdir()
    (fake / "nvidia-container-runtime-hook").write_text("#!/bin/sh\nexit 0\n")
    (fake / "nvidia-container-runtime-hook").chmod(0o755)
    engine = c.add_engine("silent", hook=True)
    engine.stop()
    engine.hook_dir = fake
    engine.start()
    node = c.add_node("silent", engine=engine)
    result = c.cli("task", "submit", "-w", "-t", "silent::0", "--", "sleep", "20")
    assert result.code != 0 and "not exactly the GPUs" in result.err, result
    task = c.tasks()[0]
    assert task["state"] == "failed" and task["reason"], task
    c.wait_released(task["id"])
    assert not engine.containers()
    assert node.daemon.stop() == 0


def test_an_engine_without_a_hook_fails_gpu_tasks_clearly_and_runs_others():
    engine = c.add_engine("plain", hook=False)
    node = c.add_node("plain", engine=engine)
    result = c.cli("task", "submit", "-w", "-t", "plain::0", "--", "true", code=1)
    assert "GPU" in result.err or "gpu" in result.err, result
    assert c.run("plain", "echo", "works").out == "works\n"
    node.wait_free(0, 1)
    assert not engine.containers()
    assert node.daemon.stop() == 0
    assert HOOK_DIR.exists()


def test_a_stopped_engine_is_seen_and_one_that_is_back_is_used():
    node = c["node2"]
    c.kill_everything()
    c.engine.stop()
    try:
        wait_until("the engine is gone", lambda: not node.status()["engine_ok"], 20)
        assert "NOT WORKING" in c.cli("node", "status", "node2", code=0).out
        assert c.cli("task", "submit", "-t", "node2::0", "--", "true").code == 1
    finally:
        c.engine.start()
    wait_until(lambda: "the engine is back: %r" % node.status(), lambda: node.status()["engine_ok"], 30)
    assert c.run("node2::0", "true")


# ---- full disks ----

def make_disk(name, size="512k"):
    folder = c.dir / name
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", str(folder)]).returncode != 0:
        skip("no tmpfs can be mounted")
    return folder


def empty(folder):
    (folder / "filler").unlink()


def test_a_full_disk_on_a_node_refuses_tasks_and_loses_nothing():
    disk = make_disk("small", "2m")
    node = c.add_node("small", state_dir=disk / "state", log_max_bytes="4M")
    try:
        survivor = c.submit("small::0", "sh", "-c", "echo first; sleep 6; echo second; exit 4")
        c.wait_state(survivor, "running")
        fill_disk(disk)
        result = c.run("small::1", "true", code=1)
        assert "space" in result.err.lower() or "disk" in result.err.lower(), result
        time.sleep(6)  # it ends while its result cannot be kept
        assert node.gpu(0)["holder"]["task_id"] == survivor
        empty(disk)
        ended = c.wait_state(survivor, *TERMINAL, timeout=25)
        assert ended["exit_code"] == 4, ended
        c.wait_released(survivor)
        wait_until("the disk is well again", lambda: node.status()["disk_ok"], 20)
        assert c.run("small::1", "true")
        out = c.cli("task", "logs", str(survivor), code=0).out
        assert out.startswith("first\n"), out
    finally:
        status = node.daemon.stop()
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert status == 0


if __name__ == "__main__":
    main()
