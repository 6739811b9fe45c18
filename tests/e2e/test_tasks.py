"""What a user does: submit, look, wait, kill, on two nodes with a real Docker Engine."""
import os
import random
import threading
import time

from cluster import TERMINAL, Cluster, main, skip, wait_until  # noqa: F401

c = None
SLEEP = ("sleep", "300")
GPUS_SEEN = ("sh", "-c", "cd /dev; echo nvidia[0-9]*")


def setup_module():
    global c
    c = Cluster()
    (c.dir / "data").mkdir()


def teardown_module():
    if c:
        c.destroy()


# ---- the guide's commands ----

def test_the_guides_commands_run_and_each_sees_exactly_its_gpus():
    assert c.run("mynode::0", *GPUS_SEEN).out == "nvidia0\n"
    assert c.run("mynode::0,1,2,3", *GPUS_SEEN).out == "nvidia0 nvidia1 nvidia2 nvidia3\n"
    assert c.run("mynode:0::0,1", *GPUS_SEEN).out == "nvidia0 nvidia1\n"
    assert c.run("mynode::3,1", *GPUS_SEEN).out == "nvidia1 nvidia3\n"
    assert c.run("node2::1", *GPUS_SEEN).out == "nvidia5\n"
    c["mynode"].wait_free(0, 1, 2, 3)


def test_without_gpus_there_are_none_whatever_the_image_says():
    result = c.run("mynode", "sh", "-c", "cd /dev; echo nvidia*; echo $NVIDIA_VISIBLE_DEVICES")
    assert result.out == "nvidia*\nvoid\n", result


def test_devices_that_were_not_asked_for_cannot_be_opened():
    # The device cgroup answers: EPERM where it forbids, ENXIO where it allows and no driver is there.
    probe = ("for m in 0 1; do mknod /tmp/g$m c 195 $m; (: < /tmp/g$m) 2>&1 | sed 's/.*: //'; done")
    result = c.run("mynode::1", "sh", "-c", probe)
    lines = [line.lower() for line in result.out.splitlines()]
    if len(lines) == 2 and "not permitted" not in lines[0] and "denied" not in lines[0]:
        skip("no device cgroup to look at here: %s" % lines)
    assert "no such device" in lines[1], result


def test_cuda_numbers_devices_as_pci_does():
    assert c.run("mynode::0", "sh", "-c", "echo $CUDA_DEVICE_ORDER").out == "PCI_BUS_ID\n"


def test_a_numa_node_binds_cpus():
    allowed = c.run("mynode:0::0", "sh", "-c", "grep Cpus_allowed_list /proc/self/status").out.split()[1]
    numa = {n["id"]: n for n in c["mynode"].status()["numa"]}
    assert allowed == (numa[0].get("cpus") if isinstance(numa[0].get("cpus"), str) else numa[0].get("cpulist")), (allowed, numa)


def test_no_target_lets_placement_choose():
    task = c.task(c.submit(None, "true"))
    assert task["node"] in c.nodes and not task["gpus"]
    c.wait_released(task["id"])


# ---- exactness ----

def test_words_arrive_exactly():
    words = ["two words", "", " ", "line\nbreak", "tab\there", "\"quotes\" 'single'", "$HOME `id` ; exit 9", "日本語 🚀", "--", "-t",
             "\\", "%s%n", "*"]
    result = c.run("mynode", "sh", "-c", 'for w; do printf "%s\\0" "$w"; done', "sh", *words)
    assert result.raw_out == b"".join(w.encode() + b"\0" for w in words), result


def test_environment_mounts_and_limits():
    (c.dir / "data" / "file").write_text("from the node\n")
    node = c.add_node("mounts", allowed_mounts=str(c.dir / "data"))
    mount = "%s:/data" % (c.dir / "data")
    result = c.run("mounts", "sh", "-c", 'cat /data/file; touch /data/x 2>&1 || echo "read-only"; echo "$A|$B"',
                   options=("--mount", mount + ":ro", "--env", "A=x y", "--env", "B=\n="))
    assert result.out.startswith("from the node\n") and "read-only" in result.out and result.out.endswith("x y|\n=\n"), result
    refused = c.run("mounts", "true", options=("--mount", "/etc:/etc2"), code=1)
    assert "/etc" in refused.err, refused
    result = c.run("mounts", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max",
                   options=("-m", "64M", "-c", "1"))
    assert result.out.strip() == str(64 << 20), result
    assert node.daemon.stop() == 0


