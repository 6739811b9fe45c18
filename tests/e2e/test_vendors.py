"""Cards of AMD beside NVIDIA's on one node: their device nodes stand below the node's fake root and come into the container
under their real names."""
import os
import stat

from cluster import Cluster, main, skip, wait_until

RENDER, CARD, KFD = "/dev/dri/renderD%d", "/dev/dri/card%d", "/dev/kfd"
GROUP = 44
SEEN = ("sh", "-c", "cd /dev; ls -d dri/* kfd nvidia[0-9]* 2>/dev/null | xargs echo; id -G; echo $NVIDIA_VISIBLE_DEVICES")


def amd_card(n):
    return {"vendor": "amd", "pci": "0000:f%d:00.0" % n, "device": "0x740f", "numa_node": 0, "sysfs": {
        "unique_id": "%016x" % (0xabc0 + n), "product_name": "AMD Instinct MI210", "mem_info_vram_total": "68702699520",
        "mem_info_vram_used": "10485760", "gpu_busy_percent": "0", "hwmon/hwmon4/power1_cap": "300000000",
        "drm/renderD%d/dev" % (128 + n): "226:%d" % (128 + n), "drm/card%d/dev" % n: "226:%d" % n}}


def make_node(root, path, major, minor):
    node = root / path.lstrip("/")
    node.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mknod(node, stat.S_IFCHR | 0o660, os.makedev(major, minor))
        os.chown(node, 0, GROUP)
    except OSError as error:
        skip("device nodes cannot be made here: %s" % error)


def add_amd_node(c):
    node = c.add_node("mixed", start=False)
    node.set_scenario(dict(node.scenario, gpus=node.scenario["gpus"] + [amd_card(0), amd_card(1)]))
    for n in (0, 1):
        make_node(node.root, RENDER % (128 + n), 226, 128 + n)
        make_node(node.root, CARD % n, 226, n)
    make_node(node.root, KFD, 234, 0)
    node.start()
    node.wait_free(0, 1, 2, 3)
    return node


def test_a_container_gets_exactly_the_nodes_of_its_cards():
    with Cluster(nodes=()) as c:
        node = add_amd_node(c)
        amd = [g["index"] for g in node.status()["gpus"] if g["uuid"].startswith("AMD-")]
        nvidia = [g for g in node.status()["gpus"] if g["uuid"].startswith("GPU-")]
        assert amd == [2, 3] and len(nvidia) == 2, node.status()
        assert node.gpu(2)["device_nodes"] == [RENDER % 128, CARD % 0, KFD], node.gpu(2)

        lines = c.run("mixed::3", *SEEN).out.splitlines()
        assert lines[0] == "dri/card1 dri/renderD129 kfd", lines
        assert str(GROUP) in lines[1].split() and lines[2] == "void", lines
        node.wait_free(3)

        lines = c.run("mixed::%d,2" % nvidia[1]["index"], *SEEN).out.splitlines()  # of two vendors
        assert lines[0] == "dri/card0 dri/renderD128 kfd nvidia%d" % nvidia[1]["minor"], lines
        assert c.run("mixed", *SEEN).out.splitlines()[0] == "", "a task without a lease sees a card"

        holder = c.submit("mixed::2", "sleep", "300")
        c.wait_state(holder, "running")
        refused = c.cli("task", "submit", "-t", "mixed::2", "--", "true", code=1)
        assert "held by task %d" % holder in refused.err, refused
        assert c.run("mixed::3", "true").code == 0  # the other card shares /dev/kfd with it
        c.kill_task(holder)
        node.wait_free(0, 1, 2, 3)


def test_memory_that_stays_used_keeps_the_card():
    with Cluster(nodes=()) as c:
        node = add_amd_node(c)
        task = c.submit("mixed::2", "sleep", "300")
        c.wait_state(task, "running")
        used = amd_card(0)["sysfs"]
        node.change_gpu(2, sysfs=dict(used, mem_info_vram_used="9000000000"))
        c.cli("task", "kill", str(task), code=0)
        wait_until("the task says what is left", lambda: "idle memory" in str(c.task(task)))
        assert c.task(task)["holds_lease"] and 2 not in node.free_gpus()
        node.change_gpu(2, sysfs=used)
        c.wait_released(task)
        node.wait_free(2)


if __name__ == "__main__":
    main()
