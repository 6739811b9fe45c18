"""The command line against a stand-in of the host: what goes out, what is shown, how it ends."""
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "lib")]
from fake_host import FakeHost  # noqa: E402
from tap import main, skip, wait_until  # noqa: E402

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("KR_BUILD", HERE.parent.parent / "build-test"))
EXE = str(BUILD / "kohakuriver")
GIB = 1024 ** 3
VERBS = ["task submit", "task list", "task status", "task logs", "task kill", "task watch", "node list", "node status",
         "node watch", "node health", "node summary", "node topo", "gpu list", "gpu who",
         "qemu image create", "qemu image list", "qemu image delete", "qemu disk list", "qemu disk delete",
         "qemu check", "qemu acs-override", "vps create", "vps list", "vps status", "vps start", "vps stop", "vps restart", "vps pause", "vps resume",
         "vps delete", "vps logs", "vps console", "vps connect", "ssh", "config show", "doctor", "host", "runner", "version",
         "completion", "help"]


def clean_environment(**more):
    env = {k: v for k, v in os.environ.items() if k not in ("KOHAKURIVER_HOST", "LC_ALL", "LANG")}
    env.update(more)
    return env


class Result:
    def __init__(self, done):
        self.code, self.raw_out, self.raw_err = done.returncode, done.stdout, done.stderr
        self.out, self.err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

    def __repr__(self):
        return "exit %d\nstdout: %s\nstderr: %s" % (self.code, self.out[-2000:], self.err[-2000:])


def cli(*args, host=None, env=None, timeout=30):
    environment = clean_environment(**(env or {}))
    if host:
        environment["KOHAKURIVER_HOST"] = host.url
    return Result(subprocess.run([EXE, *args], capture_output=True, env=environment, timeout=timeout,
                                 stdin=subprocess.DEVNULL))


def expect(result, code):
    assert result.code == code, "expected exit %d: %r" % (code, result)
    return result


def task(task_id, **more):
    base = {"id": task_id, "batch_id": "b-1", "state": "pending", "node": "mynode", "target": "mynode::0",
            "gpus": [{"index": 0, "uuid": "GPU-11111111-2222-3333-4444-555566667777"}], "epoch": 12, "holds_lease": True,
            "created_ms": now_ms(), "revision": 1, "command": ["true"], "env": [], "mounts": [], "cores": 0,
            "memory_bytes": 0}
    base.update(more)
    return base


def now_ms():
    return int(time.time() * 1000)