def test_output_of_10_mb_is_complete_and_binary_safe():
    # 10,000,000 bytes whose sum is known: nothing lost, doubled or changed on four hops.
    result = c.run("mynode", "sh", "-c", "head -c 10000000 /dev/zero | tr '\\000' '\\377'; printf '\\000end' >&2", timeout=90)
    assert result.raw_out == b"\xff" * 10_000_000, len(result.raw_out)
    assert b"\0end" in result.raw_err
    task_id = c.tasks()[0]["id"]
    assert c.cli("task", "logs", str(task_id), code=0).raw_out == b"\xff" * 10_000_000
    assert c.cli("task", "logs", "--stderr", str(task_id), code=0).raw_out == b"\0end"


# ---- how a task ends ----

def test_exit_codes_are_the_tasks_own():
    assert c.run("mynode", "sh", "-c", "exit 42", code=42).code == 42
    assert c.run("mynode", "no-such-command", code=127).code == 127
    task = c.tasks()[0]
    assert task["state"] == "failed" and task["exit_code"] == 127, task


def test_an_image_that_is_not_there_fails_the_task_and_frees_its_gpu():
    result = c.run("mynode::0", "true", options=("--image", "no-such-image:1"), code=1)
    assert "no-such-image" in result.err, result
    c.wait_released(c.tasks()[0]["id"])
    c["mynode"].wait_free(0)


def test_out_of_memory_is_told_apart_from_a_kill():
    eater = c.submit("mynode", "sh", "-c", "tail /dev/zero", options=("-m", "16M"))
    task = c.wait_state(eater, *TERMINAL)
    assert task["state"] == "failed" and task.get("oom") is True, task
    suicide = c.wait_state(c.submit("mynode", "sh", "-c", "kill -9 $$"), *TERMINAL)
    assert suicide["state"] == "failed" and suicide["exit_code"] == 137 and not suicide.get("oom"), suicide


