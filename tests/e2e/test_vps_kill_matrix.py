"""The kill matrix of machines: the runner is killed (-9) at each of its named crash points while a machine is made, stops, powers
itself off or is restarted, alone or together with the host. Whatever died, there is one QEMU at most at any time, the machine comes
to the state that was asked for, its disk is the same, and when it is off nothing is left of it: no process, no lease, no folder.

Without a card: this machine's kernel has no vfio (tests/vm has the cards). docs/kill-matrix-machines.md must name the same rows."""
import concurrent.futures
import os
import shutil
import time
from pathlib import Path

import machines
from cluster import EXE, Cluster, main, skip, wait_until
from kill_table import check_table, points_of

STARTING = ("runner-lease-written", "vm-spawned", "vm-running-recorded", "vm-continued", "runner-container-created",
            "runner-container-started")
ENDING = ("vm-exit-seen", "runner-exit-seen", "runner-result-written", "runner-container-removed", "runner-release-noted",
          "runner-ack-received", "runner-report-sent")
CARDS = {"vm-cards-bound", "vm-cards-back"}  # tests/vm
HEAD = """# Machines: what dies where, and what comes of it

`tests/e2e/test_vps_kill_matrix.py` kills the processes named, `-9`, at the crash point named, while real machines run in QEMU, and starts
them again; this table is its result, and it fails when the two differ. In each row there was one QEMU at most at any time, the disk
stayed the same, and when the machine was off neither a process, a lease file nor its folder was left.

| runner dies at | while the machine | died too | it came to be |
| --- | --- | --- | --- |
"""
c = None
rows, driven = [], set()


def setup_module():
    global c
    if STARTING[0].encode() not in Path(EXE).read_bytes():
        skip("this build has no crash points")
    if not shutil.which("qemu-system-x86_64"):
        skip("qemu-system-x86_64 is not installed")
    c = Cluster(nodes=(), engine=False)
    for i in range(max(len(STARTING), len(ENDING))):
        node = c.add_node("kill%d" % i, start=False, vm_accel="tcg", vm_stop_grace_ms=20000)
        machines.make_image(node, "tiny", "")
        machines.make_image(node, "off", " off")
        node.start(wait=False)
    for node in c.nodes.values():
        node.wait_online()
        wait_until(lambda: "machines can be run: %r" % node.status(), lambda: node.status()["vm_ok"], 30)


def teardown_module():
    if c:
        for node in c.nodes.values():
            for pid in machines.qemus(node.state_dir):
                os.kill(pid, 9)
        c.destroy()


# ---- one row ----

class Row:
    def __init__(self, point, moment, others, node):
        self.point, self.moment, self.others, self.node = point, moment, others, node
        self.vps_id, self.disk = None, None

    def __repr__(self):
        return "%s while it %s (%s)" % (self.point, self.moment, self.others)

    def vps(self):
        return c.api("GET", "/vps/%d" % self.vps_id)[1]

    def arm(self):
        self.node.daemon.kill()
        self.node.start(wait=False, KOHAKURIVER_FAULT=self.point)

    def create(self, image):
        name = "m%d" % int(time.monotonic() * 1000000)
        status, answer = c.api("POST", "/vps", {"name": name, "target": self.node.name, "image": image, "disk_bytes": 64 << 20,
                                                "memory_bytes": 64 << 20, "cores": 1})
        assert status == 201, (self, answer)
        self.vps_id = answer["id"]

    def order(self, what):
        status, answer = c.api("POST", "/vps/%d/%s" % (self.vps_id, what), {})
        assert status == 202, (self, what, answer)

    def wait_dead(self):
        def dead():
            assert len(machines.qemus(self.node.state_dir)) <= 1, self
            return not self.node.daemon.is_running()
        wait_until(lambda: "the runner dies (%r): %r" % (self, self.vps()), dead, 60)
        assert self.node.daemon.process.returncode == -9, self.node.daemon.tail()

    def wait_for(self, *states):
        def there():
            assert len(machines.qemus(self.node.state_dir)) <= 1, (self, machines.qemus(self.node.state_dir))
            return self.vps()["state"] in states
        wait_until(lambda: "%r: it is %s: %r; %s" % (self, states, self.vps(), self.node.daemon.tail(1500)), there, 90)

    def check_disk(self):
        inode = (self.node.state_dir / "vms" / "disks" / ("%d.qcow2" % self.vps_id)).stat().st_ino
        assert self.disk in (None, inode), "%r: it has another disk" % self
        self.disk = inode

    def check_on(self):
        self.wait_for("running")
        wait_until("its guest speaks (%r)" % self,
                   lambda: "TINY-GUEST-READY" in c.cli("vps", "logs", str(self.vps_id)).out, 60)
        assert len(machines.qemus(self.node.state_dir)) == 1, self
        self.check_disk()

    def check_off(self):
        self.wait_for("stopped")
        vps = self.vps()
        assert vps["holds_lease"] is False, (self, vps)
        assert not machines.qemus(self.node.state_dir), self
        wait_until("no lease file is left (%r)" % self, lambda: not list((self.node.state_dir / "leases").glob("[0-9]*")), 20)
        folder = self.node.state_dir / "vms" / "machines"
        assert not list(folder.iterdir()), (self, list(folder.iterdir()))
        self.check_disk()

    def done(self, outcome):
        driven.add(self.point)
        rows.append((self.point, self.moment, self.others, outcome))


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(function, items))


