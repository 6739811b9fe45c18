"""qemu image and qemu disk on a node's store: from files and from URLs (a server on loopback), wrong input, what must not be deleted."""
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from tap import main, skip  # noqa: E402

EXE = str(Path(os.environ.get("KR_BUILD", ROOT / "build-test")).resolve() / "kohakuriver")
folder, images, server = None, None, None


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved.img":
            self.send_response(302)
            self.send_header("Location", "/disk.img")
            self.end_headers()
        elif self.path == "/file.img":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.path == "/disk.img":
            data = (folder / "disk.raw").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        elif self.path == "/cut.img":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


def setup_module():
    global folder, images, server
    if not shutil.which("qemu-img"):
        skip("qemu-img is not installed")
    folder = Path(tempfile.mkdtemp(prefix="kr-images-"))
    images = folder / "vms" / "images"
    (folder / "runner.conf").write_text("[runner]\nvm_dir=%s\n" % (folder / "vms"))
    (folder / "disk.raw").write_bytes(b"KohakuRiver" + bytes((1 << 20) - 11))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def teardown_module():
    if folder:
        server.shutdown()
        shutil.rmtree(folder)


def qemu(*args, code=0):
    done = subprocess.run([EXE, "qemu", *args, "--config", str(folder / "runner.conf")], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == code, (args, done)
    return done


def url(name):
    return "http://127.0.0.1:%d/%s" % (server.server_address[1], name)


def names():
    return sorted(entry.name for entry in images.iterdir())


def test_an_image_comes_from_a_url_and_its_checksum_is_that_of_what_was_fetched():
    good = hashlib.sha256((folder / "disk.raw").read_bytes()).hexdigest()
    qemu("image", "create", "--name", "web", "--from", url("moved.img"), "--sha256", good)
    (image,) = json.loads(qemu("image", "list", "--format", "json").stdout)
    assert image["name"] == "web" and image["virtual_bytes"] == 1 << 20 and image["source"] == url("moved.img"), image
    assert (images / "web" / "disk.qcow2").stat().st_mode & 0o222 == 0


def test_what_is_not_the_image_that_was_meant_leaves_nothing():
    for name, more, words in (("disk.img", ["--sha256", "0" * 64], "checksum"), ("nothere.img", [], "404"), ("cut.img", [], "127.0.0.1"),
                              ("file.img", [], "127.0.0.1")):
        done = qemu("image", "create", "--name", "bad", "--from", url(name), *more, code=1)
        assert words in done.stderr and done.stderr.count("\n") == 1, (name, done)
    assert "no such" in qemu("image", "create", "--name", "bad", "--from", "/no/such/file", code=1).stderr.lower()
    for bad in ("../x", "", "a b", "x" * 64):
        assert qemu("image", "create", "--name", bad, "--from", url("disk.img"), code=1).stderr
    assert qemu("image", "create", "--name", "both", "--from", url("disk.img"), "--debian", code=2).stderr
    assert "already" in qemu("image", "create", "--name", "web", "--from", url("disk.img"), code=1).stderr
    assert names() == ["web"], names()


def test_what_a_killed_import_left_goes_with_the_next_one_a_day_later():
    for name, age_s in ((".new-old", 2 * 86400), (".new-young", 60)):
        (images / name).mkdir()
        (images / name / "disk.part").write_text("half")
        os.utime(images / name, (time.time() - age_s,) * 2)
    qemu("image", "create", "--name", "second", "--from", str(folder / "disk.raw"))
    assert names() == [".new-young", "second", "web"], names()
    assert len(json.loads(qemu("image", "list", "--format", "json").stdout)) == 2


def test_an_image_with_disks_on_it_stays():
    disks = folder / "vms" / "disks"
    (disks / "7.json").write_text(json.dumps({"image": "web", "image_sha256": "0", "mac": "02:00:00:00:00:01", "uuid": "u", "secret": "s", "bytes": 1,
                                              "created_ms": 1}))
    (disks / "7.qcow2").write_text("")
    assert "VPS 7" in qemu("image", "delete", "web", code=1).stderr
    assert "web" in qemu("disk", "list").stdout
    qemu("disk", "delete", "7")
    qemu("image", "delete", "web")
    assert "no image" in qemu("image", "delete", "web", code=1).stderr
    assert names() == [".new-young", "second"]


if __name__ == "__main__":
    main()
