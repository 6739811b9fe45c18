"""What operators and users order on a real engine: pause, drain, cordon, forced release; a host restored from an old backup;
a node that was rebooted; a submission that is sent twice."""
import os
import shutil
import time

from cluster import EXE, OFFLINE_MS, Cluster, main, skip, wait_until

c = None


def setup_module():
    global c
    c = Cluster()


def teardown_module():
    if c:
        c.destroy()


# ---- pause ----

def settled_log(task_id):
    """The log, once what was on its way has arrived."""
    seen = []

    def stands_still():
        seen.append(c.cli("task", "logs", str(task_id), code=0).out)
        return len(seen) > 3 and len(set(seen[-4:])) == 1

    wait_until(lambda: "the log of task %d stands still: %r" % (task_id, seen[-1][-200:]), stands_still, 30, 0.2)
    return seen[-1]


def test_K1_a_paused_task_stands_still_and_keeps_its_gpu():
    task_id = c.submit("mynode::0", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done")
    c.wait_state(task_id, "running")
    c.cli("task", "pause", str(task_id), code=0)
    c.wait_state(task_id, "paused")
    before = settled_log(task_id)
    time.sleep(1)
    assert c.cli("task", "logs", str(task_id), code=0).out == before, "it goes on"
    refused = c.cli("task", "submit", "-t", "mynode::0", "--", "true", code=1)
    assert "held by task %d" % task_id in refused.err, refused
    assert c["mynode"].gpu(0)["state"] == "in_use" and "paused" in c["mynode"].gpu(0)["state_reason"]
    c["mynode"].daemon.kill()  # a restart of the runner does not wake it
    c["mynode"].start()
    c.wait_state(task_id, "paused")
    c.cli("task", "resume", str(task_id), code=0)
    c.wait_state(task_id, "running")
    wait_until("it goes on", lambda: len(c.cli("task", "logs", str(task_id)).out) > len(before))
    c.cli("task", "pause", str(task_id), code=0)
    c.wait_state(task_id, "paused")
    c.cli("task", "kill", str(task_id), code=0)  # what is frozen is thawed to die
    assert c.wait_released(task_id)["state"] == "killed"
    assert "ended" in c.cli("task", "pause", str(task_id), code=1).err


# ---- cordon, drain ----

def test_a_cordoned_gpu_is_granted_to_nobody_and_its_holder_keeps_it():
    node, task_id = c["mynode"], c.submit("mynode::1", "sleep", "300")
    c.wait_state(task_id, "running")
    c.cli("gpu", "cordon", "mynode::1,2", "--reason", "fan is loud", code=0)
    assert c.task(task_id)["state"] == "running" and node.gpu(1)["state"] == "in_use"
    assert node.gpu(2)["state"] == "quarantined" and not node.gpu(2)["free"]
    refused = c.cli("task", "submit", "-t", "mynode::2", "--", "true", code=1)
    assert "cordoned by" in refused.err and "fan is loud" in refused.err and "free GPUs on mynode: 0, 3" in refused.err, refused
    c.cli("task", "kill", "-w", str(task_id), code=0)
    c.host.kill()  # the order survives a host
    c.start_host()
    wait_until("GPU 1 is quarantined", lambda: node.gpu(1)["state"] == "quarantined")
    assert "fan is loud" in c.cli("node", "status", "mynode", code=0).out
    c.cli("gpu", "uncordon", "mynode::1,2", code=0)
    node.wait_free(0, 1, 2, 3)
    assert "no GPU 9" in c.cli("gpu", "cordon", "mynode::9", code=1).err
    assert c.cli("gpu", "cordon", "mynode", code=2).code == 2


def test_drain_gives_nothing_new_and_empties_the_node():
    task_id = c.submit("node2::0", "sleep", "300")
    c.wait_state(task_id, "running")
    out = c.cli("node", "drain", "node2", "--reason", "new disk", code=0).out
    assert "1 task is left" in out, out
    refused = c.cli("task", "submit", "-t", "node2::1", "--", "true", code=1)
    assert "drained" in refused.err and "new disk" in refused.err, refused
    assert "draining" in c.cli("node", "list", code=0).out
    out = c.cli("node", "drain", "node2", "--kill", "--wait", code=0).out
    assert "node node2 is empty" in out and c.wait_released(task_id)["state"] == "killed"
    c.cli("node", "uncordon", "node2", code=0)
    c["node2"].wait_free(0, 1)
    c.run("node2::1", "true")
    c.cli("node", "cordon", "node2", code=0)
    assert "cordoned" in c.cli("task", "submit", "-t", "node2", "--", "true", code=1).err
    c.cli("node", "uncordon", "node2", code=0)
    log = c.cli("audit", code=0).out
    assert "node drain" in log and "reason: new disk" in log, log
    assert "there is no node" in c.cli("node", "drain", "nonesuch", code=1).err


# ---- forced release ----

def test_a_forced_release_is_refused_while_it_can_be_avoided_and_is_logged():
    task_id = c.submit("node2::0", "sleep", "300")
    c.wait_state(task_id, "running")
    assert c.cli("task", "release", str(task_id), code=2)
    assert "--yes" in c.cli("task", "release", "--force", str(task_id), code=2).err
    assert "task kill" in c.cli("task", "release", "--force", "--yes", str(task_id), code=1).err
    node = c["node2"]
    node.daemon.freeze()
    try:
        wait_until("it is lost", lambda: c.task(task_id)["state"] == "lost", OFFLINE_MS / 1000 + 25)
        wait_until("its connection is given up", lambda: c.cli("task", "release", "--force", "--yes", "-r", "node burnt down",
                                                               str(task_id)).code == 0, 60)
        task = c.task(task_id)
        assert task["state"] == "failed" and not task["holds_lease"] and "released by" in task["reason"], task
        assert "node burnt down" in c.cli("audit", code=0).out
    finally:
        node.daemon.thaw()
    # It was only silent: what runs there keeps its card, as an orphan, until somebody ends it.
    wait_until(lambda: "GPU 0 is an orphan's: %r" % node.gpu(0), lambda: node.gpu(0)["state"] == "orphaned", 30)
    assert "orphaned task %d" % task_id in c.cli("task", "submit", "-t", "node2::0", "--", "true", code=1).err
    c.cli("task", "kill", "%d@node2" % task_id, code=0)
    node.wait_free(0, 1, timeout=30)
    assert c.task(task_id)["state"] == "failed"
    wait_until("no container is left", lambda: not c.engine.containers())


# ---- a host restored from an old backup (L25) ----

def test_L25_a_host_restored_from_an_old_backup_takes_over_what_its_nodes_run():
    c.host.stop()
    backup = c.dir / "backup"
    shutil.copytree(c.host_state_dir, backup, symlinks=True)
    c.start_host()
    first = c.submit("mynode::0", "sh", "-c", "sleep 4; echo done; exit 7")
    second = c.submit("mynode::1", "sleep", "300")
    c.wait_state(first, "running")
    c.wait_state(second, "running")
    c.host.kill()
    for name in os.listdir(c.host_state_dir):
        if name.startswith("kohakuriver.db"):
            (c.host_state_dir / name).unlink()
    for name in os.listdir(backup):
        if name.startswith("kohakuriver.db"):
            shutil.copy2(backup / name, c.host_state_dir / name)
    c.start_host()
    wait_until("both are tasks again", lambda: all(  # taken over when that is durable, a moment after the hello
        c.api("GET", "/tasks/%d" % task_id)[1].get("state") in ("running", "failed") for task_id in (first, second)))
    assert "held by task %d" % second in c.cli("task", "submit", "-t", "mynode::1", "--", "true", code=1).err
    assert c.wait_released(first, timeout=30)["exit_code"] == 7
    assert c.cli("task", "logs", str(first), code=0).out == "done\n"
    third = c.submit("mynode::2", "true")
    assert third > second, "a number was given twice"
    c.cli("task", "kill", "-w", str(second), code=0)
    c["mynode"].wait_free(0, 1, 2, 3, timeout=30)


# ---- a reboot (L12) ----

def test_L12_a_rebooted_node_ends_its_leases_with_that_reason():
    from pathlib import Path
    if b"KOHAKURIVER_BOOT_ID" not in Path(EXE).read_bytes():
        skip("this build takes no boot id from outside")
    node, task_id = c["node2"], c.submit("node2::0", "sleep", "300")
    c.wait_state(task_id, "running")
    node.daemon.kill()
    c.engine.call("POST", "/containers/%s/kill" % c.engine.container_of(task_id)["Id"])  # as the power would
    node.start(KOHAKURIVER_BOOT_ID="another-boot")
    task = c.wait_released(task_id, timeout=30)
    assert task["state"] == "failed" and "rebooted while the task ran" in task["reason"], task
    node.wait_free(0, 1, timeout=30)
    c.run("node2::0", "true")
    node.daemon.kill()
    node.start()
    c.run("node2::0", "true")


# ---- once ----

def test_a_submission_with_a_key_is_made_once():
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k-1"}
    body = {"targets": ["node2::0", "node2::1"], "command": ["sleep", "1"]}
    status, one = c.api("POST", "/tasks", body, headers)
    assert status == 201 and not one["repeated"], one
    status, two = c.api("POST", "/tasks", body, headers)
    assert status == 201 and two["repeated"] and [t["id"] for t in two["tasks"]] == [t["id"] for t in one["tasks"]], two
    c.host.kill()  # the key survives the host
    c.start_host()
    status, three = c.api("POST", "/tasks", body, headers)
    assert status == 201 and [t["id"] for t in three["tasks"]] == [t["id"] for t in one["tasks"]], three
    status, other = c.api("POST", "/tasks", dict(body, command=["sleep", "2"]), headers)
    assert status == 400 and "Idempotency-Key" in other["error"]["message"], other
    for task in one["tasks"]:
        c.wait_released(task["id"], timeout=30)


def test_two_users_with_one_key_at_once_make_one_batch():
    import concurrent.futures
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k-2"}
    body = {"targets": ["mynode"], "command": ["true"]}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: c.api("POST", "/tasks", body, headers), range(8)))
    assert {status for status, _ in answers} == {201}, answers
    assert len({answer["tasks"][0]["id"] for _, answer in answers}) == 1, answers
    c.wait_released(answers[0][1]["tasks"][0]["id"], timeout=30)


if __name__ == "__main__":
    main()
