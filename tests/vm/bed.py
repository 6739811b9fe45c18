"""The bed: a small machine in QEMU with an IOMMU and cards that look like GPUs, a real kernel with vfio-pci, and this program inside. It
is emulated (TCG): needs neither KVM nor root nor a network, and boots in seconds.

    bed = Bed(build)            raises tap.Skip with the reason where a piece cannot be had
    result = bed.run(script)    the script runs as root inside, with the words of guest.sh; result.lines is what it printed

    bed = Bed(build, machines=True)   with QEMU inside, so that it runs machines itself, and the words of machines.sh too

The cards: 01:00 an RTX 4090 with four functions; 02:00 an H100 (class 3D); 03:00 a Navi 31 with audio; behind one bridge a GPU and a
stranger, in one IOMMU group; and the firmware's console (ati-vga). With machines=True a driver "nvidia" has the RTX 4090: the kernel's pci-stub under
that name, which binds and does nothing, and the stand-in for NVML knows the card as long as that driver has it.
"""
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from tap import note, skip  # noqa: E402

CACHE = ROOT / "var" / "cache" / "vm"
MODULES = ["vfio-pci", "vfio_iommu_type1", "snd-hda-intel", "bochs", "xhci-pci"]
TYPES = ",".join([
    "nv-big=pci-testdev:10de:2684:0300:a1:1462:5102", "nv-gpu=edu:10de:2684:0300:a1:1462:5102",
    "nv-audio=ich9-intel-hda:10de:22ba:0403:a1:1462:5102", "nv-usb=nec-usb-xhci:10de:1ad8:0c03:a1:1462:5102",
    "nv-ucsi=pci-testdev:10de:1ad9:0c80:a1:1462:5102", "nv-3d=bochs-display:10de:2330:0302:a1:10de:16c1",
    "amd-gpu=bochs-display:1002:744c:0300:c8:1da2:471e", "amd-audio=intel-hda:1002:ab30:0403:00:1002:ab30"])
DEVICES = """
pcie-root-port,id=rp1,chassis=1,slot=1,addr=2.0
nv-gpu,bus=rp1,addr=0.0,multifunction=on
nv-audio,bus=rp1,addr=0.1,multifunction=on
nv-usb,bus=rp1,addr=0.2,multifunction=on
nv-ucsi,bus=rp1,addr=0.3,multifunction=on
pcie-root-port,id=rp2,chassis=2,slot=2,addr=3.0
nv-3d,bus=rp2
pcie-root-port,id=rp3,chassis=3,slot=3,addr=4.0
amd-gpu,bus=rp3,addr=0.0,multifunction=on
amd-audio,bus=rp3,addr=0.1
hda-duplex,audiodev=a0
pcie-pci-bridge,id=pb1,addr=5.0
nv-big,bus=pb1,addr=1.0,membar=256M
edu,bus=pb1,addr=2.0
ati-vga,addr=6.0
""".split()
LIMIT_S = 60


