#!/usr/bin/python3
"""Cards are bound to the real vfio-pci of a real kernel and given back, by the program itself (bed.py is the machine)."""
import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bed import ROOT, Bed  # noqa: E402
from tap import main, note  # noqa: E402

BUILD = Path(os.environ.get("KR_BUILD", ROOT / "build-test"))
CARD, H100, NAVI, SHARED = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:05:01.0"
AWAY = "vfio-pci! vfio-pci! vfio-pci! vfio-pci!"
HOME = "- snd_hda_intel xhci_hcd -"
bed = None


def setup_module():
    global bed
    bed = Bed(BUILD)


def teardown_module():
    if bed:
        bed.close()


def answers(result, key):
    """The JSON objects that the program printed behind the line KEY."""
    lines = result.lines[result.lines.index(key) + 1:]
    found = []
    for line in lines:
        if line.startswith("["):  # the kernel's
            continue
        if not line.startswith("{"):
            break
        found.append(json.loads(line))
    assert found, "nothing behind %s in:\n%s" % (key, result.text[-3000:])
    return found


def test_cards_are_bound_and_given_back():
    """The card with four functions, the one of class 3D that has a DRM driver, the one with audio (L69, L71)."""
    result = bed.run("""
say BEFORE "$(drivers 0000:01:00) | $(drivers 0000:02:00) | $(drivers 0000:03:00)"
echo BIND; bind vps-1 %s %s; bind vps-2 %s
say BOUND "$(drivers 0000:01:00) | $(drivers 0000:02:00) | $(drivers 0000:03:00)"
say NODES "$(ls /dev/vfio | sort | tr '\\n' ' ')"
say DRM "$(ls /dev/dri 2>/dev/null | tr '\\n' ' ')"
echo BACK; give_back vps-1; give_back vps-2
say AFTER "$(drivers 0000:01:00) | $(drivers 0000:02:00) | $(drivers 0000:03:00)"
say LEFT "$(journals) $(ls /dev/vfio | tr '\\n' ' ')"
""" % (CARD, H100, NAVI))
    first = answers(result, "BIND")
    assert first[0] == {"recovered": []} and first[1]["state"] == "bound", first
    functions = [f["address"] for f in first[1]["gpus"][0]["functions"]]
    assert functions == ["0000:01:00.%d" % i for i in range(4)], functions
    assert [f["former_driver"] for f in first[1]["gpus"][0]["functions"]] == ["", "snd_hda_intel", "xhci_hcd", ""]
    assert result.value("BEFORE") == result.value("AFTER"), result.text
    assert result.value("BOUND") == " | ".join([AWAY, "vfio-pci!", "vfio-pci! vfio-pci!"]), result.value("BOUND")
    assert HOME in result.value("AFTER") and "bochs-drm" in result.value("AFTER"), result.value("AFTER")
    assert len(result.value("NODES").split()) == 4 and result.value("LEFT").strip() == "0 vfio", result.text


def test_a_stranger_in_the_group_is_refused_by_name():
    """K8: whoever shares the card's IOMMU group is not taken along, and nothing is written."""
    result = bed.run("""
gpu=$(for f in $D/*; do [ "$(cat $f/device)" = 0x2684 ] && [ "$(basename $f)" != %s ] && basename $f; done)
say GPU "$gpu"
echo REFUSED; bind vps-1 $gpu
say DRIVERS "$(drivers ${gpu%%.*})"
say LEFT "$(journals)"
""" % CARD)
    error = answers(result, "REFUSED")[1]
    assert error["code"] == "refused" and "also holds" in error["error"] and "1234:11e8" in error["error"], error
    assert result.value("DRIVERS") == "-" and result.value("LEFT") == "0", result.text


