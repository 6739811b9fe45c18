"""Machines in tests: images with a guest of a few kilobytes, and the QEMU processes that there are."""
import json
import os
import shutil
import subprocess

from cluster import BUILD


def make_image(node, name, words):
    """An image of a node's store that starts tests/fakes/guest with these words on its command line."""
    folder = node.state_dir / "vms" / "images" / name
    folder.mkdir(parents=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / "disk.qcow2", "64M"], check=True)
    shutil.copy(BUILD / "tests/fakes/guest/tiny.elf", folder / "kernel")
    (folder / "image.json").write_text(json.dumps({
        "version": 1, "name": name, "sha256": "0", "source": "test", "append": words, "virtual_bytes": 64 << 20, "created_ms": 1,
        "has_kernel": True, "has_initrd": False}))


def qemus(below):
    """The QEMU processes whose working folder is below that one, by pid: their words."""
    found = {}
    for pid in os.listdir("/proc"):
        try:
            words = open("/proc/%s/cmdline" % pid, "rb").read().split(b"\0")
            folder = os.readlink("/proc/%s/cwd" % pid) if words[0].endswith(b"qemu-system-x86_64") else ""
        except OSError:
            continue
        if folder.startswith(str(below)):
            found[int(pid)] = words
    return found
