#!/usr/bin/python3
"""embed.py IN OUT NAME: writes a C file that defines NAME as the bytes of IN, NUL-terminated."""
import sys

source, target, name = sys.argv[1:]
data = open(source, "rb").read() + b"\0"
rows = [", ".join(str(b if b < 128 else b - 256) for b in data[i : i + 24]) for i in range(0, len(data), 24)]
with open(target, "w", encoding="ascii") as out:
    out.write(f"extern const char {name}[];\nconst char {name}[] = {{\n    " + ",\n    ".join(rows) + "};\n")