def test_check_shows_the_cards_their_groups_and_companions():
    result = bed.run("echo CHECK; kohakuriver qemu check --format json; echo rc=$?; kohakuriver qemu check")
    text = result.text[result.text.index("CHECK") + 5:result.text.index("rc=")].replace("\r", "")
    check = json.loads(text)
    cards = {gpu["address"]: gpu for gpu in check["gpus"]}
    assert [c["role"] for c in cards[CARD]["companions"]] == ["audio", "usb-c", "ucsi"] and cards[CARD]["passable"]
    assert cards[H100]["passable"] and cards[NAVI]["companions"][0]["driver"] == "snd_hda_intel"
    shared = [c for c in cards.values() if any(o["id"] == "foreign_in_group" for o in c["obstacles"])]
    assert len(shared) == 1 and not shared[0]["passable"] and check["acs"]["would_split"] == [shared[0]["address"]]
    assert any(o["id"] == "boot_vga" for c in cards.values() for o in c["obstacles"]), text
    states = {f["id"]: f["state"] for f in check["findings"]}
    assert states["iommu"] == states["vfio_modules"] == "ok" and states["qemu"] == "missing", states
    assert "rc=1" in result.text  # there is no QEMU inside


def test_kill_9_at_any_step_is_recovered():
    """The program is killed after some step; the next run brings the cards home, or finds them bound."""
    result = bed.run("""
for point in vfio_journal_after:1 vfio_step_started:2 vfio_step_done:5 vfio_step_started:8 vfio_step_done:10 vfio_journal_before:12; do
    KOHAKURIVER_FAULT=$point kohakuriver vfio-switch $J bind vps-1 %s >/dev/null 2>&1
    say KILLED "$? $point"
    recover >/run/out; say STATE "$(drivers 0000:01:00) | $(grep -o '"state":"[a-z_]*"' /run/out)"
done
for point in vfio_step_started:1 vfio_step_done:6 vfio_step_started:9; do
    bind vps-1 %s >/dev/null
    KOHAKURIVER_FAULT=$point kohakuriver vfio-switch $J give-back vps-1 >/dev/null 2>&1
    say KILLED "$? $point"
    recover >/run/out; say STATE "$(drivers 0000:01:00) | $(grep -o '"state":"[a-z_]*"' /run/out)"
done
say LEFT "$(journals)"
""" % (CARD, CARD))
    killed = [line for line in result.lines if line.startswith("KILLED ")]
    states = [line for line in result.lines if line.startswith("STATE ")]
    assert len(killed) == 9 and all(line.startswith("KILLED 137 ") for line in killed), killed
    assert all(line == 'STATE %s | "state":"idle"' % HOME for line in states), states
    assert result.value("LEFT") == "0"


def test_a_write_that_does_not_return_is_stuck_and_noticed_late():
    """A process holds the card through VFIO: the kernel blocks the unbind in its write. That costs a state, not the agent, and
    the cards go home when the process is gone (L70, K11)."""
    result = bed.run("""
bind vps-1 %s >/dev/null
group=$(basename $(readlink $D/%s/iommu_group))
hold $group %s & holder=$!
while [ ! -e /run/held ] && kill -0 $holder; do sleep 0.1; done
export KOHAKURIVER_STEP_DEADLINE_MS=1500
begin=$(now_ms)
echo STUCK; give_back vps-1
say TOOK "$(( $(now_ms) - begin ))"
echo AGAIN; recover
kill -9 $holder; sleep 1
echo LATE; recover
say AFTER "$(drivers 0000:01:00)"
say LEFT "$(journals)"
""" % (CARD, CARD, CARD))
    stuck, again, late = answers(result, "STUCK"), answers(result, "AGAIN"), answers(result, "LATE")
    assert stuck[1]["code"] == "timeout" and "needs a reboot unless it still does" in stuck[1]["error"], stuck
    assert again[0]["recovered"][0]["state"] == "stuck", again
    assert late[0]["recovered"][0]["state"] == "idle", late
    assert result.value("AFTER") == HOME and result.value("LEFT") == "0", result.text
    note("give back of a held card: %s ms until it was called stuck" % result.value("TOOK"))


if __name__ == "__main__":
    main()
