#!/usr/bin/python3
"""The GPU worker on a machine with a real NVIDIA card: what it says must be what nvidia-smi says.

Skips elsewhere, with the reason. KR_SYSFS_ROOT and KR_NVML_LIBRARY replace the machine's tree and library.
"""
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from tap import main, note, skip, wait_until  # noqa: E402

BUILD = Path(os.environ.get("KR_BUILD", ROOT / "build-test"))
SYSFS_ROOT = os.environ.get("KR_SYSFS_ROOT", "/")
LIBRARY = os.environ.get("KR_NVML_LIBRARY", "libnvidia-ml.so.1")
FIELDS = ("index", "name", "uuid", "pci.bus_id", "memory.total", "memory.used", "utilization.gpu", "temperature.gpu",
          "power.draw", "power.limit", "pcie.link.width.current")
MIB = 1 << 20


class Worker:
    """The worker process, spoken to as the runner does: a line in, a line out, and lines that say which card is touched."""

    def __init__(self):
        self.child = subprocess.Popen([str(BUILD / "kohakuriver"), "gpu-worker", SYSFS_ROOT, LIBRARY],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.asked = 0

    def ask(self, **request):
        self.asked += 1
        self.child.stdin.write(json.dumps(dict(request, id=self.asked)) + "\n")
        self.child.stdin.flush()
        while True:
            answer = json.loads(self.child.stdout.readline())
            if "at" not in answer:
                assert answer["id"] == self.asked, answer
                return answer

    def close(self):
        self.child.stdin.close()
        assert self.child.wait(20) == 0


worker = None


def setup_module():
    global worker
    if not shutil.which("nvidia-smi"):
        skip("no nvidia-smi on this machine")
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    if listed.returncode != 0 or "GPU 0" not in listed.stdout:
        skip("nvidia-smi sees no card: " + (listed.stdout + listed.stderr).strip().replace("\n", "; ")[:200])
    worker = Worker()


def teardown_module():
    if worker:
        worker.close()


def smi():
    """[{field: text}] in the order of nvidia-smi, which is the order of PCI."""
    out = subprocess.run(["nvidia-smi", "--query-gpu=" + ",".join(FIELDS), "--format=csv,noheader,nounits"],
                         capture_output=True, text=True, timeout=60, check=True).stdout
    return [dict(zip(FIELDS, (cell.strip() for cell in row))) for row in csv.reader(out.splitlines()) if row]


def sample():
    answer = worker.ask(op="sample", processes=True, sites=True)
    assert answer["inventory"], answer
    return [card for card in answer["cards"] if card["gpu"]["uuid"].startswith("GPU-")]


def number(text):
    """None for what nvidia-smi does not know ("[N/A]", "[Not Supported]")."""
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None


def short_address(text):
    """nvidia-smi writes eight digits of domain."""
    domain, rest = text.lower().split(":", 1)
    return "%04x:%s" % (int(domain, 16), rest)


def pairs():
    theirs = smi()
    ours = sample()
    assert len(ours) == len(theirs), "nvidia-smi sees %d cards, the worker %d" % (len(theirs), len(ours))
    return list(zip(ours, theirs))


def test_same_cards_in_the_same_order():
    for ours, theirs in pairs():
        gpu = ours["gpu"]
        assert gpu["uuid"] == theirs["uuid"], (gpu, theirs)
        assert gpu["pci_address"] == short_address(theirs["pci.bus_id"]), (gpu, theirs)
        assert gpu["name"] == theirs["name"], (gpu, theirs)
        assert Path("/dev/nvidia%d" % gpu["minor"]).exists() or SYSFS_ROOT != "/", gpu


def close_enough(gpu, theirs, member, field, scale, slack):
    """A figure both know must agree; one that nvidia-smi does not know must be absent here, never 0."""
    expected = number(theirs[field])
    if expected is None:
        return member not in gpu
    return member in gpu and abs(gpu[member] - expected * scale) <= slack


def test_figures_agree():
    checks = [("memory_total_bytes", "memory.total", MIB, MIB), ("memory_used_bytes", "memory.used", MIB, 64 * MIB),
              ("temperature_celsius", "temperature.gpu", 1, 3), ("power_mw", "power.draw", 1000, 25000),
              ("power_limit_mw", "power.limit", 1000, 1000),
              ("pcie_width", "pcie.link.width.current", 1, 0)]

    def all_agree():
        wrong.clear()
        wrong.extend((member, gpu["gpu"].get(member), theirs[field]) for gpu, theirs in pairs()
                     for member, field, scale, slack in checks
                     if not close_enough(gpu["gpu"], theirs, member, field, scale, slack))
        return not wrong

    wrong = []
    wait_until(lambda: "figures differ: %s" % wrong, all_agree, timeout_s=20)  # some move while we look


def test_utilisation_agrees():
    """It moves, so it is enough that both once agree within 20 points."""
    wait_until("utilisation never agreed", lambda: all(
        close_enough(gpu["gpu"], theirs, "utilization_percent", "utilization.gpu", 1, 20) for gpu, theirs in pairs()))


def test_cards_answer():
    for ours, _ in pairs():
        assert ours["gpu"]["condition"] == "ok" or "MIG" in ours["gpu"].get("reason", ""), ours
        assert "processes_error" not in ours, ours
        assert ours["site"]["path"], ours


def test_a_check_reads_no_power():
    for _ in range(3):
        worker.ask(op="sample", slow_ms=3600000, rare_ms=3600000)
    before = {c["function"]: c["count"] for c in worker.ask(op="costs")["costs"]}
    worker.ask(op="check", uuids=[card["uuid"] for card in smi()])
    for _ in range(3):
        worker.ask(op="sample", slow_ms=3600000, rare_ms=3600000)
    costs = worker.ask(op="costs")["costs"]
    assert {c["function"]: c["count"] for c in costs}["nvmlDeviceGetPowerUsage"] == before["nvmlDeviceGetPowerUsage"]
    for cost in sorted(costs, key=lambda c: -c["total_us"]):
        note("%-44s %6d calls, %9.1f us on average, %8d us at most" % (
            cost["function"], cost["count"], cost["total_us"] / cost["count"], cost["max_us"]))


if __name__ == "__main__":
    main()
