#!/usr/bin/python3
"""Machines with a card, for real: host and runner inside the bed (bed.py), a card that leaves its driver for vfio-pci, QEMU that has it, and
the way back to a container. The same binary, kernel and QEMU as on a node; the driver and its library are stand-ins."""
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bed import ROOT, Bed  # noqa: E402
from tap import main, note  # noqa: E402

BUILD = Path(os.environ.get("KR_BUILD", ROOT / "build-test"))
HOME = "nvidia snd_hda_intel xhci_hcd -"
AWAY = "vfio-pci! vfio-pci! vfio-pci! vfio-pci!"
LIMIT_S = 450
BEGIN = """. /machines.sh
prepare
start_host
start_runner
until_ok 30 can_run
until_ok 30 gpu_is 1 free
say START "$(drivers 0000:01:00)"
"""
END = """
echo RUNNER-LOG; tail -40 /run/runners.log /run/runner.log; cat /run/out
echo HOST-LOG; tail -20 /run/host.log
"""
bed = None


def setup_module():
    global bed
    bed = Bed(BUILD, machines=True)


def teardown_module():
    if bed:
        bed.close()


def run(script):
    result = bed.run(BEGIN + script + END, LIMIT_S)
    assert result.value("START") == HOME, result.text[-6000:]
    never = [line for line in result.lines if line.startswith("NEVER ")]
    assert not never, "%s in:\n%s" % (never, result.text[-9000:])
    return result


def values(result, key):
    return [line[len(key) + 1:] for line in result.lines if line.startswith(key + " ")]


def test_R1_L18_a_card_goes_from_container_to_machine_and_back():
    """One pool: whoever has the card, the other one is refused with the holder's name, and gets it when it is free on evidence (R2)."""
    result = run("""
kohakuriver task submit -q -t n::1 --name train -- run=600000 >/run/id; task=$(cat /run/id)
until_ok 30 task_is $task running
say MACHINE-REFUSED "$(create vm1 1)"
kohakuriver task kill $task >/dev/null
until_ok 30 gpu_is 1 free
say CREATED "$(create vm1 1 --wait | grep running)"
say RUNNING "$(drivers 0000:01:00) | $(vps_state vm1) | $(gpu_state 1) | $(journals)"
kohakuriver vps status vm1 | sed 's/^/STATUS /'
kohakuriver node status n | sed 's/^/NODE /'
say CONTAINER-REFUSED "$(kohakuriver task submit -t n::1 -- true 2>&1)"
say MACHINE-TOO "$(create vm2 1)"
until_ok 60 sh -c 'kohakuriver vps logs vm1 | grep -q TINY-GUEST-READY'
kohakuriver vps logs vm1 | grep PCI | sed 's/^/GUEST /'
say OWN-WORKER "$(cat $D/0000:01:00.0/driver_override)"
kohakuriver vps stop vm1 >/dev/null
until_ok 60 vps_is vm1 stopped
say AFTER "$(drivers 0000:01:00) | $(gpu_state 1) | $(journals)"
kohakuriver task submit -q -t n::1 -- run=600000 >/run/id; task=$(cat /run/id)
until_ok 30 task_is $task running
say START-REFUSED "$(kohakuriver vps start vm1 2>&1)"
kohakuriver task kill $task >/dev/null
until_ok 30 gpu_is 1 free
kohakuriver vps start vm1 >/dev/null
until_ok 60 vps_is vm1 running
say AGAIN "$(drivers 0000:01:00)"
kohakuriver vps stop vm1 >/dev/null
until_ok 60 vps_is vm1 stopped
until_ok 30 gpu_is 1 free
say END "$(drivers 0000:01:00)"
""")
    assert "GPU 1 of n is held by task 1 (train)" in result.value("MACHINE-REFUSED"), result.text
    assert "is running on n" in result.value("CREATED"), result.text
    assert result.value("RUNNING") == AWAY + " | running | in_use | 1", result.value("RUNNING")
    assert any("bound to vfio-pci for kohakuriver-" in line for line in values(result, "STATUS")), values(result, "STATUS")
    assert "held by task" in result.value("CONTAINER-REFUSED") and "(vm1)" in result.value("CONTAINER-REFUSED"), result.text
    assert "(vm1)" in result.value("MACHINE-TOO"), result.text
    guest = values(result, "GUEST")
    for function, ids in enumerate(("10de:2684", "10de:22ba", "10de:1ad8", "10de:1ad9")):  # all of the card, in one slot
        assert any(re.search(r"\.%d %s" % (function, ids), line) for line in guest), guest
    assert result.value("AFTER") == HOME + " | free | 0", result.value("AFTER")
    assert "is held by task" in result.value("START-REFUSED"), result.text
    assert result.value("AGAIN") == AWAY and result.value("END") == HOME, result.text
    note("there and back, twice, and three refusals in %.0f s" % result.seconds)


