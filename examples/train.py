#!/usr/bin/python3
"""A training job in miniature: says which GPUs it was given, then does its steps.

usage: train.py [--steps N] [--seconds-per-step S]

It needs nothing but Python. It works with simulated GPUs too, whose device nodes exist and cannot be opened.
"""
import argparse
import errno
import glob
import os
import platform
import random
import re
import signal
import stat
import sys
import time

SHOWN_ENVIRONMENT = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


def gpu_nodes():
    """The device nodes of cards in this container: [(path, major, minor)], ordered by number."""
    nodes = []
    for path in glob.glob("/dev/nvidia[0-9]*"):
        status = os.stat(path)
        if re.fullmatch(r"/dev/nvidia\d+", path) and stat.S_ISCHR(status.st_mode):
            nodes.append((path, os.major(status.st_rdev), os.minor(status.st_rdev)))
    return sorted(nodes, key=lambda node: node[2])


def try_to_open(path):
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return "opens"
    except OSError as why:
        if why.errno in (errno.ENXIO, errno.ENODEV):
            return "is there, but no driver answers (simulated GPU)"
        return "cannot be opened: " + why.strerror


def show_surroundings():
    print("python %s, pid %d, CPUs %s" % (platform.python_version(), os.getpid(), sorted(os.sched_getaffinity(0))))
    for name in SHOWN_ENVIRONMENT:
        print("%s=%s" % (name, os.environ.get(name, "(not set)")))
    nodes = gpu_nodes()
    print("GPUs I can see: %d" % len(nodes))
    for path, major, minor in nodes:
        print("  %s (%d:%d) %s" % (path, major, minor, try_to_open(path)))
    return nodes


def train(steps, seconds_per_step):
    """Fits y = w x + b to noisy points by gradient descent, so that the loss is a real one."""
    chance = random.Random(7)
    points = [(x / 50, 3 * x / 50 - 1 + chance.gauss(0, 0.05)) for x in range(100)]
    w = b = 0.0
    for step in range(1, steps + 1):
        errors = [(w * x + b - y, x) for x, y in points]
        w -= 0.3 * 2 * sum(e * x for e, x in errors) / len(points)
        b -= 0.3 * 2 * sum(e for e, x in errors) / len(points)
        print("step %d/%d  loss %.4f" % (step, steps, sum(e * e for e, _ in errors) / len(points)))
        time.sleep(seconds_per_step)
    print("done: w %.2f, b %.2f" % (w, b))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seconds-per-step", type=float, default=0.2)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    show_surroundings()
    train(options.steps, options.seconds_per_step)


if __name__ == "__main__":
    main()
