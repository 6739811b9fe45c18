"""A newer Docker that injects GPUs by CDI device names instead of NVIDIA's hook, beside one that uses the hook."""
import subprocess

from cluster import FAKES, ROOT, Cluster, main, skip


def test_gpus_come_by_cdi_where_the_engine_offers_it():
    fetched = subprocess.run([str(ROOT / "tools" / "dockerd.sh"), "install26"], capture_output=True, text=True, timeout=180)
    if fetched.returncode != 0:
        skip("Docker 26 cannot be fetched here: %s" % fetched.stderr.strip()[-200:])
    with Cluster(nodes=("node2",)) as c:
        engine = c.add_engine("cdi", hook=False, version=26)
        node = c.add_node("modern", engine=engine, start=False)
        # What `nvidia-ctk cdi generate` writes on a machine with a GPU.
        subprocess.run(["/usr/bin/python3", str(FAKES / "simtree.py"), "--cdi", str(node.scenario_file),
                        str(engine.state / "cdi" / "nvidia.json")], check=True)
        node.start()
        assert "CDI" in node.status()["engine_text"].upper(), node.status()
        seen = ("sh", "-c", "cd /dev; echo nvidia[0-9]*")
        minors = [gpu["minor"] for gpu in node.scenario["gpus"]]
        assert c.run("modern::1", *seen).out == "nvidia%d\n" % minors[1]
        assert c.run("modern::0,1", *seen).out == "nvidia%d nvidia%d\n" % tuple(minors)
        assert c.run("modern", *seen).out == "nvidia[0-9]*\n"
        assert c.run("node2::0", *seen).out == "nvidia4\n"
        node.wait_free(0, 1)
        assert not engine.containers()
        # The specification forgets a card: its tasks fail clearly, they do not start without it.
        (engine.state / "cdi" / "nvidia.json").unlink()
        result = c.cli("task", "submit", "-w", "-t", "modern::0", "--", "true")
        assert result.code != 0 and ("GPU" in result.err or "CDI" in result.err), result
        node.wait_free(0)


if __name__ == "__main__":
    main()
