"""A real Docker Engine of the tests' own: its network namespace, its folders, its cgroup; nothing of it stays behind."""
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from pathlib import Path
from urllib.parse import quote

from tap import Skip, wait_until

IMAGE = "kohakuriver-e2e:latest"


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
    def __init__(self, folder, name, hook_dir=None, environment=None):
        """`hook_dir` goes to the front of dockerd's PATH; `environment` reaches the hook."""
        for program in ("dockerd", "ip", "nsenter", "unshare"):
            if not shutil.which(program):
                raise Skip("%s is not installed" % program)
        if os.geteuid() != 0:
            raise Skip("a Docker Engine needs root")
        self.dir, self.name = Path(folder) / name, name
        self.netns = "kr-%d-%s" % (os.getpid(), name)
        self.cgroup = "kr-%d-%s" % (os.getpid(), name)
        self.socket = str(self.dir / "docker.sock")
        self.hook_dir, self.environment = hook_dir, environment or {}
        self.process = self.containerd = None
        self.dir.mkdir(parents=True)
        (self.dir / "daemon.json").write_text("{}")
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        subprocess.run(["ip", "-n", self.netns, "link", "set", "lo", "up"], check=True)

    # ---- the daemon ----

    def spawn(self, command, log_name):
        """A daemon in the engine's network namespace, on a machine of its own name."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        if self.hook_dir:
            path = "%s:%s" % (self.hook_dir, path)
        inside = ["nsenter", "--net=/run/netns/" + self.netns, "unshare", "--uts", "sh", "-c",
                  'echo "$0" > /proc/sys/kernel/hostname; exec "$@"', self.name]
        with open(self.dir / log_name, "ab") as log:
            return subprocess.Popen(inside + command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    env=dict(os.environ, PATH=path, **self.environment), start_new_session=True)

    def start(self):
        """containerd runs beside dockerd, as under systemd: it outlives a dockerd that is killed."""
        address = str(self.dir / "containerd.sock")
        if not self.containerd:
            (self.dir / "containerd.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
            self.containerd = self.spawn(["containerd", "--config", str(self.dir / "containerd.toml"), "--address", address,
                                          "--root", str(self.dir / "containerd"), "--state", str(self.dir / "cstate")],
                                         "containerd.log")
            wait_until("containerd answers", lambda: os.path.exists(address), 20)
        (self.dir / "docker.pid").unlink(missing_ok=True)
        self.process = self.spawn(
            ["dockerd", "-H", "unix://" + self.socket, "--containerd", address, "--data-root", str(self.dir / "data"),
             "--exec-root", str(self.dir / "exec"), "-p", str(self.dir / "docker.pid"),
             "--config-file", str(self.dir / "daemon.json"), "-G", "root", "--storage-driver", "overlay2",
             "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/" + self.cgroup,
             "--bip", "198.18.0.1/24", "--default-address-pool", "base=198.19.0.0/16,size=24",
             "--live-restore", "--shutdown-timeout", "2"], "log")
        wait_until("dockerd %s answers (%s)" % (self.name, self.dir / "log"), self.answers, 40)
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("dockerd ended: " + (self.dir / "log").read_text()[-1500:])
        try:
            return self.call("GET", "/_ping", timeout=2)[0] == 200
        except OSError:
            return False

    def kill(self):
        """kill -9: containers run on (live restore)."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

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
        left = []
        if self.process and self.process.poll() is None:
            try:
                left = ["%s %s" % (c["Names"], c["Status"]) for c in self.containers()]
                for container in self.containers():
                    self.call("DELETE", "/containers/%s?force=1&v=1" % container["Id"])
                self.stop()
            except (OSError, subprocess.TimeoutExpired):
                self.kill()
        if self.containerd and self.containerd.poll() is None:
            self.containerd.terminate()
            self.containerd.wait(10)
        self.kill_leftovers()
        self.unmount()
        subprocess.run(["ip", "netns", "del", self.netns], stderr=subprocess.DEVNULL)
        for folder in Path("/sys/fs/cgroup").glob("*/" + self.cgroup):
            remove_cgroup(folder)
        shutil.rmtree(self.dir, ignore_errors=True)
        return left

    def kill_leftovers(self):
        """Shims that are still there, and what still runs in our cgroup."""
        mark = str(self.dir).encode()
        for pid in [int(p) for p in os.listdir("/proc") if p.isdigit()]:
            if pid != os.getpid() and mark in read_bytes("/proc/%d/cmdline" % pid):
                kill_quietly(pid)
        for procs in Path("/sys/fs/cgroup").glob("*/%s/**/cgroup.procs" % self.cgroup):
            for pid in read_bytes(procs).split():
                kill_quietly(int(pid))
        time.sleep(0.05)

    def unmount(self):
        mounts = re.findall(r"^\S+ (%s\S*)" % re.escape(str(self.dir)), Path("/proc/mounts").read_text(), re.M)
        for mount in sorted(mounts, reverse=True):
            subprocess.run(["umount", "-l", mount], stderr=subprocess.DEVNULL)


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


def remove_cgroup(folder):
    """Empty groups go from the leaves up; one whose last process is just ending takes a moment."""
    for _ in range(100):
        for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True) + [folder]:
            try:
                path.rmdir()
            except OSError:
                pass
        if not folder.exists():
            return
        time.sleep(0.02)