def test_kill_asks_first_and_then_forces():
    polite = c.submit("mynode::0", "sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done")
    wait_until("it is up", lambda: b"up" in c.cli("task", "logs", str(polite)).raw_out)
    stubborn = c.submit("mynode::1", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
    wait_until("it is up", lambda: b"up" in c.cli("task", "logs", str(stubborn)).raw_out)
    c.cli("task", "kill", str(polite), str(stubborn), code=0)
    task = c.wait_released(polite)
    assert task["state"] == "killed" and task.get("exit_code") == 5, task
    assert c.cli("task", "logs", str(polite)).out == "up\nbye\n"
    assert c.wait_released(stubborn)["state"] == "killed"
    assert "ended" in c.cli("task", "kill", str(polite), code=1).err
    c["mynode"].wait_free(0, 1)


# ---- looking ----

def test_logs_follow_live_and_end_with_the_task():
    task_id = c.submit("mynode", "sh", "-c", "for i in 1 2 3; do echo line $i; sleep 1.2; done")
    process = c.popen("task", "logs", "-f", str(task_id))
    times = []
    for i in (1, 2, 3):
        assert process.stdout.readline() == b"line %d\n" % i
        times.append(time.monotonic())
        assert process.poll() is None
    assert times[2] - times[0] > 1.0, "the lines came together: %s" % times
    assert process.wait(10) == 0 and process.stdout.read() == b""


def test_node_status_shows_the_holder_while_it_runs_and_free_after():
    task_id = c.submit("mynode::2", *SLEEP, options=("--name", "train.py"))
    c.wait_state(task_id, "running")
    shown = c.cli("node", "status", "mynode", code=0).out
    row = next(line for line in shown.splitlines() if line.strip().startswith("2 "))
    assert "in use" in row and "task %d" % task_id in row, shown
    assert "GPUs are simulated" in shown and "H100" in shown
    c.kill_task(task_id)
    c["mynode"].wait_free(2)
    row = next(line for line in c.cli("node", "status", "mynode").out.splitlines() if line.strip().startswith("2 "))
    assert "free" in row


def test_watch_shows_the_states_in_order():
    task_id = c.submit("mynode::0", "sh", "-c", "sleep 0.5; exit 3")
    lines = c.cli("task", "watch", str(task_id), code=3).out.splitlines()
    states = [line.split()[4] for line in lines]
    order = ["pending", "starting", "running", "failed"]
    assert states[-1] == "failed" and states == [s for s in order if s in states], lines


def test_ids_are_small_numbers_that_grow():
    first, second = c.submit("mynode", "true"), c.submit("mynode", "true")
    assert second == first + 1 and first < 10000


# ---- refusals ----

def test_a_held_gpu_is_refused_with_who_since_when_and_what_is_free():
    task_id = c.submit("mynode::0", *SLEEP, options=("--name", "mine"))
    result = c.cli("task", "submit", "-t", "mynode::0", "--", "true", code=1)
    for words in ("GPU 0", "held by task %d" % task_id, "mine", "1, 2, 3"):
        assert words in result.err, "%s is not in: %r" % (words, result)
    assert c.run("mynode::1", *GPUS_SEEN).out == "nvidia1\n"
    c.kill_task(task_id)
    assert c.run("mynode::0", *GPUS_SEEN).out == "nvidia0\n"


def test_a_batch_is_all_or_nothing():
    before = len(c.tasks())
    held = c.submit("mynode::1", *SLEEP)
    result = c.cli("task", "submit", "-t", "mynode::0", "-t", "mynode::1", "-t", "nowhere::0", "-t", "node2::9", "--", "true",
                   code=1)
    for words in ("mynode::1", "task %d" % held, "nowhere", "node2::9"):
        assert words in result.err, "%s is not in: %r" % (words, result)
    assert len(c.tasks()) == before + 1, "a refused batch created tasks"
    twice = c.cli("task", "submit", "-t", "mynode::0", "-t", "mynode::0", "--", "true", code=1)
    assert "GPU 0" in twice.err and len(c.tasks()) == before + 1, twice
    ids = c.cli("task", "submit", "-q", "-t", "mynode::0", "-t", "node2::0", "--", "true", code=0).out.split()
    batches = {c.task(int(i))["batch_id"] for i in ids}
    assert len(ids) == 2 and len(batches) == 1
    c.kill_everything()


def test_bad_targets_are_one_clear_line():
    for target, words in [("mynode::", "GPU"), ("mynode::0,", "GPU"), ("mynode::0,0", "0"), ("mynode::-1", "-1"),
                          ("mynode::9", "9"), ("mynode:7::0", "7"), ("", ""), ("my node::0", "my node"),
                          ("mynode::99999999999999999999", "99999"), ("mynode:::0", ""), ("nope::0", "nope")]:
        result = c.cli("task", "submit", "-t", target, "--", "true", code=1)
        lines = [line for line in result.err.splitlines() if line]
        assert lines and all(len(line) < 400 for line in lines) and words in result.err, "%r: %r" % (target, result)
        assert result.out == ""


def test_100_pairs_of_submissions_for_one_gpu_each_have_one_winner():
    pairs, body = 100, {"targets": ["mynode::3"], "command": ["sleep", "300"]}
    for i in range(pairs):
        barrier, answers = threading.Barrier(2), []

        def submit():
            barrier.wait()
            answers.append(c.api("POST", "/tasks", body))

        threads = [threading.Thread(target=submit) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        codes = sorted(a[0] for a in answers)
        assert codes == [201, 409], "pair %d: %s" % (i, answers)
        winner = next(a[1]["tasks"][0]["id"] for a in answers if a[0] == 201)
        loser = next(a[1] for a in answers if a[0] == 409)
        assert "task %d" % winner in loser["error"]["refusals"][0]["reason"], loser
        # An end at once: most never come as far as a container, which is the hardest case for the order of messages.
        assert c.api("POST", "/tasks/%d/kill" % winner, {})[0] == 202
        c.wait_released(winner)
    wait_until(lambda: "no container is left: %r" % c.engine.containers(), lambda: not c.engine.containers())


def test_cores_and_memory_are_accounted_for():
    status = c["mynode"].status()
    total = status["cores"]
    held = c.submit("mynode", *SLEEP, options=("-c", str(total)))
    result = c.cli("task", "submit", "-t", "mynode", "-c", "1", "--", "true", code=1)
    assert "core" in result.err, result
    c.kill_task(held)
    huge = c.cli("task", "submit", "-t", "mynode", "-m", "900T", "--", "true", code=1)
    assert "memory" in huge.err.lower(), huge
    assert c.run("mynode", "true", options=("-c", str(total)))


def test_nothing_is_left_of_ended_tasks():
    c.kill_everything()
    wait_until(lambda: "no container is left: %r" % c.engine.containers(), lambda: not c.engine.containers())
    for name in c.nodes:
        leases = [p for p in (c[name].state_dir / "leases").glob("*.json")] if name != "mounts" else []
        wait_until("no lease file is left on %s" % name, lambda: not leases or not any(p.exists() for p in leases))
    assert not c.holders()


if __name__ == "__main__":
    main()
