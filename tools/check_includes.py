#!/usr/bin/python3
"""House rules that a compiler does not know: who may include whom, sizes, forbidden calls.

Usage: tools/check_includes.py [-v]. Exceptions stand in tools/lint_exceptions.txt, each with its reason; one that is not
needed any more is an error too.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# room -> rooms it may include. Its own is always allowed.
ROOMS = {
    "base": set(),
    "model": {"base"},
    "net": {"base"},
    "core": {"base", "model"},
    "store": {"base", "model", "core"},
    "gpu": {"base", "model", "net"},
    "engine": {"base", "model", "net"},
    "vfio": {"base", "model", "gpu"},
    "vm": {"base", "model", "engine"},
    "host": {"base", "model", "net", "core", "store"},
    "runner": {"base", "model", "net", "gpu", "engine", "vfio", "vm"},
    "doctor": {"base", "model", "gpu"},  # of gpu: pure helpers (PCI addresses)
    "cli": {"base", "model", "net", "doctor"},
}
# main.c joins the rooms: the verbs, the two daemons, the GPU worker.
MAIN_MAY_INCLUDE = {"cli/cli.h", "host/host.h", "host/host_config.h", "runner/runner.h", "runner/runner_config.h",
                    "gpu/gpu_monitor.h", "vfio/vfio_step.h", "vm/image_tool.h", "vm/shim.h"}

MAX_FUNCTION_LINES, MAX_SOURCE_LINES, MAX_HEADER_LINES, MAX_COLUMNS = 100, 800, 300, 120

FORBIDDEN = {  # name -> what to use
    "strcpy": "g_strlcpy", "strcat": "g_strlcat", "sprintf": "snprintf", "vsprintf": "vsnprintf", "gets": "getline",
    "atoi": "g_ascii_string_to_signed", "atol": "g_ascii_string_to_signed", "atoll": "g_ascii_string_to_signed",
    "system": "uv_spawn", "popen": "uv_spawn", "strtok": "g_strsplit", "alloca": "g_malloc", "tmpnam": "mkstemp",
    "mktemp": "mkstemp", "g_main_loop_new": "uv_loop_t", "g_timeout_add": "uv_timer_t", "g_spawn_sync": "uv_spawn",
    "rand": "randombytes_uniform", "usleep": "uv_timer_t",
}
CALL = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(FORBIDDEN))
INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)
STRING_OR_COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def read_exceptions():
    """-> {(rule, path, detail): reason}"""
    exceptions = {}
    path = ROOT / "tools" / "lint_exceptions.txt"
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        rule, _, reason = line.partition(" -- ")
        parts = rule.split()
        if len(parts) != 3 or not reason.strip():
            sys.exit("%s:%d: want: RULE PATH DETAIL -- REASON" % (path.name, number))
        exceptions[tuple(parts)] = reason.strip()
    return exceptions


def blank(match):
    """The same shape without the text, so that line numbers and columns stay."""
    return re.sub(r"[^\n]", " ", match.group(0))


def without_text(code):
    return STRING_OR_COMMENT.sub(blank, code)


def check_includes(path, code):
    room = path.relative_to(SRC).parts[0]
    for name in INCLUDE.findall(code):
        other = name.split("/")[0]
        if room == "main.c":
            if name not in MAIN_MAY_INCLUDE:
                yield "include", name, "main.c may not include %s" % name
        elif "/" not in name:
            yield "include", name, 'include "%s" by its room: "%s/%s"' % (name, room, name)
        elif other != room and other not in ROOMS.get(room, set()):
            yield "include", name, "%s may not include %s" % (room, name)


def functions(code):
    """Yields (name, first line, lines) of every function body at depth 0 of code without text."""
    depth, start, name, head, is_function = 0, 0, "", "", False
    for number, line in enumerate(code.split("\n"), 1):
        if line.startswith("#") or line.rstrip().endswith("\\"):
            continue
        for char in line:
            if char == "{":
                if depth == 0:
                    before = head.strip()
                    match = re.search(r"(\w+)\s*\([^{}]*\)\s*(G_GNUC_\w+\s*)*$", before, re.S)
                    is_function = bool(match) and "=" not in before.split("(")[0]
                    name, start = (match.group(1) if match else ""), number
                    head = ""
                depth += 1
            elif char == "}":
                depth -= 1
                if depth == 0:
                    if is_function:
                        yield name, start, number - start + 1
                    head = ""
            elif depth == 0:
                head = "" if char == ";" else head + char
        if depth == 0:
            head += "\n"


def check_sizes(path, code, plain, sizes):
    lines = code.count("\n")
    limit = MAX_HEADER_LINES if path.suffix == ".h" else MAX_SOURCE_LINES
    if lines > limit:
        yield "file-size", str(lines), "%d lines, the limit is %d" % (lines, limit)
    for name, start, length in functions(plain):
        sizes.append((length, "%s:%d %s" % (path.relative_to(ROOT), start, name)))
        if length > MAX_FUNCTION_LINES:
            yield "function-size", name, "%s has %d lines, the limit is %d" % (name, length, MAX_FUNCTION_LINES)


def check_calls(plain):
    for match in CALL.finditer(plain):
        name = match.group(1)
        yield "call", name, "line %d: %s is not used here, take %s" % (plain[:match.start()].count("\n") + 1, name,
                                                                      FORBIDDEN[name])


def check_header(path, code):
    if path.suffix == ".h" and not re.match(r"#pragma once\n/\*", code):
        yield "header", "start", 'must open with "#pragma once" and a comment that says what it is for'


def main():
    exceptions, used, problems, sizes = read_exceptions(), set(), [], []
    files = sorted(SRC.rglob("*.[ch]"))
    for path in files:
        code = path.read_text()
        plain = without_text(code)
        found = list(check_includes(path, code)) + list(check_sizes(path, code, plain, sizes))
        found += list(check_calls(plain)) + list(check_header(path, code))
        name = str(path.relative_to(ROOT))
        for rule, detail, text in found:
            key = (rule, name, detail if rule != "file-size" else "*")
            if key in exceptions:
                used.add(key)
            else:
                problems.append("%s: %s: %s" % (name, rule, text))
    problems += ["tools/lint_exceptions.txt: not needed any more: %s" % " ".join(k) for k in exceptions if k not in used]
    sizes.sort(reverse=True)
    lengths = [s[0] for s in sizes]
    print("%d files, %d functions, median %d lines, %d above 60" % (
        len(files), len(sizes), lengths[len(lengths) // 2] if lengths else 0, sum(n > 60 for n in lengths)))
    for length, where in sizes[:5]:
        print("  %4d  %s" % (length, where))
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
