"""What the kill matrices share: the crash points that the source names, and the tables in docs/ that must name the same rows."""
import os
import re
from pathlib import Path

from cluster import ROOT, note, skip


def points_of(*rooms):
    """The names of the crash points (src/base/fault.h) in these rooms of src/."""
    return {point for room in rooms for path in Path(ROOT / "src" / room).rglob("*.c")
            for point in re.findall(r'fault_point\("([^"]+)"\)', path.read_text())}


def check_table(name, head, order, rows):
    """Notes the table, writes it to var/NAME.md and compares it with docs/NAME.md (UPDATE_DOCS=1 writes that). A row begins with its
    crash point; `order` is that of the points."""
    table = head + "".join("| `%s` | %s |\n" % (row[0], " | ".join(row[1:]))
                           for row in sorted(rows, key=lambda row: (order.index(row[0]),) + row[1:]))
    for line in table.splitlines():
        if line.startswith("|"):
            note(line)
    if os.environ.get("TEST_NAMES"):
        skip("only some rows were driven")
    (ROOT / "var").mkdir(exist_ok=True)
    (ROOT / "var" / (name + ".md")).write_text(table)
    doc = ROOT / "docs" / (name + ".md")
    if os.environ.get("UPDATE_DOCS"):
        doc.write_text(table)
    assert doc.exists() and table == doc.read_text(), "docs/%s.md differs from var/%s.md (UPDATE_DOCS=1 writes it)" % (name, name)
