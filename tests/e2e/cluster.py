"""A whole cluster on this machine: a host, runners with simulated GPUs, real Docker Engines. All of it lives in one
temporary folder and ends with the test.

    with Cluster() as c:                      # nodes mynode (4 GPUs, 2 NUMA nodes) and node2 (2 GPUs), one engine
        c.run("mynode::0", "true")
"""
import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "lib"), str(HERE)]
from engine import IMAGE, Engine, kill_quietly, read_bytes  # noqa: E402
from tap import Skip, main, note, skip, wait_until  # noqa: E402,F401

BUILD = Path(os.environ.get("KR_BUILD", ROOT / "build-test")).resolve()
EXE = str(BUILD / "kohakuriver")
FAKES = ROOT / "tests" / "fakes"
NVML, NVML_OLD = (BUILD / "tests" / "fakes" / d / "libnvidia-ml.so.1" for d in ("nvml", "nvml_old"))
HOOK_DIR = BUILD / "tests" / "fakes" / "hook"

HEARTBEAT_MS, OFFLINE_MS = 300, 2500
N_EXTRA_NODES = 8
TERMINAL = ("completed", "failed", "killed")
live_clusters = []


def _end_all():
    for cluster in list(live_clusters):
        cluster.destroy(check=False)


atexit.register(_end_all)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port(address):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def fill_disk(folder):
    """Writes folder/filler until nothing fits any more."""
    with open(folder / "filler", "wb", buffering=0) as filler:
        for size in (65536, 4096, 1):
            try:
                while filler.write(b"x" * size) == size:
                    pass
            except OSError:
                pass


class Result:
    def __init__(self, args, code, out, err):
        self.args, self.code, self.raw_out, self.raw_err = args, code, out, err
        self.out, self.err = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def __repr__(self):
        return "%s\nexit %s\nstdout: %s\nstderr: %s" % (" ".join(map(repr, self.args))[:300], self.code, self.out[-1500:],
                                                       self.err[-1500:])


class Daemon:
    """A process of ours with a log file."""

    def __init__(self, name, command, log, environment=None):
        self.name, self.command, self.log = name, command, log
        self.environment = environment or {}
        self.process = None

    def start(self, **environment):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=dict(os.environ, **self.environment, **environment), start_new_session=True)
        return self

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9, as a power cut would end it."""
        if self.is_running():
            self.process.kill()
        self.process.wait()

    def stop(self):
        """Asks it to end. Returns its exit status; -9 when it had to be forced."""
        if self.is_running():
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return "forced"
        return self.process.returncode if self.process else 0

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def tail(self, n=3000):
        return read_bytes(self.log)[-n:].decode("utf-8", "replace")


class Node:
    """A runner and the simulated machine that it sees."""

    def __init__(self, cluster, name, scenario, engine, **options):
        self.cluster, self.name, self.engine = cluster, name, engine
        self.dir = cluster.dir / ("node-" + re.sub(r"\W", "_", name))
        self.dir.mkdir()
        self.scenario_file = self.dir / "scenario.json"
        self.root = self.dir / "root"
        self.state_dir = Path(options.pop("state_dir", self.dir / "state"))
        self.prefix = options.pop("prefix", [])  # runs the runner somewhere else, as `nsenter --net=…` does
        self.set_scenario(scenario)
        self.options = {
            "host-url": cluster.url, "node-name": name, "state-dir": self.state_dir,
            "join-token-file": cluster.token_file, "docker-socket": engine.socket if engine else "/nonexistent/docker.sock",
            "default-image": IMAGE, "nvml-library": NVML, "sysfs-root": self.root, "gpu-interval-ms": 200,
            "gpu-slow-interval-ms": 400, "gpu-health-interval-ms": 400,
            "stop-grace-ms": 1500, "drain-timeout-ms": 4000,
        }
        self.options.update({k.replace("_", "-"): v for k, v in options.items()})
        self.daemon = Daemon(name, self.command(), self.dir / "log", {"KOHAKURIVER_FAKE_NVML": str(self.scenario_file)})

    def command(self):
        return self.prefix + [EXE, "runner"] + ["--%s=%s" % item for item in self.options.items()]

    # ---- the machine ----

    def set_scenario(self, scenario):
        """Writes the scenario and brings the fake PCI tree up to date."""
        self.scenario = scenario
        part = self.scenario_file.with_suffix(".part")
        part.write_text(json.dumps(scenario, indent=1))
        part.rename(self.scenario_file)
        subprocess.run(["/usr/bin/python3", str(FAKES / "simtree.py"), str(self.scenario_file), str(self.root)], check=True)

    def change_gpu(self, place, **changes):
        """Changes the card that stands at this place of the scenario (not its index on the node)."""
        scenario = json.loads(json.dumps(self.scenario))
        scenario["gpus"][place].update(changes)
        self.set_scenario(scenario)

    def set_faults(self, **faults):
        self.set_scenario(dict(self.scenario, faults=faults))

    # ---- the runner ----

    def start(self, wait=True, **environment):
        self.daemon.command = self.command()
        self.since_ms = time.time() * 1000
        self.daemon.start(**environment)
        if wait:
            self.wait_online()
        return self

    def wait_online(self):
        wait_until(lambda: "%s is online; its log: %s" % (self.name, self.daemon.tail()), self.is_online, 40)
        self.wait_settled()

    def is_online(self):
        """The host has heard the process that runs now: one that was killed counts as online for a while."""
        if not self.daemon.is_running():
            raise AssertionError("runner %s ended: %s" % (self.name, self.daemon.tail()))
        status = self.status()
        return bool(status and status["online"] and status["last_seen_ms"] >= self.since_ms)

    def status(self):
        """GET /nodes/NAME, None while the host does not know it."""
        code, answer = self.cluster.api("GET", "/nodes/" + self.name)
        return answer.get("node", answer) if code == 200 and isinstance(answer, dict) else None

    def gpu(self, index):
        return next(g for g in self.status()["gpus"] if g["index"] == index)

    def free_gpus(self):
        return [g["index"] for g in self.status()["gpus"] if g["free"]]

    def wait_settled(self, timeout=5):
        """Until each card has been judged, or for a while: there are cards that nobody can judge."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            status = self.status()
            if status and status["gpus"] and all(gpu["state"] != "unknown" for gpu in status["gpus"]):
                return
            time.sleep(0.05)

    def wait_free(self, *indices, timeout=30):
        wait_until(lambda: "GPUs %s of %s are free: %r" % (indices, self.name, self.status()),
                   lambda: set(indices) <= set(self.free_gpus()), timeout)


