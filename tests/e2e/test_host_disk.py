"""A full disk under the host: submissions are refused, nothing is corrupted, what was known stays known."""
import subprocess
import tempfile
from pathlib import Path

from cluster import Cluster, fill_disk, main, skip, wait_until


def test_a_full_disk_on_the_host_refuses_and_corrupts_nothing():
    disk = Path(tempfile.mkdtemp(prefix="kr-e2e-disk-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]).returncode != 0:
        disk.rmdir()
        skip("no tmpfs can be mounted")
    try:
        with Cluster(nodes=("node2",), host_state_dir=disk / "host") as c:
            known = c.submit("node2::0", "sleep", "300")
            c.wait_state(known, "running")
            fill_disk(disk)
            body = {"targets": ["node2::1"], "command": ["true"], "env": ["X=" + "y" * 50000]}
            answers = [c.api("POST", "/tasks", body) for _ in range(20)]
            refused = [a for a in answers if a[0] != 201]
            assert refused and {a[0] for a in refused} <= {507, 409, 503}, [a[0] for a in answers]
            assert any(a[0] == 507 for a in refused), refused[0]
            assert c.task(known)["state"] == "running"
            held = c["node2"].gpu(0)["holder"]["task_id"]
            assert held == known
            c.host.kill()  # with the disk still full
            (disk / "filler").unlink()
            c.start_host()
            assert c.task(known)["state"] == "running" and c["node2"].gpu(0)["holder"]["task_id"] == known
            c.kill_everything()
            assert c.run("node2::1", "echo", "well again").out == "well again\n"
            check = subprocess.run(["/usr/bin/python3", "-c", "import sqlite3, sys, glob\nfor p in glob.glob(sys.argv[1] + '/*.db*'):\n"
                                    "  if p.endswith(('-wal', '-shm')): continue\n"
                                    "  print(sqlite3.connect('file:%s?mode=ro' % p, uri=True).execute('pragma integrity_check').fetchone()[0])",
                                    str(disk / "host")], capture_output=True, text=True)
            assert check.stdout.strip() == "ok", check
            wait_until("nothing is held", lambda: not c.holders())
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()


if __name__ == "__main__":
    main()
