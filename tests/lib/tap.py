"""A test harness of one file: functions named test_* in a module, run in order, reported as TAP.

    from tap import main, skip
    def test_something(): assert 1 + 1 == 2, "what went wrong"
    if __name__ == "__main__": main()

`main` takes optional fragments of names on the command line and runs only the tests that contain one of them. A module
may define setup_module() and teardown_module(); when the set-up raises Skip, every test of the module is skipped.
"""
import os
import sys
import time
import traceback


class Skip(Exception):
    """Raised by a test that cannot run here; the text is the reason."""


def skip(reason):
    raise Skip(reason)


def note(text):
    """A line of diagnosis that is no result."""
    for line in str(text).rstrip("\n").split("\n"):
        print("# " + line, flush=True)


def wait_until(what, check, timeout_s=30.0, interval_s=0.05):
    """Returns check()'s first true value; fails with `what` (text or callable) after timeout_s."""
    end = time.monotonic() + timeout_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("waited %.0f s in vain: %s" % (timeout_s, what() if callable(what) else what))
        time.sleep(interval_s)


def _run_one(number, name, function, setup_skip):
    begin = time.monotonic()
    title = name[len("test_"):].replace("_", " ")
    try:
        if setup_skip:
            raise Skip(setup_skip)
        function()
        note("%.2f s" % (time.monotonic() - begin))
        print("ok %d - %s" % (number, title), flush=True)
        return True
    except Skip as why:
        print("ok %d - %s # SKIP %s" % (number, title, why), flush=True)
        return True
    except BaseException as why:  # also SystemExit from a helper: a test must not end the run
        print("not ok %d - %s" % (number, title), flush=True)
        note("".join(traceback.format_exception(why))[-6000:])
        if isinstance(why, KeyboardInterrupt):
            raise
        return False


def main():
    module = sys.modules["__main__"]
    tests = [(n, f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    wanted = sys.argv[1:] or [p for p in os.environ.get("TEST_NAMES", "").split(",") if p]
    if wanted:
        tests = [(n, f) for n, f in tests if any(w in n for w in wanted)]
    print("1..%d" % len(tests), flush=True)
    ok, setup_skip = True, None
    try:
        if tests and hasattr(module, "setup_module"):
            try:
                module.setup_module()
            except Skip as why:
                setup_skip = str(why)
        for number, (name, function) in enumerate(tests, 1):
            ok = _run_one(number, name, function, setup_skip) and ok
    finally:
        if tests and hasattr(module, "teardown_module"):
            module.teardown_module()
    sys.exit(0 if ok else 1)
