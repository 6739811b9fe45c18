#!/usr/bin/python3
"""A real Debian with cloud-init as a machine (tests/unit/test_vm_boot.c). The image is built once by the program's own verb and kept
under var/cache, by the recipe's hash; that takes a minute or two and needs root and a Debian mirror."""
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("KR_BUILD", ROOT / "build-test"))
RECIPE = ROOT / "packaging" / "make-debian-image"


def skip(reason):
    print("1..1\nok 1 cloud-init # SKIP %s" % reason)
    sys.exit(0)


def make_image():
    """-> the folder whose store has the image "debian"."""
    mark = hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]
    folder = ROOT / "var" / "cache" / ("vm-debian-" + mark)
    if (folder / "images" / "debian" / "image.json").exists():
        return folder
    if not os.environ.get("KR_LONG"):
        skip("no image is kept yet, and making one takes minutes: `make vm NAME=cloud_init` does")
    config = folder / "runner.conf"
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text("[runner]\nvm_dir=%s\n" % folder)
    done = subprocess.run([str(BUILD / "kohakuriver"), "qemu", "image", "create", "--name", "debian", "--debian", "--config",
                           str(config)], env=dict(os.environ, KOHAKURIVER_DATA_DIR=str(RECIPE.parent)),
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        skip("the image cannot be built: %s" % done.stderr.strip().replace("\n", " "))
    return folder


def main():
    for tool in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs"):
        if not shutil.which(tool, path=os.environ["PATH"] + ":/sbin:/usr/sbin"):
            skip("%s is not installed" % tool)
    if os.getuid() != 0:
        skip("building the image needs root")
    environment = dict(os.environ, KOHAKURIVER_TEST_VM_DIR=str(make_image()))
    sys.stdout.flush()
    os.execve(BUILD / "tests" / "unit" / "test_vm_boot", ["test_vm_boot", "--tap", "-k"], environment)


main()