def test_cards_without_a_driver_and_groups():
    """What no driver has is for machines alone; a stranger in the group is refused by name, by the node, and the card is free again (K8)."""
    result = run("""
until_ok 20 gpu_is 3 bare
say CONTAINER "$(kohakuriver task submit -t n::3 -- true 2>&1)"
say CREATED "$(create vm1 3 --wait | grep running)"
say RUNNING "$(drivers 0000:03:00) | $(gpu_state 3)"
say STRANGER "$(create vm2 4 --wait)"
until_ok 30 gpu_is 4 bare
kohakuriver vps stop vm1 >/dev/null
until_ok 60 vps_is vm1 stopped
until_ok 30 gpu_is 3 bare
say AFTER "$(drivers 0000:03:00) | $(journals)"
""")
    assert "not available (bare): no driver is bound to it" in result.value("CONTAINER"), result.text
    assert result.value("RUNNING") == "vfio-pci! vfio-pci! | in_use", result.text
    assert "also holds" in result.text and "1234:11e8" in result.text, result.text
    assert result.value("AFTER") == "- snd_hda_intel | 0", result.text


def test_L21_L71_kills_of_qemu_and_of_the_runner():
    """QEMU is killed: its card comes home. The runner is killed: nothing happens to the machine, and the next runner has it."""
    result = run("""
create vm1 1 --wait >/dev/null
kill -9 $(pidof vm1 qemu-system-x86_64)
until_ok 30 vps_is vm1 failed
until_ok 30 gpu_is 1 free
say QEMU "$(drivers 0000:01:00) | $(journals)"
kohakuriver vps start vm1 >/dev/null
until_ok 60 vps_is vm1 running
pid=$(pidof vm1 qemu-system-x86_64)
kill -9 $runner_pid; sleep 1
start_runner
until_ok 60 connected; sleep 2
say RUNNER "$(drivers 0000:01:00) | $(vps_state vm1) | $([ "$pid" = "$(pidof vm1 qemu-system-x86_64)" ] && echo same)"
say HELD "$(kohakuriver task submit -t n::1 -- true 2>&1)"
kill -9 $runner_pid; kill -9 $(pidof vm1 qemu-system-x86_64); sleep 1 # both at once
start_runner
until_ok 60 vps_is vm1 failed
until_ok 60 gpu_is 1 free
say BOTH "$(drivers 0000:01:00) | $(journals)"
""")
    assert result.value("QEMU") == HOME + " | 0", result.text
    assert result.value("RUNNER") == AWAY + " | running | same", result.text
    assert "(vm1)" in result.value("HELD"), result.text
    assert result.value("BOTH") == HOME + " | 0", result.text


KILLS = """
for point in %s; do
    kill $runner_pid; wait $runner_pid
    KOHAKURIVER_FAULT=$point
    export KOHAKURIVER_FAULT
    start_runner
    unset KOHAKURIVER_FAULT
    until_ok 60 connected
    until_ok 60 gpu_is 1 free
    n=$(( n + 1 ))
    create vm-$n 1 --wait >/run/out 2>&1 &
    never=
    until_ok 100 sh -c "! kill -0 $runner_pid || grep -q running /run/out" || never=1
    kohakuriver vps stop vm-$n >/dev/null 2>&1
    [ -z "$never" ] || kill -9 $runner_pid
    wait $runner_pid
    say KILLED "$? $point $(drivers 0000:01:00)"
    start_runner
    until_ok 60 connected
    until_ok 100 sh -c ". /guest.sh; . /machines.sh; vps_is vm-$n stopped || vps_is vm-$n failed"
    until_ok 60 gpu_is 1 free
    say ENDED "$(vps_state vm-$n) $(drivers 0000:01:00) | $(gpu_state 1) $(journals) | $(kohakuriver vps status vm-$n | grep ^reason)"
done
"""


