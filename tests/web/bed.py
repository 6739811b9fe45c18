#!/usr/bin/python3
"""A cluster for the tests of the dashboard: host, runners with simulated cards, a Docker Engine. Orders come as lines of JSON
on stdin, {"do": NAME, "args": […], "with": {…}}; each is answered by one line, {"result": …} or {"error": TEXT}. Ends with its
stdin."""
import json
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from cluster import Cluster, Skip, wait_until  # noqa: E402


class Bed:
    def __init__(self):
        self.c = Cluster()

    def url(self):
        return self.c.url

    def submit(self, target, *command, options=()):
        return self.c.submit(target, *command, options=options)

    def wait_state(self, task_id, *states):
        return self.c.wait_state(task_id, *states)["state"]

    def wait_released(self, task_id):
        return self.c.wait_released(task_id)["state"]

    def kill_everything(self):
        self.c.kill_everything()
        for node in self.c.nodes.values():
            if node.daemon.is_running():
                wait_until("every card of %s is free" % node.name, lambda node=node: all(
                    gpu["free"] or gpu["health"] != "ok" or gpu.get("cordon") for gpu in node.status()["gpus"]), 30)

    def change_gpu(self, node, place, **changes):
        self.c[node].change_gpu(place, **changes)

    def wait_free(self, node, *indices):
        self.c[node].wait_free(*indices)

    def add_node(self, name):
        self.c.add_node(name)

    def host_kill(self):
        self.c.host.kill()

    def host_start(self):
        self.c.start_host()

    def runner_kill(self, node):
        self.c[node].daemon.kill()

    def runner_start(self, node):
        self.c[node].start()

    def cli(self, *args):
        return self.c.cli(*args).out


def answer(text):
    sys.stdout.write(json.dumps(text) + "\n")
    sys.stdout.flush()


def main():
    out, sys.stdout = sys.stdout, sys.stderr  # notes of the harness are no answers
    try:
        bed = Bed()
    except Skip as why:
        sys.stdout = out
        answer({"skip": str(why)})
        return
    sys.stdout = out
    answer({"result": bed.url()})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer({"result": getattr(bed, order["do"])(*order.get("args", []), **order.get("with", {}))})
        except BaseException as why:  # told to whoever asked; the bed goes on
            traceback.print_exc()
            answer({"error": "%s: %s" % (order["do"], str(why)[-3000:])})
    bed.c.destroy(check=False)


if __name__ == "__main__":
    main()
