"""Virtual machines from the command line to QEMU and back: real host, real runner, real QEMU with a guest of a few kilobytes (no
card: this machine's kernel has no vfio)."""
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import machines
from cluster import BUILD, Cluster, main, skip, wait_until

c = None
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJ1c3QgaXMgbm90IGEgcmVhbCBrZXkgYXQgYWxsLi4u test"


def setup_module():
    global c
    if not shutil.which("qemu-system-x86_64"):
        skip("qemu-system-x86_64 is not installed")
    c = Cluster(nodes=("mynode",), engine=False)
    machines.make_image(c["mynode"], "tiny", "")
    machines.make_image(c["mynode"], "off", " off")
    restart_with(vm_accel="tcg", vm_stop_grace_ms=3000)


def teardown_module():
    if c:
        for vps in c.api("GET", "/vps")[1]["vps"]:
            c.cli("vps", "stop", str(vps["id"]))
        wait_until("all are off", lambda: all(v["state"] in ("stopped", "failed") for v in c.api("GET", "/vps")[1]["vps"]), 60)
        c.destroy()


def vps(vps_id):
    return c.api("GET", "/vps/%d" % vps_id)[1]


def wait_state(vps_id, *states):
    wait_until(lambda: "VPS %d is %s: %r" % (vps_id, " or ".join(states), vps(vps_id)), lambda: vps(vps_id)["state"] in states, 60)
    return vps(vps_id)


def create(name, image="tiny", target="mynode", code=0):
    result = c.cli("vps", "create", "--backend", "qemu", "-t", target, "--vm-memory", "64", "--vm-disk", "64M", "-c", "1", "--vm-image", image,
                   "--name", name, "--public-key-string", KEY, "--wait", "-f", "json", code=code)
    return json.loads(result.out)["id"] if code == 0 else result


def console_of(vps_id):
    return c.cli("vps", "logs", str(vps_id)).out


def qemus():
    return machines.qemus(c.dir)


def test_a_machine_is_made_runs_and_powers_off_on_request():
    vps_id = create("vm1")
    assert wait_state(vps_id, "running")["node"] == "mynode"
    wait_until("its console speaks", lambda: "TINY-GUEST-READY" in console_of(vps_id), 30)
    assert len(qemus()) == 1
    out = c.cli("vps", "list", code=0).out
    assert "vm1" in out and "running" in out, out
    assert "already" in create("vm1", code=1).err
    assert "stop it first" in c.cli("vps", "start", "vm1", code=1).err
    assert "stop it first" in c.cli("vps", "delete", "vm1", code=1).err
    c.cli("vps", "stop", "vm1", code=0)
    assert wait_state(vps_id, "stopped")["holds_lease"] is False
    assert "POWER-BUTTON" in console_of(vps_id)
    assert not qemus()


def test_a_stopped_machine_starts_again_on_its_disk():
    disk = c["mynode"].state_dir / "vms" / "disks" / "1.qcow2"
    inode = disk.stat().st_ino
    c.cli("vps", "start", "vm1", code=0)
    assert wait_state(1, "running")["task_id"] > 1
    assert disk.stat().st_ino == inode
    c.cli("vps", "pause", "vm1", code=0)
    wait_state(1, "paused")
    c.cli("vps", "resume", "vm1", code=0)
    wait_state(1, "running")


def test_L21_a_machine_outlives_runner_and_host():
    pids = set(qemus())
    c["mynode"].daemon.kill()
    c.host.kill()
    c.start_host()
    c["mynode"].start()
    wait_state(1, "running")
    assert set(qemus()) == pids
    c.cli("vps", "restart", "vm1", code=0, timeout=120)
    wait_state(1, "running")
    assert not set(qemus()) & pids


def test_qemu_that_is_killed_is_noticed():
    for pid in qemus():
        os.kill(pid, 9)
    task = wait_state(1, "failed")
    assert "signal" in task["reason"] or "137" in str(task.get("exit_code")), task
    c.cli("vps", "start", "vm1", code=0)
    wait_state(1, "running")


def test_a_guest_that_powers_off_by_itself_is_stopped():
    vps_id = int(c.api("POST", "/vps", {"name": "short", "target": "mynode", "image": "off", "disk_bytes": 64 << 20,
                                        "memory_bytes": 64 << 20, "cores": 1})[1]["id"])
    assert wait_state(vps_id, "stopped").get("exit_code") == 0
    c.cli("vps", "delete", "short", code=0)
    assert c.api("GET", "/vps/%d" % vps_id)[0] == 404
    assert not (c["mynode"].state_dir / "vms" / "disks" / ("%d.qcow2" % vps_id)).exists()


