#!/usr/bin/python3
"""Builds the fake sysfs of a scenario, or brings an existing one up to date: cards come, go, change their driver.

usage: simtree.py SCENARIO ROOT         make ROOT/sys/bus/pci/devices and ROOT/sys/devices/system/node
       simtree.py --cdi SCENARIO FILE   write a CDI spec (kind nvidia.com/gpu, devices named by UUID) of its cards

The CPUs of the fake NUMA nodes exist on this machine, and has_memory names only nodes that really have memory: what a
container is asked to be pinned to must be possible here. Members of a scenario: README.md beside this file.
"""
import json
import os
import re
import shutil
import sys
from pathlib import Path

VENDOR_NVIDIA = "0x10de"
VENDORS = {"nvidia": VENDOR_NVIDIA, "amd": "0x1002", "intel": "0x8086"}
DRIVERS = {"nvidia": "nvidia", "amd": "amdgpu", "intel": "xe"}
BRIDGE = {"vendor": "0x1000", "class": "0x060400", "driver": "pcieport"}
CONFIGS = {"ones": b"\xff" * 64, "7f": b"\0" * 14 + b"\x7f" + b"\0" * 49}
REAL_NODES = Path("/sys/devices/system/node")
# Neighbours that are no GPUs, as any machine has them: a NIC, and an NVIDIA bridge.
OTHER_DEVICES = [
    {"pci": "0000:00:1f.0", "vendor": "0x15b3", "class": "0x020000", "driver": "mlx5_core"},
    {"pci": "0000:00:1e.0", "vendor": VENDOR_NVIDIA, "class": "0x068000", "driver": "nvidia-nvswitch"},
]


def write(path, text):
    """Replaces the file in one step: a reader sees the old or the new text."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)


def link_driver(root, device, driver):
    link = device / "driver"
    if driver is None:
        link.unlink(missing_ok=True)
        return
    (root / "sys/bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(root / "sys/bus/pci/drivers" / driver, device.resolve())
    if link.is_symlink() and os.readlink(link) == target:
        return
    part = device / "driver.part"
    part.unlink(missing_ok=True)
    part.symlink_to(target)
    part.rename(link)


def remove_device(root, name):
    entry = root / "sys/bus/pci/devices" / name
    folder = entry.resolve()
    if folder.is_dir():
        (folder / "vendor").unlink(missing_ok=True)
    if entry.is_symlink():
        entry.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def place_device(root, spec):
    """The device's folder: in the tree of bridges and linked from the bus when the scenario says where, else on the bus."""
    entry = root / "sys/bus/pci/devices" / spec["pci"]
    if not spec.get("path"):
        if entry.is_symlink():
            remove_device(root, spec["pci"])
        return entry
    folder = root.joinpath("sys/devices", *spec["path"], spec["pci"])
    target = os.path.relpath(folder, entry.parent)
    if entry.exists() and not (entry.is_symlink() and os.readlink(entry) == target):
        remove_device(root, spec["pci"])
    folder.mkdir(parents=True, exist_ok=True)
    if entry.is_symlink() and os.readlink(entry) != target:  # its bridge went, and the folder with it
        entry.unlink()
    if not entry.is_symlink():
        entry.symlink_to(target)
    return folder


def build_device(root, spec):
    device = place_device(root, spec)
    write(device / "class", spec["class"] + "\n")
    write(device / "device", spec.get("device", "0x2330") + "\n")
    write(device / "numa_node", "%d\n" % spec.get("numa_node", -1))
    if "cpus" in spec:
        write(device / "local_cpulist", spec["cpus"] + "\n")
    for name, text in spec.get("sysfs", {}).items():
        write(device / name, text + "\n")
    (device / "config").unlink(missing_ok=True)
    if "config" in spec:
        (device / "config").write_bytes(CONFIGS[spec["config"]])
    link_driver(root, device, spec["driver"])
    write(device / "vendor", spec["vendor"] + "\n")  # last: a device without it is not taken for a card


def bridges_of(card):
    path = card.get("path", [])
    return [dict(BRIDGE, pci=name, path=path[:i]) for i, name in enumerate(path) if i > 0]


