#!/usr/bin/python3
"""The tests of the dashboard, as TAP:  run.py unit|browser|screenshots|bench [ARGUMENT…]

`unit` needs Node; the others also Debian's Chromium, and a build with the dashboard in it (KR_BUILD). What cannot be had is
said as the reason of a skip."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WEB = ROOT / "web"
BUILD = Path(os.environ.get("KR_BUILD", ROOT / "build-test")).resolve()
SCRIPTS = {"unit": "test/run.mjs", "browser": "test/browser.mjs", "screenshots": "test/browser.mjs", "bench": "test/browser.mjs"}


def missing(what):
    """Why it cannot run, or None."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node and npm are not installed (tools/deps.sh installs them)"
    if what == "unit":
        return None
    if not shutil.which("chromium"):
        return "chromium is not installed (tools/deps.sh --test installs it)"
    program = BUILD / "kohakuriver"
    if not program.exists():
        return "%s is not built" % program
    if b"/assets/index-" not in program.read_bytes():
        return "%s was built without the dashboard" % program
    return None


def main():
    what, *rest = sys.argv[1:] or ["browser"]
    if what not in SCRIPTS:
        sys.exit(__doc__)
    why = missing(what)
    if why:
        if what in ("screenshots", "bench"):
            sys.exit("web: " + why)
        print("1..0 # SKIP " + why)
        return
    done = subprocess.run(["/usr/bin/python3", str(ROOT / "tools" / "web_bundle.py"), "build"], capture_output=True, text=True)
    if done.returncode != 0:
        print("Bail out! the dashboard cannot be built: " + done.stderr.strip().replace("\n", " ")[-500:])
        sys.exit(1)
    script = [str(WEB / SCRIPTS[what])] + ([] if what == "unit" else [what])
    os.execvpe("node", ["node", *script, *rest], dict(os.environ, KR_BUILD=str(BUILD)))


if __name__ == "__main__":
    main()