def test_what_cannot_be_started_says_why():
    result = create("ghost", image="nothere", code=1)
    assert "nothere" in result.err and "mynode" in result.err, result
    assert "GPU 9" in create("far", target="mynode::9", code=1).err
    for bad in (["--vm-memory", "lots"], ["--vm-disk", "x"], ["-c", "0"], ["--backend", "docker"], ["--public-key-string", "no"]):
        assert c.cli("vps", "create", "-t", "mynode", *bad).code == 2
    assert "a machine has at least" in c.cli("vps", "create", "-t", "mynode", "--vm-memory", "1", "--public-key-string", KEY, code=1).err


def test_the_console_can_be_reached_through_the_host():
    begun = time.monotonic()
    process = subprocess.Popen([str(BUILD / "kohakuriver"), "vps", "console", "vm1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=dict(os.environ, KOHAKURIVER_HOST=c.url))
    got = b""
    os.set_blocking(process.stdout.fileno(), False)
    while b"." not in got and time.monotonic() < begun + 30:
        got += process.stdout.read() or b""
        time.sleep(0.1)
    process.stdin.close()
    assert process.wait(20) == 0, process.stderr.read()
    assert b"." in got, got
    c.cli("vps", "stop", "vm1", code=0)
    wait_state(1, "stopped")
    assert "is off" in c.cli("ssh", "--stdio", "vm1", code=1).err


def restart_with(**options):
    node = c["mynode"]
    node.daemon.stop()
    node.options.update({key.replace("_", "-"): value for key, value in options.items()})
    node.start()
    wait_until(lambda: "machines can be run: %r" % node.status(), lambda: node.status()["vm_ok"], 30)


def test_a_guest_that_never_gets_ready_is_shown_as_late_or_its_machine_ended():
    restart_with(vm_ready_timeout_ms=1500)
    vps_id = create("late")
    wait_until(lambda: "it is late: %r" % vps(vps_id), lambda: vps(vps_id).get("guest", {}).get("late"), 30)
    assert vps(vps_id)["state"] == "running" and not vps(vps_id)["guest"]["heard"]
    assert "late" in c.cli("vps", "status", "late", code=0).out
    restart_with(vm_ready_policy="stop")  # it is a setting of the node, so also for what runs already
    ended = wait_state(vps_id, "failed")
    assert "vm_ready_timeout_ms" in ended["reason"] and not ended["holds_lease"], ended
    assert not qemus()
    restart_with(vm_ready_timeout_ms=0)


FUSSY = """#!/bin/sh
# QEMU, but the first machine finds its port taken: the same words and end as QEMU's own.
case "$*" in *hostfwd=*)
    mkdir "%(dir)s/lost" 2>/dev/null && {
        port=$(echo "$*" | sed 's/.*hostfwd=\([^ ,]*\).*/\1/')
        echo "qemu-system-x86_64: -netdev user,id=net0: Could not set up host forwarding rule '$port'" >&2; exit 1; } ;;
esac
exec qemu-system-x86_64 "$@"
"""


def test_a_port_that_somebody_took_is_no_end_of_a_start():
    folder = c.dir / "fussy"
    folder.mkdir()
    (folder / "qemu").write_text(FUSSY % {"dir": c.dir})
    (folder / "qemu").chmod(0o755)
    (folder / "qemu-img").symlink_to(shutil.which("qemu-img"))
    restart_with(qemu_binary=folder / "qemu")
    vps_id = create("fussy")
    assert wait_state(vps_id, "running", "failed")["state"] == "running", vps(vps_id)
    assert (c.dir / "lost").exists()


def cgroup2():
    """A folder of a cgroup 2 file system in which one can be made; None: there is none."""
    for line in open("/proc/mounts"):
        if line.split()[2] == "cgroup2":
            folder = Path(line.split()[1]) / ("kr-test-%d" % os.getpid())
            try:
                folder.mkdir()
                return folder
            except OSError:
                return None
    return None


def test_user_cgroup_and_numa_node_are_qemus():
    """vm_user, vm_cgroup, and a target with a NUMA node: of the process itself, as the kernel tells."""
    if os.geteuid() != 0:
        skip("another user needs root")
    cgroup, node = cgroup2(), c["mynode"]
    for folder in (c.dir, node.dir, node.state_dir):  # that user must be able to reach vm_dir
        folder.chmod(0o711)
    restart_with(qemu_binary="qemu-system-x86_64", vm_user="nobody", vm_cgroup=cgroup or "")
    before = set(qemus())
    vps_id = create("bound", target="mynode:0")
    (pid,) = set(qemus()) - before
    status = Path("/proc/%d/status" % pid).read_text()
    assert re.search(r"^Uid:\s+65534\s+65534\s+65534", status, re.M), status
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status, status
    assert " bind:0 " in Path("/proc/%d/numa_maps" % pid).read_text()
    if cgroup:
        assert cgroup.name in Path("/proc/%d/cgroup" % pid).read_text()
    c.cli("vps", "stop", "bound", code=0)
    wait_state(vps_id, "stopped")
    if cgroup:
        assert not [entry for entry in cgroup.iterdir() if entry.is_dir()], "its cgroup is left"
        cgroup.rmdir()


if __name__ == "__main__":
    main()