class Archive:
    """An initramfs in the making (cpio, newc); archives can be put one behind the other."""

    def __init__(self):
        self.parts, self.seen, self.number = [], set(), 0

    def _entry(self, name, mode, data=b""):
        self.number += 1
        fields = [self.number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def folder(self, name):
        if name and name not in self.seen:
            self.folder(os.path.dirname(name))
            self.seen.add(name)
            self._entry(name, 0o040755)

    def file(self, name, data, mode=0o755):
        name = name.lstrip("/")
        if name not in self.seen:
            self.folder(os.path.dirname(name))
            self.seen.add(name)
            self._entry(name, 0o100000 | mode, data)

    def program(self, path, name=None):
        """A program with the libraries that it needs."""
        self.file(name or str(path), Path(path).read_bytes())
        libraries = subprocess.run(["ldd", str(path)], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", libraries):
            self.file(library, Path(library).read_bytes())

    def bytes(self):
        self._entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def need_program(name, package):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
    return found or skip("%s is not installed (tools/deps.sh --test installs %s)" % (name, package))


def fetch_kernel():
    """The distribution's kernel package, fetched once; -> its file."""
    CACHE.mkdir(parents=True, exist_ok=True)
    have = sorted(CACHE.glob("linux-image-*.deb"))
    if have:
        return have[-1]
    shown = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True).stdout
    match = re.search(r"Depends: (linux-image-\S+)", shown)
    if not match:
        skip("apt knows no package linux-image-amd64: run apt-get update")
    done = subprocess.run(["apt-get", "download", match.group(1)], cwd=CACHE, capture_output=True, text=True)
    have = sorted(CACHE.glob("linux-image-*.deb"))
    return have[-1] if have else skip("%s cannot be fetched: %s" % (match.group(1), done.stderr.strip()[-200:]))


def unpacked_kernel():
    """-> (vmlinux, folder of its modules), unpacked once."""
    package = fetch_kernel()
    folder = CACHE / package.stem
    if not (folder / "vmlinux").exists():
        part = CACHE / ("%s.part.%d" % (package.stem, os.getpid()))
        subprocess.run(["dpkg", "-x", str(package), str(part)], check=True)
        version = next((part / "lib" / "modules").iterdir()).name
        subprocess.run([need_program("depmod", "kmod"), "-b", str(part), version], check=True)
        image = next((part / "boot").glob("vmlinuz-*")).read_bytes()
        (part / "vmlinux").write_bytes(lzma.LZMADecompressor().decompress(image[image.index(b"\xfd7zXZ\0"):]))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    return folder / "vmlinux", next((folder / "lib" / "modules").iterdir())


QEMU_FILES = ["/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so", "/usr/share/seabios/bios-256k.bin"] + [
    "/usr/share/qemu/" + name for name in ("kvmvapic.bin", "linuxboot_dma.bin", "multiboot.bin", "multiboot_dma.bin", "pvh.bin")]
SCENARIO = {"driver_version": "550.54.15", "nvml_version": "12.550.54.15", "tree": "/", "gpus": [
    {"uuid": "GPU-cd613e30-d8f1-4adf-91b7-584a2265b1f5", "name": "NVIDIA GeForce RTX 4090", "pci": "0000:01:00.0", "minor": 0,
     "memory_total_mib": 24564, "memory_used_mib": 1, "memory_reserved_mib": 400, "utilization": 0, "temperature": 30,
     "power_mw": 20000, "power_limit_mw": 450000, "processes": []}]}


def nvidia_module(modules):
    """pci-stub that calls itself nvidia: the name in the table of its pci_driver is a string of the module."""
    data = (modules / "kernel/drivers/pci/pci-stub.ko").read_bytes()
    at = data.rindex(b"~Module signature appended~")  # one that does not fit is refused, none is not
    data = data[:at - 12 - int.from_bytes(data[at - 4:at], "big")]
    assert data.count(b"\0pci-stub\0") == 1, "this kernel's pci-stub is made in another way"
    return data.replace(b"\0pci-stub\0", b"\0nvidia\0\0\0")


def module_files(modules):
    """The modules with all that they need, in the order of loading."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {Path(p).name.split(".")[0].replace("-", "_"): p for p in needs}
    ordered = []
    for name in MODULES:
        path = by_name[name.replace("-", "_")]
        ordered += [p for p in reversed(needs[path]) if p not in ordered] + ([path] if path not in ordered else [])
    return [modules / p for p in ordered]


class Result:
    def __init__(self, text, seconds):
        self.text, self.seconds = text, seconds
        self.lines = [line.rstrip("\r") for line in text.splitlines()]
        match = re.search(r"^BED-END rc=(\d+)", text, re.M)
        self.rc = int(match.group(1)) if match else None

    def value(self, key):
        """What stands behind "KEY " on the first line that begins with it."""
        for line in self.lines:
            if line.startswith(key + " "):
                return line[len(key) + 1:]
        raise AssertionError("no line %s in:\n%s" % (key, self.text[-4000:]))


class Bed:
    def __init__(self, build, machines=False):
        self.memory_mib, self.cpus = (1024, 2) if machines else (640, 1)
        self.qemu = need_program("qemu-system-x86_64", "qemu-system-x86")
        busybox = need_program("busybox", "busybox-static")
        self.vmlinux, modules = unpacked_kernel()
        self.work = CACHE / ("run.%d" % os.getpid())
        self.work.mkdir(parents=True, exist_ok=True)
        self.shim = self.work / "fakepci.so"
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(self.shim), str(HERE / "fakepci.c")],
                       check=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-static", "-o", str(self.work / "hold"), str(HERE / "hold.c")],
                       check=True)
        base = Archive()
        for name in ("bin", "dev", "proc", "sys", "tmp", "run", "etc", "root", "sbin", "usr/bin"):
            base.folder(name)
        base.file("bin/busybox", Path(busybox).read_bytes())
        base.file("init", (HERE / "init.sh").read_bytes())
        base.file("guest.sh", (HERE / "guest.sh").read_bytes())
        files = module_files(modules)
        for path in files:
            base.file("modules/" + path.name, path.read_bytes())
        base.file("modules/order", "".join(p.name + "\n" for p in files).encode())
        base.file("bin/hold", (self.work / "hold").read_bytes())
        base.program(Path(build) / "kohakuriver", "/bin/kohakuriver")
        if machines:
            self.add_machines(base, modules, Path(build))
        self.base = base.bytes()

    def add_machines(self, base, modules, build):
        """What host, runner and QEMU need inside."""
        base.program(self.qemu, "/usr/bin/qemu-system-x86_64")
        base.program(need_program("qemu-img", "qemu-utils"), "/usr/bin/qemu-img")
        for name in QEMU_FILES:
            base.program(name) if name.endswith(".so") else base.file(name, Path(name).read_bytes())
        base.program(build / "tests/fakes/nvml/libnvidia-ml.so.1", "/lib/libnvidia-ml.so.1")
        base.file("modules/nvidia-stand-in.ko", nvidia_module(modules))
        base.file("scenario.json", json.dumps(SCENARIO).encode())
        base.file("tiny.elf", (build / "tests/fakes/guest/tiny.elf").read_bytes())
        base.file("machines.sh", (HERE / "machines.sh").read_bytes())
        base.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644)

    def close(self):
        shutil.rmtree(self.work, ignore_errors=True)

    def run(self, script, limit_s=LIMIT_S):
        more = Archive()
        more.file("test.sh", script.encode())
        image = self.work / ("%s.img" % hashlib.sha256(script.encode()).hexdigest()[:12])
        image.write_bytes(self.base + more.bytes())
        argv = [self.qemu, "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "qemu64", "-smp", str(self.cpus), "-m", str(self.memory_mib),
                "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
                "-device", "intel-iommu,intremap=on,caching-mode=on", "-kernel", str(self.vmlinux), "-initrd", str(image),
                "-append", "console=ttyS0 quiet intel_iommu=on no_timer_check panic=-1", "-audiodev", "none,id=a0"]
        for device in DEVICES:
            argv += ["-device", device]
        begin = time.monotonic()
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 env=dict(os.environ, LD_PRELOAD=str(self.shim), FAKEPCI=TYPES))
        try:
            out, _ = child.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
        result = Result(out.decode("utf-8", "replace"), time.monotonic() - begin)
        image.unlink()
        note("the machine ran for %.1f s" % result.seconds)
        assert result.rc is not None, "the machine did not come to its end in %d s:\n%s" % (limit_s, result.text[-4000:])
        return result
