"""Cards that turn bad while they are used, on a real engine: whose task runs there hears of it at once, nobody new gets the card,
and there is a way back. Who is on a card, by lease, process and container."""
from cluster import Cluster, main, wait_until

c = None


def setup_module():
    global c
    c = Cluster()


def teardown_module():
    if c:
        c.destroy()


def change(node, place, **changes):
    c[node].change_gpu(place, **changes)


def events(task_id):
    return [e["text"] for e in c.api("GET", "/tasks/%d/events" % task_id)[1]["events"]]


def test_L60_whose_task_runs_on_a_card_that_fails_is_told_at_once():
    task_id = c.submit("mynode::1", "sleep", "300")
    c.wait_state(task_id, "running")
    change("mynode", 1, xids=[{"seq": 1, "code": 95}])
    wait_until(lambda: "the task is told: %r" % events(task_id), lambda: any("XID 95" in e for e in events(task_id)), 20)
    assert c.task(task_id)["state"] == "running"
    assert "XID 95" in c.cli("task", "status", str(task_id), code=0).out
    assert "quarantine: XID 95" in c.cli("node", "health", "mynode", code=1).out
    c.cli("task", "kill", str(task_id), code=0)
    wait_until("the card is out of use", lambda: c["mynode"].gpu(1)["state"] == "quarantined", 30)
    assert not c.task(task_id)["holds_lease"]


def test_L57_the_other_cards_of_the_node_are_untouched():
    refused = c.cli("task", "submit", "-t", "mynode::1", "--", "true", code=1)
    assert "uncontained memory error" in refused.err and "free GPUs on mynode: 0, 2, 3" in refused.err, refused
    c.run("mynode::0,2,3", "true")


def test_what_is_known_of_a_card_survives_restarts_of_host_and_runner():
    c["mynode"].daemon.kill()
    c.host.kill()
    c.start_host()
    c["mynode"].start()
    wait_until("the others are free", lambda: set(c["mynode"].free_gpus()) == {0, 2, 3}, 30)
    assert c["mynode"].gpu(1)["state"] == "quarantined", c["mynode"].gpu(1)


def test_L58_an_operator_gives_it_back_and_that_survives_too():
    c.cli("gpu", "uncordon", "mynode::1", "--reason", "reset", code=0)
    c["mynode"].wait_free(1)
    c.host.kill()
    c.start_host()
    c["mynode"].wait_free(0, 1, 2, 3, timeout=30)
    c.run("mynode::1", "true")
    change("mynode", 1, xids=[{"seq": 1, "code": 95}, {"seq": 2, "code": 95}])  # but not the next time
    wait_until("it is out of use again", lambda: c["mynode"].gpu(1)["state"] == "quarantined", 20)


def test_L58_a_reboot_clears_it():
    node = c["mynode"]
    node.daemon.kill()
    node.start(KOHAKURIVER_BOOT_ID="another-boot")
    node.wait_free(0, 1, 2, 3, timeout=30)
    node.daemon.kill()
    node.start()
    node.wait_free(0, 1, 2, 3, timeout=30)


def test_L59_memory_errors_take_a_card_out_and_a_program_s_own_fault_does_not():
    change("mynode", 2, xids=[{"seq": 3, "code": 31}, {"seq": 4, "code": 13}])
    wait_until("the XIDs are shown", lambda: len(c["mynode"].gpu(2).get("xids", [])) == 2, 20)
    c.run("mynode::2", "true")
    change("mynode", 2, ecc_uncorrected=1, remapped_rows=[0, 1, 1, 0])
    wait_until(lambda: "it is out of use: %r" % c["mynode"].gpu(2), lambda: c["mynode"].gpu(2)["state"] == "quarantined", 90)
    assert "uncorrectable memory error" in c["mynode"].gpu(2)["state_reason"]
    change("mynode", 2, ecc_uncorrected=0, remapped_rows=[0, 1, 0, 0])  # a reset
    c["mynode"].wait_free(2, timeout=90)


def test_who_is_on_a_card():
    task_id = c.submit("mynode::3", "sleep", "300", options=("--name", "train"))
    c.wait_state(task_id, "running")
    container = c.engine.container_of(task_id)
    pid = container["State"]["Pid"]
    change("mynode", 3, processes=[{"pid": pid, "memory_mib": 100}])
    wait_until("its process is shown", lambda: "task %d train" % task_id in c.cli("gpu", "who", "mynode::3", code=0).out, 20)
    status, answer = c.api("GET", "/nodes/mynode/gpus/3/processes")
    process = answer["processes"][0]
    assert status == 200 and process["pid"] == pid and process["task_id"] == task_id, answer
    assert process["container"] == container["Id"] and process["memory_bytes"] == 100 << 20 and process["started_ms"] > 0
    assert answer["gpu"]["holder"]["task_id"] == task_id and "@" in process["owner"]
    change("mynode", 3, processes=[])
    c.cli("task", "kill", str(task_id), code=0)
    c["mynode"].wait_free(3, timeout=30)


if __name__ == "__main__":
    main()