def golden(name, text):
    """Compares with tests/cli/golden/NAME.txt; UPDATE_GOLDEN=1 writes it."""
    path = HERE / "golden" / (name + ".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), "differs from %s:\n%s" % (path.name, text)


# ---- help and usage ----

def test_help_of_every_verb_names_its_options():
    overview = expect(cli("help"), 0).out
    for verb in VERBS:
        assert "  %s " % verb in overview, "%s is not in the overview" % verb
        by_option, by_verb = expect(cli(*verb.split(), "--help"), 0), expect(cli("help", *verb.split()), 0)
        assert by_option.out == by_verb.out
        assert "usage: kohakuriver %s" % verb in by_option.out and "--help" in by_option.out
    assert "gpu-worker" not in overview
    assert "task kill" in expect(cli("help", "task"), 0).out and expect(cli("--help"), 0).out == overview


def test_wrong_usage_is_exit_2_and_says_what_would_be_right():
    assert "usage: kohakuriver" in expect(cli(), 2).err
    for args, words in [
            (["frobnicate"], 'there is no "frobnicate"'),
            (["task"], "task submit"),
            (["task", "explode"], 'there is no "task explode"'),
            (["task", "list", "--frob"], "Unknown option --frob"),
            (["task", "list", "extra"], 'unexpected argument "extra"'),
            (["task", "list", "-s", "sleeping"], "pending|starting|running"),
            (["task", "list", "-f", "yaml"], "table|json"),
            (["task", "status"], "ID is missing"),
            (["task", "status", "abc"], "not a task's number"),
            (["task", "status", "0"], "not a task's number"),
            (["task", "status", "99999999999"], "not a task's number"),
            (["task", "submit"], "the command is missing"),
            (["task", "submit", "-t", "mynode::0", "python3", "x.py"], 'the command goes behind "--"'),
            (["task", "submit", "-c", "many", "--", "true"], "--cores"),
            (["task", "submit", "-c", "0", "--", "true"], "--cores"),
            (["task", "submit", "-m", "lots", "--", "true"], "is not a size"),
            (["task", "submit", "-t"], "argument"),
            (["--host", "ftp://x", "task", "list"], "neither an http://"),
            (["completion", "tcsh"], "none of bash, zsh, fish")]:
        result = expect(cli(*args), 2)
        assert words in result.err and result.out == "", "%s: %r" % (args, result)


def test_a_word_that_is_not_utf8_is_refused_and_named():
    result = expect(cli("task", "submit", "--", "echo", b"caf\xe9"), 2)
    assert "number 2 is not valid UTF-8" in result.err, result.err
    assert "--name is not valid UTF-8" in expect(cli("task", "submit", "--name", b"\xff", "--", "x"), 2).err


# ---- who answers ----

def test_no_host_reachable_is_one_line_and_a_hint():
    for args in (["task", "list"], ["task", "submit", "--", "true"], ["node", "status", "x"], ["task", "logs", "-f", "1"],
                 ["task", "watch", "1"], ["task", "kill", "1"]):
        result = expect(cli("--host", "http://127.0.0.1:1", *args), 1)
        lines = result.err.splitlines()
        assert len(lines) == 2 and lines[0].startswith("kohakuriver: no host answers") and lines[1].startswith("hint: "), \
            "%s: %r" % (args, result)
        assert result.out == ""


def test_something_else_that_answers_is_told_apart_from_a_host():
    host = FakeHost()
    host.replies[("GET", "/tasks")] = (200, b"<html>hello</html>", "text/html")
    assert "does not answer like a KohakuRiver host" in expect(cli("task", "list", host=host), 1).err
    host.replies[("GET", "/tasks")] = (502, b"bad gateway", "text/plain")
    assert "HTTP status 502" in expect(cli("task", "list", host=host), 1).err
    host.stop()


def test_the_option_wins_over_the_environment():
    right, wrong = FakeHost(), FakeHost()
    right.replies[("GET", "/nodes")] = (200, {"nodes": []})
    expect(cli("node", "list", "--host", right.url + "/", host=wrong), 0)
    expect(cli("--host", "127.0.0.1:%d" % right.port, "node", "list", host=wrong), 0)
    assert not wrong.requests and len(right.requests) == 2
    right.stop()
    wrong.stop()


def test_version_is_known_without_a_host():
    assert re.match(r"kohakuriver \d+\.\d+\.\d+", expect(cli("version"), 0).out)
    host = FakeHost()
    host.replies[("GET", "/version")] = (200, {"version": "0.9", "cluster_id": "c1", "protocol": 1})
    assert "cluster c1" in expect(cli("version", host=host), 0).out
    assert json.loads(cli("version", "-f", "json", host=host).out)["host"]["version"] == "0.9"
    host.stop()


# ---- submit ----

def submit_host(*tasks, notes=()):
    host = FakeHost()
    host.replies[("POST", "/tasks")] = (201, {"batch_id": "b-1", "tasks": list(tasks) or [task(71)],
                                              "notes": list(notes)})
    return host


def test_the_words_behind_the_dashes_arrive_exactly():
    words = ["echo", "two words", "", " ", "line\nbreak", "tab\there", "\"quotes\" and 'single'", "$HOME `id` ; rm -rf *",
             "日本語 ß 🚀", "--", "-t", "--help", "\\", "%s%n", "\x01\x7f", "a" * 100000]
    host = submit_host()
    expect(cli("task", "submit", "-t", "mynode::0", "--", *words, host=host), 0)
    assert host.requests[0][3]["command"] == words
    host.stop()


def test_every_option_reaches_the_request():
    host = submit_host()
    expect(cli("task", "submit", "-t", "mynode:0::0,1", "--target=other", "-c", "8", "-m", "16G", "--image", "py:3",
               "--env", "A=b=c", "--env", "FROM_HERE", "--env", "NOT_SET_HERE", "--env", "EMPTY=", "--mount", "/a:/b:ro",
               "--name", "my task", "--", "true", host=host, env={"FROM_HERE": "x y\nz"}), 0)
    body = host.requests[0][3]
    assert body.pop("owner").endswith("@" + os.uname().nodename), body
    assert body == {"targets": ["mynode:0::0,1", "other"], "command": ["true"], "cores": 8, "memory_bytes": 16 * GIB,
                    "image": "py:3", "env": ["A=b=c", "FROM_HERE=x y\nz", "EMPTY="], "mounts": ["/a:/b:ro"],
                    "name": "my task"}, body
    host.stop()


def test_a_target_is_passed_on_unread():
    host = submit_host()
    odd = ["mynode::0,,1", "a:b:c", " x ", "::", "näme::0"]
    expect(cli("task", "submit", *[a for t in odd for a in ("-t", t)], "--", "true", host=host), 0)
    assert host.requests[0][3]["targets"] == odd
    host.stop()


def test_one_line_says_what_was_done_and_quiet_prints_the_ids_alone():
    two = [task(71), task(72, node="node2", cores=4, memory_bytes=2 * GIB, numa=1,
                          gpus=[{"index": 0, "uuid": "GPU-a"}, {"index": 1, "uuid": "GPU-b"}])]
    host = submit_host(*two, notes=["image x is not on node2 yet"])
    result = expect(cli("task", "submit", "--", "true", host=host), 0)
    assert result.out == ("task 71 submitted to mynode: GPU 0\n"
                          "task 72 submitted to node2: GPUs 0,1, NUMA node 1, 4 cores, 2.0 GiB memory\n"), result
    assert result.err == "note: image x is not on node2 yet\n"
    assert expect(cli("task", "submit", "-q", "--", "true", host=host), 0).out == "71\n72\n"
    host.stop()


def test_refusals_are_shown_one_a_line():
    host = FakeHost()
    held = "GPU 0 is held by task 70 (train.py) since 12m 3s; free GPUs on mynode: 1,2,3"
    host.replies[("POST", "/tasks")] = (409, {"error": {
        "code": "refused", "message": "2 of 2 targets were refused, nothing was submitted",
        "refusals": [{"target": "mynode::0", "reason": held}, {"target": "gone::0", "reason": "there is no node gone"}]}})
    result = expect(cli("task", "submit", "-q", "-w", "--", "true", host=host), 1)
    assert result.err == ("kohakuriver: 2 of 2 targets were refused, nothing was submitted\n"
                          "refused: mynode::0: %s\nrefused: gone::0: there is no node gone\n" % held), result
    assert result.out == ""
    host.stop()


def test_a_bad_target_is_exit_1_with_the_hosts_line():
    host = FakeHost()
    host.replies[("POST", "/tasks")] = (400, {"error": {"code": "bad_request", "message": 'target "x::": no GPU after "::"'}})
    assert expect(cli("task", "submit", "-t", "x::", "--", "true", host=host), 1).err == \
        'kohakuriver: target "x::": no GPU after "::"\n'
    host.stop()


# ---- --wait ----

def play(host, task_id, *, out=b"", err=b"", pause=0.1, **end):
    """A task that starts, writes and ends, while the caller looks on."""
    def run():
        host.update(task_id, state="starting")
        time.sleep(pause)
        host.update(task_id, state="running", started_ms=now_ms())
        host.write(task_id, "stdout", out)
        host.write(task_id, "stderr", err)
        time.sleep(pause)
        host.update(task_id, finished_ms=now_ms(), **end)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_wait_passes_both_streams_on_byte_for_byte_and_exits_with_the_tasks_code():
    out, err = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(700_000)
    host = submit_host()
    host.update(71)
    play(host, 71, out=out, err=err, state="failed", exit_code=7)
    result = expect(cli("task", "submit", "-w", "--", "true", host=host), 7)
    assert result.raw_out == out, "stdout differs: %d of %d bytes" % (len(result.raw_out), len(out))
    assert result.raw_err.startswith(b"task 71 submitted to mynode: GPU 0\n") and err in result.raw_err
    assert result.err.endswith("kohakuriver: task 71 failed with exit code 7\n")
    host.stop()


def test_wait_goes_on_at_the_byte_where_a_stream_broke():
    out = random.Random(3).randbytes(900_000)
    host = submit_host()
    host.update(71)
    host.break_after[(71, "stdout")] = 123_457
    play(host, 71, out=out, state="completed", exit_code=0)
    result = expect(cli("task", "submit", "-w", "-q", "--", "true", host=host), 0)
    assert result.raw_out == out
    offsets = [int(r[2]["offset"]) for r in host.requests if r[1].endswith("/logs") and r[2]["stream"] == "stdout"]
    assert 123_457 in offsets, offsets
    host.stop()


def test_wait_outlives_a_restart_of_the_host():
    host = submit_host()
    host.update(71, state="running")
    host.write(71, "stdout", b"before\n")
    process = subprocess.Popen([EXE, "task", "submit", "-w", "--", "true"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=clean_environment(KOHAKURIVER_HOST=host.url))
    assert process.stdout.readline() == b"before\n"
    host.stop()
    time.sleep(0.7)
    host.tasks[71]["revision"] = 0  # in memory only: begins anew
    host.start()
    host.write(71, "stdout", b"after\n")
    time.sleep(0.3)
    host.update(71, state="completed", exit_code=0)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and out == b"after\n", (process.returncode, out, err)
    assert b"waiting for the host" in err and b"the host answers again" in err, err
    host.stop()


def test_wait_shows_output_while_the_task_runs():
    host = submit_host()
    host.update(71, state="running")
    process = subprocess.Popen([EXE, "task", "submit", "-w", "--", "true"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, env=clean_environment(KOHAKURIVER_HOST=host.url))
    for line in (b"one\n", b"two\n"):
        host.write(71, "stdout", line)
        assert process.stdout.readline() == line
        assert process.poll() is None
    host.update(71, state="completed", exit_code=0)
    assert process.wait(10) == 0
    host.stop()


def test_wait_ends_with_1_and_the_reason_when_there_is_no_exit_code():
    for state, more, words in [("failed", {"reason": "image nope is not on mynode"}, "task 71 failed: image nope is not on mynode"),
                               ("killed", {"reason": "asked for by kill"}, "task 71 killed: asked for by kill"),
                               ("failed", {"oom": True, "exit_code": 137}, "task 71 failed with exit code 137: out of memory")]:
        host = submit_host()
        host.update(71)
        play(host, 71, state=state, **more)
        result = expect(cli("task", "submit", "-w", "--", "true", host=host), more.get("exit_code", 1))
        assert words in result.err and result.out == "", result
        host.stop()


def test_wait_for_several_exits_with_the_first_code_that_is_not_0():
    host = submit_host(task(71), task(72), task(73))
    for task_id, code in ((71, 0), (72, 5), (73, 9)):
        host.update(task_id)
        play(host, task_id, out=b"%d\n" % task_id, state="completed" if code == 0 else "failed", exit_code=code)
    result = expect(cli("task", "submit", "-w", "--", "true", host=host), 5)
    assert sorted(result.out.split()) == ["71", "72", "73"]
    host.stop()


def test_ctrl_c_stops_the_waiting_and_says_that_the_task_goes_on():
    host = submit_host()
    host.update(71, state="running")
    process = subprocess.Popen([EXE, "task", "submit", "-w", "--", "true"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=clean_environment(KOHAKURIVER_HOST=host.url))
    wait_until("both streams opened", lambda: sum(r[1].endswith("/logs") for r in host.requests) == 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130 and b"task 71 goes on" in err and b"kohakuriver task kill 71" in err, err
    assert not any(r[1].endswith("/kill") for r in host.requests)
    host.stop()


# ---- looking ----

def some_tasks():
    hour = 3600 * 1000
    return [
        task(73, state="running", created_ms=now_ms() - 2 * hour - 31_000, started_ms=now_ms() - 2 * hour - 30_000,
             command=["python3", "train.py", "--lr", "3e-4", "--comment", "a long one, so long that it has to be cut off " * 3],
             gpus=[{"index": i, "uuid": "GPU-%d" % i} for i in range(4)], name="llama"),
        task(72, state="failed", created_ms=now_ms() - 26 * hour - 30_000, started_ms=now_ms() - 26 * hour,
             finished_ms=now_ms() - 25 * hour + 30_000, exit_code=137, oom=True, command=["sh", "-c", "echo 'x'\nexit 1"]),
        task(71, state="lost", node="node-with-a-rather-long-name", created_ms=now_ms() - 50 * hour - 30_000, gpus=[],
             name="evil\x1b[31m\r\nname"),
    ]


def test_task_list_fits_100_columns_and_has_no_control_characters():
    host = FakeHost()
    host.replies[("GET", "/tasks")] = (200, {"tasks": some_tasks()})
    result = expect(cli("task", "list", host=host), 0)
    golden("task_list", result.out)
    assert max(len(line) for line in result.out.splitlines()) <= 100
    assert "\x1b" not in result.out
    assert json.loads(expect(cli("task", "list", "-f", "json", host=host), 0).out)["tasks"][0]["id"] == 73
    expect(cli("task", "list", "-s", "running", "-n", "a/b c", "-l", "5", host=host), 0)
    assert host.requests[-1][2] == {"status": "running", "node": "a/b c", "limit": "5"}
    host.replies[("GET", "/tasks")] = (200, {"tasks": []})
    result = expect(cli("task", "list", host=host), 0)
    assert result.out == "" and result.err == "no tasks\n"
    host.stop()


def test_task_status_shows_every_fact():
    host = FakeHost()
    host.tasks[72] = task(72, state="failed", created_ms=1764000000000, started_ms=1764000001000, finished_ms=1764000061000,
                          exit_code=137, oom=True, name="train", image="py:3", cores=4, memory_bytes=16 * GIB, numa=1,
                          env=["A=b", "C=d e"], mounts=["/data:/data:ro"], command=["python3", "a b.py"],
                          holding="2 processes on GPU 0")
    golden("task_status", expect(cli("task", "status", "72", host=host), 0).out)
    assert json.loads(expect(cli("task", "status", "72", "-f", "json", host=host), 0).out)["exit_code"] == 137
    assert expect(cli("task", "status", "9", host=host), 1).err == "kohakuriver: there is no task 9\n"
    host.stop()


def gpu(index, **more):
    base = {"index": index, "uuid": "GPU-0000%04d-2222-3333-4444-5555666%05d" % (index, index), "pci_address": "0000:41:00.0",
            "name": "NVIDIA H100 80GB HBM3", "condition": "ok", "memory_total_bytes": 80 * GIB,
            "memory_used_bytes": 1 * GIB, "utilization_percent": 0, "temperature_celsius": 34, "power_mw": 71000,
            "power_limit_mw": 700000, "free": True, "state": "free", "state_since_ms": now_ms() - 7530_000,
            "way_out": "it can be granted"}
    base.update(more)
    return base


def a_node(**more):
    base = {"name": "mynode", "online": True, "last_seen_ms": now_ms() - 7530_000, "version": "0.1.0", "cores": 64,
            "cores_reserved": 8, "memory_total_bytes": 512 * GIB, "memory_used_bytes": 100 * GIB,
            "memory_reserved_bytes": 64 * GIB, "engine_ok": True, "engine_text": "Docker 20.10.24, GPU injection: nvidia hook",
            "disk_ok": True, "gpus_known": True, "gpus_simulated": True, "gpu_text": "driver 550.54.15, NVML 12.550",
            "tasks": [70, 71], "numa": [{"id": 0, "cpus": "0-31", "memory_bytes": 256 * GIB},
                                        {"id": 1, "cpus": "32-63", "memory_bytes": 256 * GIB}],
            "gpus": [gpu(0, free=False, state="in_use", memory_used_bytes=70 * GIB, utilization_percent=98, temperature_celsius=71,
                         power_mw=690000, holder={"kind": "task", "task_id": 70, "name": "train.py",
                                                  "since_ms": now_ms() - 7530_000, "text": "task 70"}),
                     gpu(1),
                     gpu(2, free=False, condition="foreign", reason="pid 4711 python3 (user alice) uses it", state="foreign",
                         state_reason="pid 4711 python3 (user alice) uses it",
                         way_out="free when that process has ended and the memory is back"),
                     {"index": 3, "uuid": "GPU-x", "pci_address": "0000:c1:00.0", "name": "NVIDIA H100 80GB HBM3",
                      "condition": "unknown", "reason": "NVML does not answer", "free": False, "state": "unknown",
                      "state_since_ms": now_ms() - 30_500, "state_reason": "NVML does not answer",
                      "way_out": "its node proves by itself that the card is at rest"},
                     gpu(4, free=False, state="orphaned", state_reason="a task unknown to this host runs there",
                         way_out="task kill ID@NODE", holder={"kind": "orphan", "task_id": 9, "since_ms": now_ms() - 3630_000,
                                                "text": "a task unknown to this host runs there"})]}
    base.update(more)
    return base


def test_node_status_shows_each_gpu_with_figures_state_and_holder():
    host = FakeHost()
    host.replies[("GET", "/nodes/mynode")] = (200, a_node())
    result = expect(cli("node", "status", "mynode", host=host), 0)
    golden("node_status", result.out)
    assert max(len(line) for line in result.out.splitlines()) <= 100
    assert "GPUs are simulated" in result.out
    assert json.loads(expect(cli("node", "status", "mynode", "-f", "json", host=host), 0).out)["name"] == "mynode"
    host.stop()


def test_node_status_says_what_does_not_work():
    host = FakeHost()
    host.replies[("GET", "/nodes/mynode")] = (200, a_node(
        online=False, engine_ok=False, engine_text="cannot reach /var/run/docker.sock: Connection refused", disk_ok=False,
        disk_text="No space left on device", gpus_known=False, gpu_text="libnvidia-ml.so.1: not found", gpus=[]))
    out = expect(cli("node", "status", "mynode", host=host), 0).out
    for words in ("offline, silent for", "NOT WORKING: cannot reach /var/run/docker.sock", "NOT WORKING: No space left",
                  "UNKNOWN, so none is granted: libnvidia-ml.so.1: not found", "its GPUs are not known"):
        assert words in out, out
    host.replies[("GET", "/nodes/a%2Fb%20c")] = (200, a_node(name="a/b c"))
    expect(cli("node", "status", "a/b c", host=host), 0)
    host.stop()


def test_node_list():
    host = FakeHost()
    row = {"online": True, "last_seen_ms": now_ms() - 7530_000, "cores": 64, "cores_used": 8, "memory_total_bytes": 512 * GIB,
           "memory_reserved_bytes": 64 * GIB, "gpus_total": 8, "gpus_free": 5, "gpus_known": True, "gpus_simulated": False,
           "engine_ok": True, "tasks": 2}
    host.replies[("GET", "/nodes")] = (200, {"nodes": [
        dict(row, name="mynode"), dict(row, name="node2", online=False, last_seen_ms=now_ms() - 3630_000),
        dict(row, name="node3", engine_ok=False, engine_text="connect: No such file"), dict(row, name="sim", gpus_simulated=True)]})
    golden("node_list", expect(cli("node", "list", host=host), 0).out)
    assert len(json.loads(expect(cli("node", "list", "--format=json", host=host), 0).out)["nodes"]) == 4
    host.stop()


def cluster_host(**more):
    """A host with the node of a_node(), a second one that is silent, and their cards in one list."""
    host = FakeHost()
    node = a_node(**more)
    silent = a_node(name="node2", online=False, gpus=[gpu(0, name="NVIDIA A100-SXM4-40GB", memory_total_bytes=40 * GIB)])
    nodes = [{k: v for k, v in n.items() if k not in ("gpus", "numa")} for n in (node, silent)]
    gpus = [dict(g, node=n["name"], online=n["online"]) for n in (node, silent) for g in n["gpus"]]
    host.replies[("GET", "/nodes")] = (200, {"nodes": nodes})
    host.replies[("GET", "/gpus")] = (200, {"gpus": gpus})
    return host


def test_gpu_list_shows_every_card_and_filters():
    host = cluster_host()
    out = expect(cli("gpu", "list", host=host), 0).out
    golden("gpu_list", out)
    assert max(len(line) for line in out.splitlines()) <= 100
    lines = expect(cli("gpu", "list", "--free", host=host), 0).out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["mynode::1", "node2::0"], lines
    assert len(expect(cli("gpu", "list", "--model", "a100", host=host), 0).out.splitlines()) == 2
    assert len(expect(cli("gpu", "list", "-m", "60G", "-n", "mynode", host=host), 0).out.splitlines()) == 5
    assert "none fits" in expect(cli("gpu", "list", "--model", "b200", host=host), 0).err
    assert len(json.loads(expect(cli("gpu", "list", "-f", "json", "--model", "a100", host=host), 0).out)["gpus"]) == 1
    for args in (["--memory", "much"], ["--idle", "5"], ["--idle", "0m"], ["--idle", "2w"]):
        assert "kohakuriver: %s" % args[0] in expect(cli("gpu", "list", *args, host=host), 2).err
    host.stop()


def test_gpu_list_idle_names_holders_that_do_nothing():
    host = FakeHost()
    holder = {"kind": "task", "task_id": 7, "name": "notebook", "owner": "bob@b", "since_ms": now_ms() - 7530_000}
    base = {"node": "n", "online": True, "free": False, "state": "in_use"}
    host.replies[("GET", "/gpus")] = (200, {"gpus": [
        gpu(0, **base, holder=holder, idle_since_ms=now_ms() - 3630_000), gpu(1, **base, holder=holder),
        gpu(2, **base, holder=holder, idle_since_ms=now_ms() - 600_000),
        dict(gpu(3, idle_since_ms=now_ms() - 9000_000), node="n", online=True)]})
    lines = expect(cli("gpu", "list", "--idle", "30m", host=host), 0).out.splitlines()
    assert len(lines) == 2 and "n::0" in lines[1] and "1h 0m" in lines[1] and "bob@b notebook" in lines[1], lines
    host.stop()


def test_gpu_who_names_lease_processes_and_strangers():
    host = FakeHost()
    host.replies[("GET", "/nodes/mynode/gpus/0/processes")] = (200, {
        "gpu": gpu(0, state="in_use", free=False, state_reason="task 70 is running",
                   holder={"kind": "task", "task_id": 70, "name": "train.py", "owner": "alice@a", "since_ms": now_ms() - 7530_000}),
        "processes": [
            {"pid": 4711, "user": "root", "command": "python3", "memory_bytes": 70 * GIB, "started_ms": now_ms() - 7530_000,
             "container": "ab" * 32, "task_id": 70, "name": "train.py"},
            {"pid": 4712, "user": "bob", "command": "evil\x1b[31m"},
            {"pid": 4713, "user": "uid 1000", "command": "jupyter", "container": "cd" * 32}]})
    golden("gpu_who", expect(cli("gpu", "who", "mynode::0", host=host), 0).out)
    for bad in ("mynode", "mynode::0,1", "::", "my node::0"):
        assert expect(cli("gpu", "who", bad, host=host), 2).err.startswith("kohakuriver: ")
    host.replies[("GET", "/nodes/mynode/gpus/1/processes")] = (503, {"error": {
        "code": "unavailable", "message": "node mynode is not connected, and only it knows"}})
    assert "not connected" in expect(cli("gpu", "who", "mynode::1", host=host), 1).err
    host.stop()


def test_node_health_lists_what_is_wrong_and_exits_1():
    host = cluster_host()
    result = expect(cli("node", "health", host=host), 1)
    golden("node_health", result.out)
    assert max(len(line) for line in result.out.splitlines()) <= 100
    assert "silent" not in expect(cli("node", "health", "mynode", host=host), 1).out
    assert json.loads(expect(cli("node", "health", "-f", "json", host=host), 1).out)["findings"][0]["node"] == "mynode"
    assert "there is no node" in expect(cli("node", "health", "nonesuch", host=host), 1).err
    host.stop()
    host = cluster_host(gpus=[gpu(0), gpu(1, free=False, state="in_use", health="ok")])
    assert expect(cli("node", "health", "mynode", host=host), 0).out == "nothing is wrong with mynode\n"
    host.stop()
    host = cluster_host(gpus=[gpu(0, free=False, state="quarantined", health="suspect", health_reason="XID 63 at noon"),
                              gpu(1, free=False, state="quarantined", health="ok", state_reason="cordoned by alice",
                                  cordon={"kind": "cordon", "who": "alice", "reason": "", "since_ms": now_ms()})])
    out = expect(cli("node", "health", "mynode", host=host), 1).out
    assert "suspect: XID 63 at noon" in out and "cordoned by alice" in out, out
    host.stop()


def test_node_summary_counts():
    host = cluster_host()
    golden("node_summary", expect(cli("node", "summary", host=host), 0).out)
    assert set(json.loads(expect(cli("node", "summary", "-f", "json", host=host), 0).out)) == {"nodes", "gpus"}
    host.stop()


def check_of_a_node():
    def function(address, role, driver):
        return {"address": address, "role": role, "ids": "10de:2684", "class": "030000", "driver": driver, "reset_methods": "",
                "iommu_group": 9}
    gpu = dict(function("0000:01:00.0", "gpu", "nvidia"), is_boot_vga=False, passable=True,
               companions=[function("0000:01:00.1", "audio", "snd_hda_intel")], others_in_group=[], obstacles=[], holders=[])
    held = dict(gpu, address="0000:06:00.0", passable=False, others_in_group=[function("0000:06:01.0", "other", "igb")],
                holders=[{"pid": 4711, "command": "Xorg", "node": "drm/card0", "user": "root", "unit": "gdm.service"}],
                obstacles=[{"id": "held", "blocks": True, "text": "0000:06:00.0 is held by pid 4711 Xorg", "fix": "stop it"}])
    return {"accel": "auto", "accelerator": "kvm", "can_run_machines": True, "can_pass_gpus": True, "gpus": [gpu, held],
            "findings": [{"id": "kvm", "state": "ok", "text": "a guest ran for 190 us"},
                         {"id": "ovmf", "state": "warning", "text": "there is no OVMF firmware", "fix": "install ovmf"}],
            "acs": {"kernel_has_override": False, "would_split": ["0000:06:00.0"]}}


def test_qemu_check_shows_a_node():
    host = FakeHost()
    host.replies[("GET", "/nodes/mynode/qemu")] = (200, check_of_a_node())
    golden("qemu_check", expect(cli("qemu", "check", "--node", "mynode", host=host), 0).out)
    assert json.loads(expect(cli("qemu", "check", "-n", "mynode", "-f", "json", host=host), 0).out) == check_of_a_node()
    host.replies[("GET", "/nodes/mynode/qemu")] = (200, dict(check_of_a_node(), can_run_machines=False))
    expect(cli("qemu", "check", "--node", "mynode", host=host), 1)
    host.stop()


def test_qemu_check_looks_at_this_machine():
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(root + "/sys/bus/pci/devices")
        answer = json.loads(expect(cli("qemu", "check", "--root", root, "--accel", "tcg", "-f", "json"), 1).out)
        assert not answer["can_run_machines"] and answer["accelerator"] == "tcg", answer
        out = expect(cli("qemu", "acs-override", "--root", root, "--accel", "tcg"), 0).out
        assert "pcie_acs_override=downstream,multifunction" in out and "changes neither bridges" in out


def test_node_topo_is_a_matrix():
    host = FakeHost()
    gpus = [{"uuid": "GPU-%d" % i, "index": i, "numa_node": i // 2, "cpus": "0-31" if i < 2 else "32-63"} for i in range(3)]
    host.replies[("GET", "/nodes/mynode/topology")] = (200, {"gpus": gpus, "links": [
        {"a": "GPU-0", "b": "GPU-1", "kind": "NV12"}, {"a": "GPU-0", "b": "GPU-2", "kind": "SYS"}]})
    golden("node_topo", expect(cli("node", "topo", "mynode", host=host), 0).out)
    host.replies[("GET", "/nodes/mynode/topology")] = (200, {"gpus": [], "links": []})
    assert expect(cli("node", "topo", "mynode", host=host), 0).out == "no GPUs\n"
    host.stop()


def test_node_watch_draws_and_ends():
    host = FakeHost()
    host.replies[("GET", "/nodes/mynode")] = (200, {"node": a_node()})
    result = expect(cli("node", "watch", "mynode", "--count", "2", "--interval", "100ms", host=host), 0)
    assert result.out.count("mynode  online") == 2 and "\x1b" not in result.out, result
    assert "[##########]  98%" in result.out and "██" in result.out and "task 70" in result.out, result.out
    for args in (["--interval", "1ms"], ["--interval", "x"], ["--count", "0"]):
        assert args[0] in expect(cli("node", "watch", "mynode", *args, host=host), 2).err
    expect(cli("node", "watch", "nonesuch", "--count", "1", host=host), 1)
    host.stop()


def test_node_status_verbose_tells_figures_faults_and_costs():
    host = FakeHost()
    host.replies[("GET", "/nodes/mynode")] = (200, a_node(gpus=[gpu(0, sm_clock_mhz=1980, ecc_uncorrected=2, xids=[
        {"code": 48, "count": 2, "last_ms": 1764000000000}])]))
    host.replies[("GET", "/nodes/mynode/runner")] = (200, {
        "pid": 7, "version": "0.1.0", "started_ms": now_ms() - 7530_000, "resident_bytes": 5 << 20, "heartbeat_ms": 5000,
        "gpu_calls": [{"function": "nvmlDeviceGetUtilizationRates", "count": 100, "total_us": 5000, "max_us": 900}]})
    out = expect(cli("node", "status", "mynode", "--verbose", host=host), 0).out
    for words in ("sm_clock_mhz", "1980", "GPU 0: XID 48, 2 times", "double bit ECC error (quarantine)", "runner pid 7",
                  "nvmlDeviceGetUtilizationRates", "  50"):
        assert words in out, out
    host.stop()


def test_task_watch_prints_each_change_and_exits_with_the_tasks_code():
    host = FakeHost()
    host.update(71, state="pending")
    play(host, 71, pause=0.3, state="failed", exit_code=3, reason="exit code 3")
    result = expect(cli("task", "watch", "71", host=host), 3)
    assert [line.split()[4] for line in result.out.splitlines()] == ["pending", "starting", "running", "failed"] or \
        [line.split()[4] for line in result.out.splitlines()] == ["starting", "running", "failed"], result
    lines = expect(cli("task", "watch", "-f", "json", "71", host=host), 3).out.splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["state"] == "failed"
    host.stop()


def test_task_logs():
    data = random.Random(4).randbytes(500_000)
    host = FakeHost()
    host.update(71, state="running")
    host.write(71, "stdout", data)
    host.write(71, "stderr", b"to stderr\n")
    assert expect(cli("task", "logs", "71", host=host), 0).raw_out == data
    assert expect(cli("task", "logs", "71", "--stderr", host=host), 0).raw_out == b"to stderr\n"
    assert "there is no task 5" in expect(cli("task", "logs", "5", host=host), 1).err
    play(host, 71, out=b"more\n", pause=0.3, state="failed", exit_code=3)
    assert expect(cli("task", "logs", "-f", "71", host=host), 0).raw_out == data + b"more\n"
    host.stop()


def test_task_kill():
    host = FakeHost()
    host.update(71, state="stopping")
    host.replies[("POST", "/tasks/71/kill")] = (202, task(71, state="stopping"))
    host.replies[("POST", "/tasks/72/kill")] = (409, {"error": {"code": "refused", "message": "task 72 has ended already"}})
    assert "task 71 was asked to end" in expect(cli("task", "kill", "71", host=host), 0).out
    result = expect(cli("task", "kill", "72", "71", host=host), 1)
    assert "task 72 has ended already" in result.err and "task 71 was asked" in result.out
    threading.Timer(0.4, lambda: host.update(71, state="killed")).start()
    assert "task 71 is over: killed" in expect(cli("task", "kill", "--wait", "71", host=host), 0).out
    host.stop()


# ---- what is made of the table ----

def test_bash_completion_knows_verbs_options_and_values():
    script = expect(cli("completion", "bash"), 0).out

    def complete(*words):
        code = "%s\nCOMP_WORDS=(%s)\nCOMP_CWORD=%d\n_kohakuriver\nprintf '%%s\\n' \"${COMPREPLY[@]}\"\n" % (
            script, " ".join("'%s'" % w for w in words), len(words) - 1)
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout.split()

    assert {"task", "node", "host", "help"} <= set(complete("kohakuriver", ""))
    assert complete("kohakuriver", "task", "su") == ["submit"]
    assert complete("kohakuriver", "--host", "http://x", "task", "wa") == ["watch"]
    assert complete("kohakuriver", "task", "submit", "--tar") == ["--target"]
    assert complete("kohakuriver", "node", "list", "--format", "") == ["table", "json"]
    assert complete("kohakuriver", "task", "list", "-s", "ru") == ["running"]
    assert complete("kohakuriver", "config", "show", "ho") == ["host"]
    assert complete("kohakuriver", "task", "submit", "--", "") == []
    assert "gpu-worker" not in script


def check_script(shell, *command):
    script = expect(cli("completion", shell), 0).out
    for verb in VERBS:
        assert verb.split()[-1] in script
    if not any(os.access(os.path.join(p, shell), os.X_OK) for p in os.environ["PATH"].split(":")):
        skip("%s is not installed" % shell)
    done = subprocess.run([*command], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_zsh_completion_parses():
    check_script("zsh", "zsh", "-n", "/dev/stdin")


def test_fish_completion_parses():
    check_script("fish", "fish", "--no-execute", "/dev/stdin")


def test_the_man_page_has_every_verb_and_no_roff_errors():
    page = expect(cli("help", "--man"), 0).out
    for verb in VERBS:
        assert ".SS kohakuriver %s" % verb.replace("-", "\\-") in page
    if not os.access("/usr/bin/groff", os.X_OK):
        skip("groff is not installed")
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-K", "utf8"], input=page, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_config_show_lists_every_setting_with_its_source():
    settings = json.loads(expect(cli("config", "show", "-f", "json"), 0).out)
    assert set(settings) == {"host", "runner"} and settings["host"] and settings["runner"]
    for daemon, rows in settings.items():
        shown = expect(cli("config", "show", daemon), 0).out
        usage = expect(cli("help", daemon), 0).out
        for row in rows:
            assert set(row) == {"key", "value", "source", "help"} and row["key"] in shown
            assert "--" + row["key"].replace("_", "-") in usage
    assert "neither host nor runner" in expect(cli("config", "show", "toaster"), 2).err
    assert expect(cli("config", "show", "--config", "/nonexistent/x.conf"), 2).err.startswith("kohakuriver: ")


def test_output_that_cannot_be_written_is_a_failure():
    if not os.path.exists("/dev/full"):
        skip("/dev/full is not there")
    with open("/dev/full", "w") as full:
        done = subprocess.run([EXE, "help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "writing the output" in done.stderr


if __name__ == "__main__":
    main()