def devices_of(scenario):
    for card in scenario.get("gpus", []):
        state = card.get("state", "ok")
        if state == "gone":
            continue
        vendor = card.get("vendor", "nvidia")
        driver = "vfio-pci" if state == "vfio" else card.get("driver", DRIVERS[vendor])
        yield from bridges_of(card)
        yield dict(card, vendor=VENDORS[vendor], driver=driver, **{"class": card.get("class", "0x030200")})
    yield from OTHER_DEVICES


def build_pci(scenario, root):
    folder = root / "sys/bus/pci/devices"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {spec["pci"]: spec for spec in devices_of(scenario)}
    for old in set(os.listdir(folder)) - set(wanted):
        remove_device(root, old)
    for spec in wanted.values():
        build_device(root, spec)


def ids_of(cpulist):
    """"0-2,5" -> [0, 1, 2, 5]"""
    ids = []
    for part in filter(None, cpulist.strip().split(",")):
        first, _, last = part.partition("-")
        ids.extend(range(int(first), int(last or first) + 1))
    return ids


def share(cpus, n, k):
    """The k-th of n parts of the list; with fewer CPUs than parts, some parts share one."""
    if len(cpus) < n:
        return [cpus[k % len(cpus)]]
    return cpus[len(cpus) * k // n:len(cpus) * (k + 1) // n]


def cpulist_of(ids):
    """[0, 1, 2, 5] -> "0-2,5\""""
    runs = []
    for i in ids:
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join("%d" % a if a == b else "%d-%d" % (a, b) for a, b in runs)


def real_memory_kb(node):
    try:
        text = (REAL_NODES / ("node%d" % node) / "meminfo").read_text()
        return int(re.search(r"MemTotal:\s+(\d+)", text).group(1))
    except (OSError, AttributeError):
        return None


def total_memory_kb():
    return int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()).group(1))


def build_numa(scenario, root):
    folder = root / "sys/devices/system/node"
    count = scenario.get("numa_nodes", 1)
    cpus = sorted(os.sched_getaffinity(0))
    try:
        with_memory = ids_of((REAL_NODES / "has_memory").read_text())
    except OSError:
        with_memory = [0]
    for k in range(count):
        memory_kb = 0
        if k in with_memory:
            memory_kb = (len(with_memory) > 1 and real_memory_kb(k)) or total_memory_kb()
        node = folder / ("node%d" % k)
        write(node / "cpulist", cpulist_of(share(cpus, count, k)) + "\n")
        write(node / "meminfo", "Node %d MemTotal: %15d kB\nNode %d MemFree: %15d kB\n" % (k, memory_kb, k, memory_kb))
    write(folder / "online", cpulist_of(range(count)) + "\n")
    write(folder / "has_memory", cpulist_of([k for k in with_memory if k < count]) + "\n")


def build(scenario_path, root):
    scenario = json.loads(Path(scenario_path).read_text())
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    build_pci(scenario, root)
    build_numa(scenario, root)


def write_cdi(scenario_path, path):
    def node(name, minor):
        return {"path": "/dev/" + name, "type": "c", "major": 195, "minor": minor, "permissions": "rw"}

    cards = [c for c in json.loads(Path(scenario_path).read_text())["gpus"]
             if c.get("state", "ok") == "ok" and c.get("vendor", "nvidia") == "nvidia"]
    spec = {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [{"name": c["uuid"],
                     "containerEdits": {"deviceNodes": [node("nvidia%d" % c["minor"], c["minor"])]}} for c in cards],
        "containerEdits": {"deviceNodes": [node("nvidiactl", 255)], "env": ["NVIDIA_VISIBLE_DEVICES=void"]},
    }
    write(Path(path), json.dumps(spec, indent=1) + "\n")


def main(argv):
    if len(argv) == 4 and argv[1] == "--cdi":
        write_cdi(argv[2], argv[3])
    elif len(argv) == 3:
        build(argv[1], argv[2])
    else:
        sys.stderr.write(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
