#!/usr/bin/python3
"""Runs every suite and ends with one line: N passed, N failed, N skipped.

A suite is a list of programs that speak TAP on stdout; each has a deadline. Failures are shown with the program's whole
output, skips with their reasons. Exit status 1 when anything failed.
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULT = re.compile(r"^(not )?ok\b\s*(\d+)?\s*-?\s*(.*)$")
DIRECTIVE = re.compile(r"#\s*(SKIP|TODO)\b\S*\s*(.*)$", re.IGNORECASE)


class Program:
    """One TAP program: what to run and how long it may take."""

    def __init__(self, suite, name, argv, timeout_s, plain=False, skip=None):
        self.suite, self.name, self.argv, self.timeout_s = suite, name, argv, timeout_s
        self.plain = plain  # no TAP: exit status 0 is one passed test
        self.skip = skip  # a reason why it cannot run here


class Outcome:
    def __init__(self):
        self.passed, self.failed, self.skipped, self.seconds = 0, [], [], 0.0


def executables(folder, pattern):
    return sorted(p for p in folder.glob(pattern) if p.is_file() and os.access(p, os.X_OK) and not p.suffix)


def python_tests(folder):
    return sorted(folder.glob("test_*.py"))


def find_programs(options):
    build = options.build
    programs = []
    for exe in executables(build / "tests" / "unit", "test_*"):
        if exe.name == "test_docker":  # run by tests/e2e/test_docker_backend.py
            continue
        programs.append(Program("unit", exe.name, [str(exe), "--tap", "-k"], 180))
    for exe in executables(build / "tests" / "sim", "sim_*"):
        programs.append(Program("sim", exe.name, [str(exe), "--tap", "-k"], 420))
    for script in python_tests(ROOT / "tests" / "cli"):
        programs.append(Program("cli", script.name, ["/usr/bin/python3", str(script)], 180))
    for script in python_tests(ROOT / "tests" / "e2e"):
        programs.append(Program("e2e", script.name, ["/usr/bin/python3", str(script)], 420))
    for what, timeout_s in (("unit", 180), ("browser", 480)):
        programs.append(Program("web", what, ["/usr/bin/python3", str(ROOT / "tests" / "web" / "run.py"), what], timeout_s))
    for script in python_tests(ROOT / "tests" / "gpu"):
        programs.append(Program("gpu", script.name, ["/usr/bin/python3", str(script)], 180))
    for script in python_tests(ROOT / "tests" / "vm"):
        programs.append(Program("vm", script.name, ["/usr/bin/python3", str(script)], 2400))
    for exe in executables(build / "tests" / "fuzz", "fuzz_*"):
        corpus = ROOT / "tests" / "fuzz" / "corpus" / exe.name[len("fuzz_"):]
        new_finds = build / "tests" / "fuzz" / ("found_" + exe.name)
        new_finds.mkdir(exist_ok=True)
        folders = [str(new_finds), str(corpus)] if is_libfuzzer(exe) else [str(corpus)]
        argv = [str(exe), "-max_total_time=%d" % options.fuzz_seconds, "-timeout=10", "-rss_limit_mb=2048"]
        programs.append(Program("fuzz", exe.name, argv + folders, options.fuzz_seconds + 120, plain=True))
    lint = ROOT / "tools" / "lint.sh"
    missing = None if lint.exists() else "tools/lint.sh is not there"
    programs.append(Program("lint", "lint", [str(lint)], 1800, plain=True, skip=missing))
    return programs


def is_libfuzzer(exe):
    return b"libFuzzer" in exe.read_bytes()


def run(program, environment):
    """Returns (exit status or None when it ran out of time, output)."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(program.argv, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                 cwd=ROOT, env=environment, start_new_session=True)
        try:
            status = child.wait(program.timeout_s)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as why:
            # SIGTERM first: the end-to-end harness tidies up on it.
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            if isinstance(why, KeyboardInterrupt):
                raise
            status = None
        out.seek(0)
        return status, out.read().decode("utf-8", "replace")


