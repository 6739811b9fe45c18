#!/usr/bin/python3
"""A real Debian with cloud-init as a machine, through the real host and runner, from `vps create` to `ssh` and to its end. The image
is built by the program's own verb and kept under var/cache, by the recipe's hash; that takes a minute or two and needs root and a
Debian mirror. All cases share one machine: its first start is the slow part."""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "e2e")]
import machines  # noqa: E402
from cluster import EXE, Cluster, Skip, main, note, skip, wait_until  # noqa: E402
from netns import Cable  # noqa: E402

RECIPE = ROOT / "packaging" / "make-debian-image"
BOOT_S = 600  # a quiet machine takes some 40 s
USER_DATA = """#cloud-config
write_files:
- path: /etc/kr-test
  content: "written by the user's own document"
runcmd:
- echo USER-DATA-DONE $(hostname) > /dev/ttyS0
"""
c, cache, key, cable = None, None, None, None


def make_image():
    """-> the folder whose store has the image "debian"."""
    mark = hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]
    folder = ROOT / "var" / "cache" / ("vm-debian-" + mark)
    if (folder / "images" / "debian" / "image.json").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = folder / "runner.conf"
    config.write_text("[runner]\nvm_dir=%s\n" % folder)
    done = subprocess.run([EXE, "qemu", "image", "create", "--name", "debian", "--debian", "--config", str(config)],
                          env=dict(os.environ, KOHAKURIVER_DATA_DIR=str(RECIPE.parent)), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        skip("the image cannot be built: %s" % done.stderr.strip().replace("\n", " "))
    return folder


def give_images(folder):
    """A store of its own for a node; the files are the cache's."""
    (c.dir / folder).mkdir()
    subprocess.run(["cp", "-al", str(cache / "images"), str(c.dir / folder / "images")], check=True)


def wait_machines(name):
    wait_until(lambda: "machines can be run: %r" % c[name].status(), lambda: c[name].status()["vm_ok"], 30)


def setup_module():
    global c, cache, key, cable
    for tool in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs", "ssh", "ssh-keygen"):
        if not shutil.which(tool, path=os.environ["PATH"] + ":/sbin:/usr/sbin"):
            skip("%s is not installed" % tool)
    if os.getuid() != 0:
        skip("building the image needs root")
    cache = make_image()
    try:
        cable = Cable()
    except Skip:
        cable = None
    c = Cluster(nodes=(), engine=False, address=cable.host if cable else "127.0.0.1")
    give_images("vms")
    (c.dir / "shared").mkdir()
    (c.dir / "shared" / "hello").write_text("from the node\n")
    c.add_node("mynode", vm_accel="tcg", vm_dir=c.dir / "vms", vm_stop_grace_ms=30000, vm_shared_dir=c.dir / "shared")
    wait_machines("mynode")
    key = c.dir / "gpuvm.key"


def teardown_module():
    if c:
        for vps in c.api("GET", "/vps")[1]["vps"]:
            c.cli("vps", "stop", str(vps["id"]))
        wait_until("all are off", lambda: all(v["state"] in ("stopped", "failed") for v in c.api("GET", "/vps")[1]["vps"]), 60)
        c.destroy()
    if cable:
        cable.close()


def vps(number=1):
    return c.api("GET", "/vps/%d" % number)[1]


def guest(number=1):
    return vps(number).get("guest", {})


def wait_ready(number=1):
    def ready():
        seen = vps(number)
        assert seen["state"] in ("pending", "assigning", "provisioning", "running"), seen
        return guest(number).get("ready") and guest(number).get("ssh_host_key")
    wait_until(lambda: "the guest is ready: %r; its console: %s" % (vps(number), c.cli("vps", "logs", str(number)).out[-3000:]), ready,
               BOOT_S)


def ssh(command, code=0, timeout=180, name="gpuvm"):
    done = c.cli("ssh", "-i", str(key), name, "--", command, timeout=timeout, env={"HOME": str(c.dir)})
    assert code is None or done.code == code, done
    return done


def try_ssh(command):
    """What it says, "" when it cannot be had now."""
    try:
        return ssh(command, code=None, timeout=75).out
    except subprocess.TimeoutExpired:
        return ""


def test_create_boots_and_the_guest_says_that_it_is_ready():
    (c.dir / "user-data").write_text(USER_DATA)
    begun = time.monotonic()
    out = c.cli("vps", "create", "--backend", "qemu", "-t", "mynode", "--vm-memory", "1024", "--vm-disk", "4G", "-c", "2", "--name",
                "gpuvm", "--vm-image", "debian", "--ssh", "--gen-ssh-key", "--key-out-file", str(key), "--user-data",
                str(c.dir / "user-data"), code=0, timeout=180)
    assert "log in with: kohakuriver ssh -i %s gpuvm\n" % key in out.out, out
    assert key.stat().st_mode & 0o777 == 0o600
    wait_ready()
    note("ready after %.1f s" % (time.monotonic() - begun))
    assert guest()["address"] == "10.0.2.15" and guest()["driver"] == "none" and guest()["gpus"] == []
    status = c.cli("vps", "status", "gpuvm", code=0).out
    assert re.search(r"guest +ready", status) and "10.0.2.15" in status, status


def test_ssh_through_the_host_with_the_key_that_the_guest_told():
    assert ssh("hostname; sudo -n id -u; cat /etc/kr-test").out == "gpuvm\n0\nwritten by the user's own document"
    ssh("exit 7", code=7)
    told = guest()["ssh_host_key"].split()[1]
    files = list((c.dir / ".config" / "kohakuriver").glob("kohakuriver-*-vps-1"))
    assert len(files) == 1 and told in files[0].read_text(), files


def test_the_shared_folder_is_there_and_cannot_make_root_files_on_the_node():
    assert ssh("cat /shared/hello").out.strip() == "from the node"
    ssh("sudo sh -c 'echo guest > /shared/made; chmod 4755 /shared/made'")
    made = c.dir / "shared" / "made"
    assert made.read_text() == "guest\n" and not made.stat().st_mode & 0o4000, oct(made.stat().st_mode)


def test_a_machine_that_shows_another_key_is_not_logged_in_to():
    """Whoever answers in its place: the key is compared with the one that came over the machine's own channel."""
    ssh("sudo systemctl stop kohakuriver-agent; sudo systemd-run --on-active=30 systemctl start kohakuriver-agent;"
        " sudo rm /etc/ssh/ssh_host_ed25519_key; sudo ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key;"
        " sudo systemctl restart ssh")
    old = guest()["ssh_host_key"]
    refused = ssh("true", code=255)
    assert "host key" in refused.err.lower(), refused
    wait_until(lambda: "the new key is told: %r" % guest(), lambda: guest().get("ssh_host_key", old) != old, 120)
    ssh("true")


def test_L21_the_guest_is_heard_again_after_the_runner_died():
    c["mynode"].daemon.kill()
    c["mynode"].start()
    wait_until(lambda: "the guest is heard: %r" % vps(), lambda: guest().get("ready"), 60)
    assert ssh("hostname").out == "gpuvm\n"


def test_a_guest_reboot_is_no_end():
    task = vps()["task_id"]
    boot = "cat mark /proc/sys/kernel/random/boot_id"
    ssh("echo mark > mark; sync")
    before = ssh(boot).out
    try_ssh("sudo systemctl reboot")
    wait_until("ssh answers from another boot", lambda: try_ssh(boot) not in ("", before), BOOT_S)
    assert ssh("cat mark").out == "mark\n"
    assert vps()["state"] == "running" and vps()["task_id"] == task


def test_power_off_by_stop_and_a_second_start_on_the_same_disk():
    ssh("echo mark > mark; sync")
    c.cli("vps", "stop", "gpuvm", code=0)
    wait_until(lambda: "it is off: %r" % vps(), lambda: vps()["state"] == "stopped", 90)
    assert "guest" not in vps() and not vps()["holds_lease"], vps()
    c.cli("vps", "start", "gpuvm", code=0)
    wait_ready()
    assert ssh("cat mark").out == "mark\n"


def test_a_guest_that_powers_off_is_stopped():
    try_ssh("sudo systemctl poweroff")
    wait_until(lambda: "it is off: %r" % vps(), lambda: vps()["state"] == "stopped", 90)
    assert vps().get("exit_code") == 0, vps()


INSTALLER = """#!/bin/sh
# Stands for NVIDIA's installer: what it leaves behind is what the module and nvidia-smi would say.
echo "args: $*" > /root/installer-args
until [ -e /shared/go ]; do sleep 1; done
mkdir -p /etc/modprobe.d
echo 'install nvidia /bin/true' > /etc/modprobe.d/nvidia.conf
cat > /usr/bin/nvidia-smi <<'END'
#!/bin/sh
case "$1" in -L) echo "GPU 0: H100" ;; *) echo "NVIDIA H100, 12, 1024, 81559, [N/A]" ;; esac
END
chmod 755 /usr/bin/nvidia-smi
"""
TOOLCHAIN = """#cloud-config
bootcmd:
- mkdir -p /lib/modules/$(uname -r)/build
- ln -sf /bin/true /usr/local/bin/dkms
- ln -sf /bin/true /usr/local/bin/cc
"""


def cut_off():
    """The power goes while the driver is being installed: the next start does what this one did not come to the end of."""
    wait_until(lambda: "the driver is being installed: %r; %s" % (vps(2), c.cli("vps", "logs", "2").out[-3000:]),
               lambda: guest(2).get("driver") == "installing", BOOT_S)
    (pid,) = machines.qemus(c.dir / "vms2")
    os.kill(pid, 9)
    wait_until(lambda: "its end is seen: %r" % vps(2), lambda: vps(2)["state"] == "failed", 60)
    (c.dir / "shared" / "go").touch()
    c.cli("vps", "start", "natvm", code=0)


def check_driver():
    """Installed from the file with the right checksum, looked at in the guest, its GPUs reported; a failure is seen with its reason."""
    told = guest(2)
    assert told["driver"] == "ready", told
    assert told["gpus"] == [{"name": "NVIDIA H100", "utilization_percent": 12, "memory_used_bytes": 1 << 30,
                             "memory_total_bytes": 81559 << 20}], told
    assert "--silent --dkms --kernel-module-type=proprietary" in ssh("sudo cat /root/installer-args", name="natvm").out
    (c.dir / "shared" / "driver.run").write_text("#!/bin/sh\n# another file\n")
    ssh("sudo /usr/local/sbin/kohakuriver-driver", code=1, name="natvm")
    wait_until(lambda: "the failure is told: %r" % guest(2), lambda: guest(2).get("driver") == "failed", 60)
    assert guest(2)["driver_text"] == "the file has another checksum"
    assert re.search(r"driver +failed +the file has another checksum", c.cli("vps", "status", "natvm", code=0).out)


def test_a_machine_in_the_nodes_own_network_reaches_the_world_and_not_the_node():
    """The node is in a network namespace: its one cable leads to this machine, which answers to the node's address only."""
    if not cable or not shutil.which("nft"):
        skip("needs a network namespace and nft")
    give_images("vms2")
    installer = c.dir / "shared" / "driver.run"
    installer.write_text(INSTALLER)
    c.add_node("natnode", vm_accel="tcg", vm_dir=c.dir / "vms2", prefix=cable.prefix, vm_bridge="krvms0", vm_nat="10.88.0.1/24",
               vm_stop_grace_ms=30000, vm_shared_dir=c.dir / "shared", vm_driver="/shared/driver.run",
               vm_driver_sha256=hashlib.sha256(INSTALLER.encode()).hexdigest())
    wait_machines("natnode")
    status, made = c.api("POST", "/vps", {
        "target": "natnode", "name": "natvm", "image": "debian", "memory_bytes": 1 << 30, "disk_bytes": 4 << 30, "cores": 2, "user": "ops",
        "network": "bridge", "installs_driver": True, "user_data": TOOLCHAIN,
        "ssh_keys": [key.with_suffix(".key.pub").read_text().strip()]})
    assert status == 201, made
    cut_off()
    wait_ready(2)
    assert guest(2)["address"] == "10.88.0.2"
    assert ssh("hostname -I", name="natvm").out.strip() == "10.88.0.2"
    version = ssh("curl -sS -m 20 http://%s:%d/api/v1/version" % (cable.host, c.port), name="natvm").out
    assert "cluster_id" in version, version
    refused = ssh("curl -sS -m 5 http://10.88.0.1:22/; curl -sS -m 5 http://%s:22/" % cable.node, code=None, name="natvm")
    assert refused.err.count("timed out") == 2, refused  # a closed port would refuse at once
    check_driver()
    c.cli("vps", "stop", "natvm", code=0)
    wait_until(lambda: "it is off: %r" % vps(2), lambda: vps(2)["state"] == "stopped", 90)


if __name__ == "__main__":
    main()