def kill_at(points):
    """The machine is asked to stop in any case: it has to end, with a reason, and its card has to be home and free."""
    result = run(KILLS % " ".join(points))
    killed, ended = values(result, "KILLED"), values(result, "ENDED")
    assert len(killed) == len(points) and all(line.startswith("137 ") for line in killed), (killed, result.text[-4000:])
    assert all(re.match(r"(stopped|failed) %s \| free 0 \| reason  *\w" % HOME, line) for line in ended), ended
    assert len(ended) == len(points), ended
    note("; ".join(killed))
    return killed


def test_L71_the_runner_is_killed_on_the_way_to_the_machine():
    """The next runner undoes what was begun: after an override, between drivers, with the first function on vfio-pci."""
    killed = kill_at(["vfio_step_started:3", "vfio_step_done:6", "vfio_journal_before:10"])
    assert all(HOME not in line for line in killed), killed


def test_L71_the_runner_is_killed_on_the_way_back():
    """The next runner finishes what was begun: between drivers, before an override is cleared, with all done but the journal's end."""
    killed = kill_at(["vfio_step_done:14", "vfio_step_started:17", "vfio_remove_before:1"])
    assert HOME in killed[2] and all(HOME not in line for line in killed[:2]), killed


def test_R7_L70_a_card_that_is_stuck_on_its_way_back():
    """Somebody takes the card's group between QEMU's end and the way back: the kernel blocks the write. It shows as stuck with its way out,
    nobody gets it, the others go on; and when the write returns after all, the card comes home by itself."""
    result = run("""
kill $runner_pid; wait $runner_pid
start_runner --vfio-deadline-ms=1500
until_ok 60 connected
until_ok 30 can_run
until_ok 30 gpu_is 1 free
create vm1 1 --wait >/dev/null
group=$(basename $(readlink $D/0000:01:00.0/iommu_group))
hold $group 0000:01:00.0 wait & holder=$!
kohakuriver vps stop vm1 >/dev/null
until_ok 60 test -e /run/held
until_ok 60 sh -c 'kohakuriver node status n | grep -q "stuck: needs reboot"'
kohakuriver node status n | sed 's/^/NODE /'
kohakuriver gpu list --wide 2>/dev/null | sed 's/^/LIST /'
kohakuriver vps status vm1 | sed 's/^/STATUS /'
kohakuriver node status n -f json | tr -d '\n ' | grep -o '"vfio":\[{.*"state":"stuck"' | cut -c1-40 | sed 's/^/JSON /'
say REFUSED "$(kohakuriver task submit -t n::1 -- true 2>&1)"
say OTHER "$(create vm2 3 --wait | grep running)"
kill -9 $holder
until_ok 60 vps_is vm1 stopped
until_ok 60 gpu_is 1 free
say AFTER "$(drivers 0000:01:00)"
kohakuriver vps stop vm2 >/dev/null
until_ok 60 vps_is vm2 stopped
say LEFT "$(journals)"
""")
    told = [line for line in values(result, "NODE") if "stuck: needs reboot" in line]
    assert told and "release 0000:01:00.0 does not return" in told[0], values(result, "NODE")
    assert any("stuck: needs reboot" in line for line in values(result, "STATUS")), values(result, "STATUS")
    assert values(result, "JSON"), result.text
    assert "GPU 1 of n is held by task" in result.value("REFUSED"), result.value("REFUSED")
    assert "is running on n" in result.value("OTHER"), result.value("OTHER")
    assert result.value("AFTER") == HOME and result.value("LEFT") == "0", result.text


if __name__ == "__main__":
    main()
