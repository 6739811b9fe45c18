"""A link to a node that can be cut: the runner lives in a network namespace of its own, with one cable (a veth pair) to this
machine. Only what was made here is ever touched; close() removes it, also half made."""
import atexit
import os
import shutil
import subprocess

from tap import Skip

NOWHERE = "02:00:00:00:00:01"  # nobody's address: what is sent there is dropped without a word
count = 0


def ip(*args, check=True):
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    assert not check or done.returncode == 0, "ip %s: %s" % (" ".join(args), done.stderr.strip())
    return done.stdout


def free_net():
    """Four addresses of the benchmarking range (RFC 2544), above those of tools/dockerd.sh, that are nobody's here."""
    taken = ip("-4", "-o", "address")
    for n in range(os.getpid() * 7, os.getpid() * 7 + 4096):
        net = "198.18.%d.%d" % (128 + n % 4096 // 32, n % 32 * 8)
        if " %s." % net.rsplit(".", 1)[0] not in taken:
            return net.rsplit(".", 1)[0], int(net.rsplit(".", 1)[1])
    raise Skip("no free addresses")


class Cable:
    def __init__(self):
        global count
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nsenter"):
            raise Skip("a network namespace needs root, ip and nsenter")
        count += 1
        self.name = "kr%d-%d" % (os.getpid(), count)  # of the namespace and of our end of the cable: 15 bytes at most
        net, first = free_net()
        self.host, self.node = "%s.%d" % (net, first + 1), "%s.%d" % (net, first + 2)
        atexit.register(self.close)
        try:
            self._lay()
        except BaseException:
            self.close()
            raise

    def _lay(self):
        ip("netns", "add", self.name)
        ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("address", "add", self.host + "/30", "dev", self.name)
        ip("link", "set", self.name, "up")
        for args in (("address", "add", self.node + "/30", "dev", "eth0"), ("link", "set", "lo", "up"),
                     ("link", "set", "eth0", "up")):
            ip("-n", self.name, *args)
        self.prefix = ["nsenter", "--net=/run/netns/" + self.name]

    def route(self, address):
        """The node reaches this address of ours through this cable."""
        if address != self.host:
            ip("-n", self.name, "route", "replace", address, "via", self.host)

    def pull(self):
        """The node's end loses its link, as when somebody pulls the plug."""
        ip("-n", self.name, "link", "set", "eth0", "down")

    def plug(self):
        ip("-n", self.name, "link", "set", "eth0", "up")

    def swallow(self):
        """Each packet is lost, both ways, and nobody is told: links and routes stay as they are."""
        ip("neighbour", "replace", self.node, "lladdr", NOWHERE, "dev", self.name, "nud", "permanent")
        ip("-n", self.name, "neighbour", "replace", self.host, "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")

    def pass_on(self):
        ip("neighbour", "del", self.node, "dev", self.name)
        ip("-n", self.name, "neighbour", "del", self.host, "dev", "eth0")

    def close(self):
        ip("link", "del", self.name, check=False)
        ip("netns", "del", self.name, check=False)