def scenario(name):
    return json.loads((FAKES / "scenarios" / (name + ".json")).read_text())


class Cluster:
    def __init__(self, nodes=("mynode", "node2"), engine=True, hook=True, host_state_dir=None, address="127.0.0.1",
                 listen_address=None, **host_options):
        """listen_address: where the host listens, when that is more than the address at which it is asked."""
        for needed in (EXE, NVML, HOOK_DIR / "nvidia-container-runtime-hook", FAKES / "simtree.py"):
            if not Path(needed).exists():
                raise Skip("%s is not built" % needed)
        self.dir = Path(tempfile.mkdtemp(prefix="kr-e2e-", dir="/tmp"))
        live_clusters.append(self)
        self.nodes, self.engines, self.engine = {}, [], None
        self.extra = [self.make_extra_scenario(n) for n in range(N_EXTRA_NODES)]
        self.address, self.port = address, free_port(address)
        self.url = "http://%s:%d" % (address, self.port)
        self.host_state_dir = Path(host_state_dir or self.dir / "host")
        self.token_file = self.host_state_dir / "join-token"
        options = {"listen": "%s:%d" % (listen_address or address, self.port), "state-dir": self.host_state_dir, "heartbeat-ms": HEARTBEAT_MS,
                   "offline-after-ms": OFFLINE_MS}
        options.update({k.replace("_", "-"): v for k, v in host_options.items()})
        self.host = Daemon("host", [EXE, "host"] + ["--%s=%s" % item for item in options.items()], self.dir / "host.log")
        try:
            self._start(nodes, engine, hook)
        except BaseException:
            self.show_logs()
            self.destroy(check=False)
            raise

    def _start(self, nodes, engine, hook):
        self.start_host()
        if engine:
            self.engine = self.add_engine("engine", hook)
        for name in nodes:
            self.add_node(name, start=False)
            self.nodes[name].start(wait=False)
        for name in nodes:
            self.nodes[name].wait_online()

    def make_extra_scenario(self, n):
        """Cards of their own for a node that a test adds: no two nodes can have the same card."""
        data = scenario("node2")
        for i, gpu in enumerate(data["gpus"]):
            gpu.update(uuid="GPU-e%07d-0000-0000-0000-%012d" % (n, i), minor=16 + 2 * n + i)
        path = self.dir / ("extra-%d.json" % n)
        path.write_text(json.dumps(data))
        return path

    def start_host(self, wait_nodes=True, **environment):
        """Returns when it answers and has heard every runner that runs: until then it refuses what is for their nodes."""
        self.host.start(**environment)
        wait_until(lambda: "the host answers; its log: " + self.host.tail(), self.host_answers, 30)
        for node in self.nodes.values():
            if wait_nodes and node.daemon.is_running():
                node.wait_online()

    def host_answers(self):
        if not self.host.is_running():
            raise AssertionError("the host ended: " + self.host.tail())
        try:
            return self.api("GET", "/version")[0] == 200
        except OSError:
            return False

    def add_engine(self, name, hook=True, version=None):
        engine = Engine(self.dir, name, HOOK_DIR if hook else None,
                        [FAKES / "scenarios" / (n + ".json") for n in ("mynode", "node2")] + self.extra, version)
        self.engines.append(engine)
        engine.start()
        engine.import_image()
        return engine

    def add_node(self, name, start=True, engine="shared", **options):
        """mynode and node2 are what tests/fakes/scenarios says; any other name gets two cards of its own."""
        known = FAKES / "scenarios" / (name + ".json")
        data = scenario(name) if known.exists() else json.loads(self.extra.pop().read_text())
        node = Node(self, name, data, self.engine if engine == "shared" else engine, **options)
        self.nodes[name] = node
        return node.start() if start else node

    def __getitem__(self, name):
        return self.nodes[name]

    # ---- using it ----

    def cli(self, *args, timeout=60, env=None, code=None):
        """Runs the command line. `code`: what it must exit with."""
        environment = dict(os.environ, KOHAKURIVER_HOST=self.url, **(env or {}))
        done = subprocess.run([EXE, *map(os.fsencode, args)], capture_output=True, stdin=subprocess.DEVNULL, env=environment,
                              timeout=timeout)
        result = Result(args, done.returncode, done.stdout, done.stderr)
        assert code is None or result.code == code, "expected exit %d: %r" % (code, result)
        return result

    def popen(self, *args):
        return subprocess.Popen([EXE, *map(os.fsencode, args)], env=dict(os.environ, KOHAKURIVER_HOST=self.url),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, target, *command, options=(), code=0, timeout=60):
        """task submit -w: the result of a command in a container."""
        where = ("-t", target) if target else ()
        return self.cli("task", "submit", "-w", *where, *options, "--", *command, code=code, timeout=timeout)

    def submit(self, target, *command, options=()):
        """task submit -q: the new task's id."""
        where = ("-t", target) if target else ()
        return int(self.cli("task", "submit", "-q", *where, *options, "--", *command, code=0).out)

    def api(self, method, path, body=None, headers=None, timeout=30):
        """-> (status, parsed JSON or text)"""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        try:
            connection.request(method, "/api/v1" + path, data,
                               headers if headers is not None else {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text.decode("utf-8", "replace")

    def task(self, task_id):
        status, task = self.api("GET", "/tasks/%d" % task_id)
        assert status == 200, task
        return task

    def tasks(self):
        return self.api("GET", "/tasks?limit=1000")[1]["tasks"]

    def wait_state(self, task_id, *states, timeout=40):
        return wait_until(lambda: "task %d is %s: %r" % (task_id, " or ".join(states), self.task(task_id)),
                          lambda: (t := self.task(task_id))["state"] in states and t, timeout)

    def wait_released(self, task_id, timeout=40):
        return wait_until(lambda: "task %d is over and released: %r" % (task_id, self.task(task_id)),
                          lambda: not (t := self.task(task_id))["holds_lease"] and t, timeout)

    def kill_task(self, task_id):
        self.cli("task", "kill", str(task_id))
        return self.wait_released(task_id)

    def kill_everything(self):
        """Between tests: nothing runs, everything is free."""
        for task in self.tasks():
            if task["state"] not in TERMINAL:
                self.cli("task", "kill", str(task["id"]))
        for task in self.tasks():
            if task["holds_lease"]:
                self.wait_released(task["id"])

    def holders(self):
        """{(node, gpu index): task id} of everything that is held."""
        held = {}
        for name, node in self.nodes.items():
            for gpu in (node.status() or {"gpus": []})["gpus"]:
                if gpu.get("holder"):
                    held[(name, gpu["index"])] = gpu["holder"]["task_id"]
        return held

    # ---- the end ----

    def show_logs(self):
        for daemon in [self.host] + [n.daemon for n in self.nodes.values()]:
            note("---- log of %s\n%s" % (daemon.name, daemon.tail(2500)))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.show_logs()
        self.destroy(check=kind is None)

    def destroy(self, check=True):
        """Ends everything. With `check`: fails when a daemon did not end well or something was left over."""
        if self not in live_clusters:
            return
        live_clusters.remove(self)
        problems = []
        for daemon in [n.daemon for n in self.nodes.values()] + [self.host]:
            status = daemon.stop()
            if status not in (0, -signal.SIGKILL):  # -9: a test killed it
                problems.append("%s ended with %s: %s" % (daemon.name, status, daemon.tail(1500)))
        for engine in self.engines:
            problems += ["left of an engine: " + what for what in engine.destroy()]
        problems += self.leftovers()
        for pid in self.own_processes():
            kill_quietly(pid)
        for line in sorted(Path("/proc/mounts").read_text().splitlines(), reverse=True):
            if str(self.dir) in line.split()[1]:
                subprocess.run(["umount", "-l", line.split()[1]], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)
        assert not check or not problems, "\n".join(problems)

    def own_processes(self):
        mark = str(self.dir).encode()
        return [int(p) for p in os.listdir("/proc")
                if p.isdigit() and int(p) != os.getpid() and mark in read_bytes("/proc/%s/cmdline" % p)]

    def leftovers(self):
        """Processes and mounts of this cluster that are still there."""
        end = time.monotonic() + 3
        while self.own_processes() and time.monotonic() < end:
            time.sleep(0.05)
        left = ["process left: %d %s" % (pid, read_bytes("/proc/%d/cmdline" % pid).replace(b"\0", b" ").decode()[:200])
                for pid in self.own_processes()]
        left += ["mount left: " + line for line in Path("/proc/mounts").read_text().splitlines() if str(self.dir) in line]
        return left
