"""kohakuriver doctor as a user sees it: report, JSON, list, exit status; docs/doctor.md against the table."""
import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "lib")]
from tap import main  # noqa: E402
from test_cli import cli, expect, golden  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "doctor"
DOCS = ROOT / "docs" / "doctor.md"
BEGIN, END = "writes it -->\n", "<!-- end of the table -->"


def doctor(fixture, *args):
    return cli("doctor", "--root", str(FIXTURES / (fixture + ".txt")), *args)


def checks():
    return json.loads(expect(cli("doctor", "--list", "--format", "json"), 0).out)["checks"]


def test_doctor_the_report_is_readable_and_fits_100_columns():
    for name, code in (("sick", 1), ("clean-laptop", 0), ("clean-docker", 0), ("gpu-holders", 0)):
        result = expect(doctor(name), code)
        assert max(len(line) for line in result.out.splitlines()) <= 100, result
        assert result.err == ""
        golden("doctor_" + name.replace("-", "_"), result.out)


def test_doctor_worst_comes_first_and_the_summary_last():
    out = expect(doctor("sick"), 1).out
    places = [out.index("\n" + word + "\n") if word != "ERRORS" else out.index(word) for word in
              ("ERRORS", "WARNINGS", "OK", "DO NOT APPLY")]
    assert places == sorted(places)
    assert out.splitlines()[-1].endswith("do not apply") and "errors" in out.splitlines()[-1]


def test_doctor_json_has_every_check_with_its_row():
    answer = json.loads(expect(doctor("driver-library-mismatch", "-f", "json"), 1).out)
    rows = checks()
    assert [c["id"] for c in answer["checks"]] == [r["id"] for r in rows]
    assert set(answer["checks"][0]) == {"id", "group", "against", "outcome", "title", "seen", "why", "fix"}
    assert answer["summary"]["errors"] == 1 and sum(answer["summary"].values()) == len(rows)
    for check in answer["checks"]:
        assert check["outcome"] in ("error", "warning", "unknown", "ok", "not_applicable")
        assert (check["fix"] is not None) == (check["outcome"] in ("error", "warning")), check


def test_doctor_warnings_alone_exit_with_0():
    assert "1 warning" in expect(doctor("persistence-off"), 0).out


def test_doctor_single_checks():
    answer = json.loads(expect(doctor("driver-library-mismatch", "--check", "uvm-node", "-c", "live-restore", "-f", "json"), 0).out)
    assert [c["id"] for c in answer["checks"]] == ["uvm-node", "live-restore"]
    result = expect(doctor("clean-docker", "--check", "nonsense"), 2)
    assert 'no check "nonsense"' in result.err and "--list" in result.err and result.out == ""


def test_doctor_bad_roots_are_usage_errors():
    assert "No such file" in expect(cli("doctor", "--root", "/nonexistent"), 2).err
    assert "is not understood" in expect(cli("doctor", "--root", str(Path(__file__))), 2).err


def test_doctor_this_machine():
    result = cli("doctor")
    assert result.code in (0, 1) and result.err == "" and result.out.splitlines()[-1].endswith("not apply"), result


def test_doctor_the_list_names_every_check():
    out = expect(cli("doctor", "--list"), 0).out
    for row in checks():
        assert row["id"] in out and row["title"].split()[0] in out
    assert max(len(line) for line in out.splitlines()) <= 100


def table():
    lines = ["| id | group | against | what it wants | otherwise |", "| --- | --- | --- | --- | --- |"]
    lines += ["| `%s` | %s | %s | %s | %s |" % (r["id"], r["group"], r["against"], r["title"], r["why"]) for r in checks()]
    return "\n" + "\n".join(lines) + "\n\n"


def test_doctor_the_docs_have_the_table_of_the_program():
    text = DOCS.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    if os.environ.get("UPDATE_GOLDEN"):
        DOCS.write_text(text[:begin] + table() + text[end:])
        return
    assert text[begin:end] == table(), "docs/doctor.md differs from the table: UPDATE_GOLDEN=1 tests/cli/test_doctor.py"


if __name__ == "__main__":
    main()
