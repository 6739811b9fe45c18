"""A real Docker Engine of the tests' own: its network namespace, its folders, its cgroup; nothing of it stays behind."""
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import quote

from tap import Skip, wait_until

IMAGE = "kohakuriver-e2e:latest"
DOCKERD = Path(__file__).resolve().parent.parent.parent / "tools" / "dockerd.sh"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("docker", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def busybox_tar():
    """A root file system of one static program and its names."""
    busybox = "/bin/busybox"
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for folder in ("bin", "dev", "proc", "sys", "tmp", "etc", "root"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(info)
        tar.add(busybox, "bin/busybox")
        for name in names:
            if name != "busybox":
                info = tarfile.TarInfo("bin/" + name)
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(info)
    return data.getvalue()


class Engine:
    """An engine that tools/dockerd.sh runs, with the GPU hook in front of its PATH unless hook_dir is None."""

    def __init__(self, folder, name, hook_dir=None, scenarios=(), version=None):
        for program in ("dockerd", "ip", "nsenter", "unshare"):
            if not shutil.which(program):
                raise Skip("%s is not installed" % program)
        if os.geteuid() != 0:
            raise Skip("a Docker Engine needs root")
        self.folder, self.name, self.hook_dir, self.scenarios = Path(folder) / "dk", name, hook_dir, scenarios
        self.version = version  # 26: the newer Docker that dockerd.sh fetches
        self.state = self.folder / name
        self.tag = "kr-%s-%s" % (hashlib.md5(str(self.folder).encode()).hexdigest()[:6], name)  # as dockerd.sh names things
        self.socket = self.tool("socket")

    # ---- the daemon ----

    def tool(self, verb):
        environment = dict(os.environ, KOHAKURIVER_DK=str(self.folder), HOOK=str(self.hook_dir or ""),
                           SCENARIOS=":".join(map(str, self.scenarios)), ASAN_OPTIONS="detect_leaks=0")  # for the hook
        if self.version:
            environment["ENGINE"] = str(self.version)
        done = subprocess.run([str(DOCKERD), verb, self.name], capture_output=True, text=True, env=environment, timeout=90)
        assert done.returncode == 0, "dockerd.sh %s %s: %s" % (verb, self.name, done.stderr[-1500:])
        return done.stdout.strip()

    def start(self):
        """Also after kill() and stop()."""
        self.tool("start")
        return self

    def answers(self):
        try:
            return self.call("GET", "/_ping", timeout=2)[0] == 200
        except OSError:
            return False

    def kill(self):
        """kill -9 of dockerd: containers run on."""
        self.tool("crash")

    def stop(self):
        """As `systemctl stop docker` does: containers run on (live restore)."""
        os.kill(int((self.state / "dockerd.pid").read_text()), signal.SIGTERM)
        wait_until("dockerd has ended", lambda: not self.answers() and not (self.state / "dockerd.pid").exists(), 30)

    # ---- its API ----

    def call(self, method, path, body=None, timeout=30, content_type="application/json"):
        """-> (status, parsed JSON or text)"""
        connection = UnixConnection(self.socket, timeout)
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        try:
            connection.request(method, path, data, {"Content-Type": content_type} if data else {})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text.decode("utf-8", "replace")

    def import_image(self, tar=None, name=IMAGE):
        repo, tag = name.split(":")
        status, text = self.call("POST", "/images/create?fromSrc=-&repo=%s&tag=%s&changes=%s"
                                 % (repo, tag, quote("ENV PATH=/bin")), tar or busybox_tar(), 60, "application/x-tar")
        assert status == 200, text

    def containers(self):
        return self.call("GET", "/containers/json?all=1")[1]

    def container_of(self, task_id):
        """inspect() of the task's container, None when it has none."""
        for container in self.containers():
            if any(value == str(task_id) and "task" in key for key, value in container["Labels"].items()):
                return self.call("GET", "/containers/%s/json" % container["Id"])[1]
        return None

    # ---- the end ----

    def destroy(self):
        """Removes everything. Returns what a well-behaved cluster would not have left: containers."""
        left = ["%s %s" % (c["Names"], c["Status"]) for c in self.containers()] if self.answers() else []
        self.tool("stop")
        left += ["network namespace " + self.tag] if os.path.exists("/run/netns/" + self.tag) else []
        return left + ["cgroup %s" % p for p in Path("/sys/fs/cgroup").glob("*/" + self.tag)]


def read_bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def kill_quietly(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