def read_tap(text):
    """-> planned (None without a plan), [(ok, title, skip reason or None)], bail-out text or None"""
    planned, results, bail = None, [], None
    for line in text.splitlines():
        if re.match(r"^1\.\.\d+", line):
            planned = int(line[3:].split()[0])
            if planned == 0 and "skip" in line.lower():
                results.append((True, "all", line.partition("#")[2].strip() or "no reason given"))
                planned = 1
        elif line.startswith("Bail out!"):
            bail = line
        else:
            match = RESULT.match(line)
            if match:
                title, skip = match.group(3), None
                directive = DIRECTIVE.search(title)
                if directive:
                    skip = directive.group(2) or "no reason given"
                    title = title[:directive.start()].strip()
                results.append((not match.group(1), title, skip))
    return planned, results, bail


def judge(program, status, text, outcome):
    """Adds the program's results to the outcome; true when all went well."""
    before = len(outcome.failed)
    if program.plain:
        if status == 0:
            outcome.passed += 1
        else:
            outcome.failed.append("%s: %s" % (program.name, how_it_ended(program, status)))
        return status == 0
    planned, results, bail = read_tap(text)
    for ok, title, skip in results:
        if skip is not None:
            outcome.skipped.append("%s: %s: %s" % (program.name, title, skip))
        elif ok:
            outcome.passed += 1
        else:
            outcome.failed.append("%s: %s" % (program.name, title))
    if status is None or bail or (status != 0 and len(outcome.failed) == before):
        outcome.failed.append("%s: %s" % (program.name, bail or how_it_ended(program, status)))
    elif planned is None:
        outcome.failed.append("%s: said no plan (1..N)" % program.name)
    elif planned != len(results):
        outcome.failed.append("%s: announced %d tests and reported %d" % (program.name, planned, len(results)))
    return len(outcome.failed) == before


def how_it_ended(program, status):
    if status is None:
        return "not done after %d s" % program.timeout_s
    if status < 0:
        return "ended by signal %d (%s)" % (-status, signal.strsignal(-status))
    return "exit status %d" % status


def run_all(programs, options):
    environment = dict(os.environ, KR_BUILD=str(options.build), G_DEBUG="fatal-criticals",
                       ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:" + os.environ.get("ASAN_OPTIONS", ""),
                       UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:" + os.environ.get("UBSAN_OPTIONS", ""))
    if options.name:
        environment["TEST_NAMES"] = options.name
    outcomes = {}
    for program in programs:
        outcome = outcomes.setdefault(program.suite, Outcome())
        if program.skip:
            outcome.skipped.append("%s: %s" % (program.name, program.skip))
            continue
        print("%-5s %-28s " % (program.suite, program.name), end="", flush=True)
        begin = time.monotonic()
        status, text = run(program, environment)
        seconds = time.monotonic() - begin
        outcome.seconds += seconds
        ok = judge(program, status, text, outcome)
        print("%s %6.1f s" % ("ok    " if ok else "FAILED", seconds), flush=True)
        if options.verbose or not ok:
            print("".join("    | %s\n" % line for line in text.splitlines()[-400:]), end="", flush=True)
    return outcomes


def report(outcomes):
    for suite, outcome in outcomes.items():
        for line in outcome.skipped:
            print("skipped: %s/%s" % (suite, line))
    for suite, outcome in outcomes.items():
        for line in outcome.failed:
            print("failed:  %s/%s" % (suite, line))
    print("\n%-8s %8s %8s %8s %9s" % ("suite", "passed", "failed", "skipped", "seconds"))
    for suite, o in outcomes.items():
        print("%-8s %8d %8d %8d %9.1f" % (suite, o.passed, len(o.failed), len(o.skipped), o.seconds))
    passed = sum(o.passed for o in outcomes.values())
    failed = sum(len(o.failed) for o in outcomes.values())
    skipped = sum(len(o.skipped) for o in outcomes.values())
    print("\n%d passed, %d failed, %d skipped" % (passed, failed, skipped), flush=True)
    return failed == 0 and passed + skipped > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build-test", help="the build folder to test")
    parser.add_argument("--only", help="suites, separated by commas: unit,sim,cli,e2e,web,gpu,vm,fuzz,lint")
    parser.add_argument("--name", help="only cli, e2e, web and vm tests whose names contain this")
    parser.add_argument("--fuzz-seconds", type=int, default=2, help="per fuzz target")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the output of what passed too")
    options = parser.parse_args()
    options.build = options.build.resolve()
    programs = find_programs(options)
    if options.only:
        programs = [p for p in programs if p.suite in options.only.split(",")]
    sys.exit(0 if report(run_all(programs, options)) else 1)


if __name__ == "__main__":
    main()