def batch(points, moment, others):
    return [Row(point, moment, others, node) for point, node in zip(points, c.nodes.values())]


def arm_all(batch_):
    for row in batch_:
        row.arm()
    for row in batch_:
        row.node.wait_online()
        wait_until("machines can be run again", lambda: row.node.status()["vm_ok"], 30)


def revive(batch_):
    in_parallel(Row.wait_dead, batch_)
    if batch_[0].others == "host":
        c.host.kill()
        c.start_host(wait_nodes=False)
    for row in batch_:
        row.node.start(wait=False)
    for row in batch_:
        row.node.wait_online()


def clear(row):
    """The machine goes off in order: the next batch finds the node empty."""
    row.order("stop")
    row.check_off()


# ---- moments ----

def die_while_made(others):
    all_rows = batch(STARTING, "is made", others)
    arm_all(all_rows)
    in_parallel(lambda row: row.create("tiny"), all_rows)
    revive(all_rows)
    in_parallel(Row.check_on, all_rows)
    in_parallel(clear, all_rows)
    for row in all_rows:
        row.done("running, then stopped when asked")


def test_runners_die_while_machines_are_made():
    die_while_made("—")


def test_runners_and_the_host_die_while_machines_are_made():
    die_while_made("host")


def die_while_stopping(others):
    all_rows = batch(ENDING, "is stopped", others)
    in_parallel(lambda row: row.create("tiny"), all_rows)
    in_parallel(Row.check_on, all_rows)
    arm_all(all_rows)
    in_parallel(Row.check_on, all_rows)
    in_parallel(lambda row: row.order("stop"), all_rows)
    revive(all_rows)
    in_parallel(Row.check_off, all_rows)
    for row in all_rows:
        row.done("stopped")


def test_runners_die_while_machines_are_stopped():
    die_while_stopping("—")


def test_runners_and_the_host_die_while_machines_are_stopped():
    die_while_stopping("host")


def test_runners_die_when_guests_power_off():
    all_rows = batch(ENDING, "powers itself off", "—")
    arm_all(all_rows)
    in_parallel(lambda row: row.create("off"), all_rows)
    revive(all_rows)
    in_parallel(Row.check_off, all_rows)
    for row in all_rows:
        assert row.vps().get("exit_code") == 0, (row, row.vps())
        row.done("stopped, exit code 0")


def die_while_restarting(points):
    all_rows = batch(points, "is restarted", "—")
    in_parallel(lambda row: row.create("tiny"), all_rows)
    in_parallel(Row.check_on, all_rows)
    arm_all(all_rows)
    tasks = [row.vps()["task_id"] for row in all_rows]
    restarts = [c.popen("vps", "restart", str(row.vps_id)) for row in all_rows]
    revive(all_rows)
    for row, restart in zip(all_rows, restarts):
        out, err = restart.communicate(timeout=180)
        assert restart.returncode == 0, (row, out, err)
    in_parallel(Row.check_on, all_rows)
    for row, task in zip(all_rows, tasks):
        assert row.vps()["task_id"] != task, row
    in_parallel(clear, all_rows)
    for row in all_rows:
        row.done("running again, as a new task")


def test_runners_die_while_machines_are_restarted_before_they_are_off():
    die_while_restarting(ENDING)


def test_runners_die_while_machines_are_restarted_and_come_again():
    die_while_restarting(STARTING)


# ---- the table ----

def test_every_crash_point_of_machines_was_driven():
    points = points_of("vm") - CARDS
    assert points <= set(STARTING + ENDING), points - set(STARTING + ENDING)
    if os.environ.get("TEST_NAMES"):
        skip("only some rows were driven")
    assert driven == set(STARTING + ENDING), driven ^ set(STARTING + ENDING)


def test_the_table_is_the_one_in_the_documentation():
    check_table("kill-matrix-machines", HEAD, STARTING + ENDING, rows)


if __name__ == "__main__":
    main()
