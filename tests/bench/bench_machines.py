"""What it costs to make a machine above QEMU itself, pair by pair: `POST /vps` until the task runs (disk, seed, records, supervisor,
monitor), against the same QEMU with the same words, until its monitor has let the guest go."""
import json
import os
import shutil
import socket
import statistics
import subprocess
import time

CONSOLE_FD = 5


def with_us(c):
    """-> seconds, QEMU's words"""
    import machines
    begin = time.monotonic()
    status, vps = c.api("POST", "/vps", {"name": "bench%d" % int(begin * 1000), "target": "mynode", "image": "tiny", "disk_bytes": 64 << 20,
                                         "memory_bytes": 64 << 20, "cores": 1})
    assert status == 201, vps
    task = c.api("GET", "/tasks/%d" % vps["task_id"])[1]
    while task["state"] != "running":
        assert task["state"] in ("pending", "starting"), task
        task = c.api("GET", "/tasks/%d?revision=%d&wait_ms=5000" % (task["id"], task["revision"]))[1]
    seconds = time.monotonic() - begin
    (words,) = machines.qemus(c["mynode"].state_dir).values()
    c.api("POST", "/vps/%d/stop" % vps["id"], {})
    while c.api("GET", "/vps/%d" % vps["id"])[1]["state"] != "stopped":
        time.sleep(0.05)
    return seconds, vps["id"], [word for word in words if word]


def ask(stream, verb):
    stream.write(json.dumps({"execute": verb}).encode() + b"\n")
    stream.flush()
    while "return" not in json.loads(stream.readline()):
        pass


def alone(c, vps_id, words):
    """The same words in a folder of our own; the machine that they were made for is off."""
    folder = c.dir / "alone"
    folder.mkdir()
    seed = next(w for w in words if b"seed-file" in w).split(b"filename=")[1].split(b",")[0]
    if not os.path.exists(seed):  # it went with the machine
        os.makedirs(os.path.dirname(seed), exist_ok=True)
        with open(seed, "wb") as file:
            file.truncate(1 << 20)
    begin = time.monotonic()
    console = os.open(folder / "console", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(console, CONSOLE_FD)
    process = subprocess.Popen(words, cwd=folder, pass_fds=(CONSOLE_FD,))
    monitor = socket.socket(socket.AF_UNIX)
    while True:
        try:
            monitor.connect(str(folder / "qmp.sock"))
            break
        except OSError:
            assert process.poll() is None, "QEMU ended"
            time.sleep(0.002)
    with monitor.makefile("rwb") as stream:
        stream.readline()
        ask(stream, "qmp_capabilities")
        ask(stream, "cont")
        seconds = time.monotonic() - begin
        process.kill()
    process.wait()
    shutil.rmtree(folder)
    return seconds


def bench_machines(cluster, row, rounds=9):
    import machines
    with cluster.Cluster(nodes=(), engine=False, log_level="warning") as c:
        node = c.add_node("mynode", start=False, vm_accel="tcg", log_level="warning")
        machines.make_image(node, "tiny", "")
        node.start()
        while not node.status()["vm_ok"]:
            time.sleep(0.1)
        pairs = []
        for _ in range(rounds):
            ours, vps_id, words = with_us(c)
            pairs.append((ours, alone(c, vps_id, words)))
        bare = statistics.median(b for _, b in pairs) * 1000
        over = statistics.median(a - b for a, b in pairs) * 1000
        row("QEMU alone: start to a guest that runs, median", bare, "ms")
        row("vps create to a guest that runs, median", statistics.median(a for a, _ in pairs) * 1000, "ms")
        row("... above QEMU itself, paired median", over, "ms", "", "x%.2f" % ((bare + over) / bare))
