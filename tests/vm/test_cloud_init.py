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
from cluster import EXE, Cluster, main, note, skip, wait_until  # noqa: E402

RECIPE = ROOT / "packaging" / "make-debian-image"
BOOT_S = 400
USER_DATA = """#cloud-config
write_files:
- path: /etc/kr-test
  content: "written by the user's own document"
runcmd:
- echo USER-DATA-DONE $(hostname) > /dev/ttyS0
"""
c, key, first_boot_s = None, None, 0


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


def setup_module():
    global c, key
    for tool in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs", "ssh", "ssh-keygen"):
        if not shutil.which(tool, path=os.environ["PATH"] + ":/sbin:/usr/sbin"):
            skip("%s is not installed" % tool)
    if os.getuid() != 0:
        skip("building the image needs root")
    cache = make_image()
    c = Cluster(nodes=(), engine=False)
    images = c.dir / "vms" / "images"
    images.parent.mkdir()
    subprocess.run(["cp", "-al", str(cache / "images"), str(images)], check=True)
    (c.dir / "shared").mkdir()
    (c.dir / "shared" / "hello").write_text("from the node\n")
    c.add_node("mynode", vm_accel="tcg", vm_dir=c.dir / "vms", vm_stop_grace_ms=30000, vm_shared_dir=c.dir / "shared")
    wait_until(lambda: "machines can be run: %r" % c["mynode"].status(), lambda: c["mynode"].status()["vm_ok"], 30)
    key = c.dir / "gpuvm.key"


def teardown_module():
    if c:
        for vps in c.api("GET", "/vps")[1]["vps"]:
            c.cli("vps", "stop", str(vps["id"]))
        wait_until("all are off", lambda: all(v["state"] in ("stopped", "failed") for v in c.api("GET", "/vps")[1]["vps"]), 60)
        c.destroy()


def vps():
    return c.api("GET", "/vps/1")[1]


def guest():
    return vps().get("guest", {})


def wait_ready():
    def ready():
        seen = vps()
        assert seen["state"] in ("pending", "assigning", "provisioning", "running"), seen
        return guest().get("ready") and guest().get("ssh_host_key")
    wait_until(lambda: "the guest is ready: %r; its console: %s" % (vps(), c.cli("vps", "logs", "gpuvm").out[-3000:]), ready, BOOT_S)


def ssh(command, code=0):
    done = c.cli("ssh", "-i", str(key), "gpuvm", "--", command, timeout=180, env={"HOME": str(c.dir)})
    assert code is None or done.code == code, done
    return done


def test_create_boots_and_the_guest_says_that_it_is_ready():
    global first_boot_s
    (c.dir / "user-data").write_text(USER_DATA)
    begun = time.monotonic()
    out = c.cli("vps", "create", "--backend", "qemu", "-t", "mynode", "--vm-memory", "1024", "--vm-disk", "4G", "-c", "2", "--name",
                "gpuvm", "--vm-image", "debian", "--ssh", "--gen-ssh-key", "--key-out-file", str(key), "--user-data",
                str(c.dir / "user-data"), code=0, timeout=180)
    assert "log in with: kohakuriver ssh -i %s gpuvm\n" % key in out.out, out
    assert key.stat().st_mode & 0o777 == 0o600
    wait_ready()
    first_boot_s = time.monotonic() - begun
    note("ready after %.1f s" % first_boot_s)
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
    ssh("echo mark > mark; sudo systemctl reboot", code=None)
    wait_until(lambda: "it is down: %r" % guest(), lambda: ssh("--no-such", code=None).code != 0, 60)
    wait_until(lambda: "ssh answers again", lambda: ssh("cat mark", code=None).out == "mark\n", BOOT_S)
    assert vps()["state"] == "running" and vps()["task_id"] == task


def test_power_off_by_stop_and_a_second_start_on_the_same_disk():
    c.cli("vps", "stop", "gpuvm", code=0)
    wait_until(lambda: "it is off: %r" % vps(), lambda: vps()["state"] == "stopped", 90)
    assert "guest" not in vps() and not vps()["holds_lease"], vps()
    c.cli("vps", "start", "gpuvm", code=0)
    wait_ready()
    assert ssh("cat mark; ls /run/cloud-init/result.json").out.startswith("mark\n")


def test_a_guest_that_powers_off_is_stopped():
    ssh("sudo systemctl poweroff", code=None)
    wait_until(lambda: "it is off: %r" % vps(), lambda: vps()["state"] == "stopped", 90)
    assert vps().get("exit_code") == 0, vps()


if __name__ == "__main__":
    main()
