"""tools/web_bundle.py on a small checkout of its own, with stand-ins for node and npm that tell how often they ran."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from tap import main, skip  # noqa: E402

NPM = """#!/bin/sh
echo "npm $*" >>"$KR_CALLS"
case "$1" in
ci) mkdir -p node_modules && : >node_modules/.package-lock.json ;;
run) sleep 0.3; out=$5; mkdir -p "$out/assets" && cp index.html "$out/" && cat src/*.ts >"$out/assets/index-1.js" ;;
esac
"""
NODE = """#!/bin/sh
[ "$1" = --version ] && { echo v18.19.0; exit; }
echo "node" >>"$KR_CALLS"
printf packed >"$2/assets/index-1.js.gz"; printf small >"$2/assets/index-1.js.br"
"""


class Checkout:
    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="kr-web-"))
        self.calls, self.bin = self.dir / "calls", self.dir / "bin"
        self.top = self.dir / "top"
        for folder in (self.bin, self.top / "tools", self.top / "web" / "src"):
            folder.mkdir(parents=True)
        for name in ("web_bundle.py", "web_compress.mjs"):
            shutil.copy(ROOT / "tools" / name, self.top / "tools")
        for name, text in (("node", NODE), ("npm", NPM)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        (self.top / ".gitignore").write_text("/web/.bundle/\n/web/node_modules/\n")
        self.write("package.json", "{}")
        self.write("package-lock.json", "{}")
        self.write("index.html", "<html></html>")
        self.write("src/main.ts", "let first = 1;" * 20)
        self.git("init", "-q")
        self.commit("one")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def write(self, name, text):
        (self.top / "web" / name).write_text(text)

    def git(self, *args):
        return subprocess.run(["git", "-C", self.top, "-c", "user.name=t", "-c", "user.email=t@t", *args], check=True,
                              capture_output=True, text=True).stdout.strip()

    def commit(self, text):
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", text)

    def start(self, *args, node=True):
        path = "%s:/usr/bin:/bin" % self.bin if node else str(self.dir / "nothing")
        return subprocess.Popen([sys.executable, self.top / "tools" / "web_bundle.py", *map(str, args)], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"PATH": path, "KR_CALLS": str(self.calls)})

    def run(self, *args, code=0, node=True):
        process = self.start(*args, node=node)
        out = process.communicate(timeout=60)[0]
        assert process.returncode == code, "%s: %d\n%s" % (args, process.returncode, out)
        return out.strip()

    def called(self):
        """What ran since the last time."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [call.split()[0] + " " + call.split()[1] if " " in call else call for call in calls]


def setup_module():
    if not shutil.which("git"):
        skip("git is not installed")


def test_npm_runs_only_when_something_changed():
    with Checkout() as c:
        first = c.run("build")
        assert c.called() == ["npm ci", "npm run", "node"] and (Path(first) / "index.html").exists()
        assert c.run("build") == first and c.called() == []
        c.write("src/main.ts", "let second = 2;")
        second = c.run("build")
        assert second != first and c.called() == ["npm run", "node"]
        c.write("package-lock.json", '{"a": 1}')
        c.run("build")
        assert c.called() == ["npm ci", "npm run", "node"]
        (c.top / "web" / "test").mkdir()
        c.write("test/x.ts", "tests are no part of it")
        c.run("build")
        assert c.called() == []
        c.write("src/other.ts", "a new file is")
        c.run("build")
        assert c.called() == ["npm run", "node"]
        for i in range(8):
            c.write("src/main.ts", "let n = %d;" % i)
            c.run("build")
        assert len(list((c.top / "web" / ".bundle").glob("*/BUNDLE.json"))) <= 4  # old ones do not pile up


def test_two_builds_at_once_run_npm_once():
    with Checkout() as c:
        builds = [c.start("embed", "--c", c.dir / ("%d.c" % i), "--bin", c.dir / ("%d.bin" % i)) for i in range(4)]
        for build in builds:
            out = build.communicate(timeout=60)[0]
            assert build.returncode == 0, out
        assert c.called() == ["npm ci", "npm run", "node"]
        assert len({(c.dir / ("%d.bin" % i)).read_bytes() for i in range(4)}) == 1


def test_a_build_that_fails_says_why_and_leaves_nothing():
    with Checkout() as c:
        (c.bin / "npm").write_text("#!/bin/sh\necho 'src/main.ts: error TS1'\nexit 1\n")
        out = c.run("build", code=1)
        assert "npm ci failed" in out and "error TS1" in out
        (c.bin / "npm").write_text(NPM)
        c.run("build")
        assert c.called() == ["npm ci", "npm run", "node"]
        out = c.run("embed", "--c", c.dir / "x.c", "--bin", c.dir / "x.bin", node=False)  # it is there already
        c.write("src/main.ts", "let changed;")
        out = c.run("build", code=1, node=False)
        assert "tools/deps.sh" in out and "-Dweb_bundle=DIR" in out and "-Dweb=false" in out, out


def test_what_is_embedded_is_what_was_built():
    with Checkout() as c:
        c.run("embed", "--c", c.dir / "web.c", "--bin", c.dir / "web.bin", "--depfile", c.dir / "web.d")
        depends = (c.dir / "web.d").read_text()
        assert all(name in depends for name in ("web/src/main.ts", "web/package-lock.json", "/web/src\n", "web_compress.mjs")), depends
        (c.dir / "main.c").write_text("""
            #include <stdio.h>
            #include <string.h>
            #include "host/web_assets.h"
            int main(int argc, char **argv) {
                for (const struct web_asset *a = web_assets; a->path; a++)
                    if (argc == 3 && strcmp(a->path, argv[1]) == 0)
                        fwrite(a->forms[argv[2][0] - '0'].bytes, 1, a->forms[argv[2][0] - '0'].len, stdout);
                    else if (argc == 1)
                        printf("%s %s\\n", a->path, a->type);
            }""")
        subprocess.run([os.environ.get("CC", "cc"), "-I", ROOT / "src", "-o", c.dir / "show", c.dir / "main.c", c.dir / "web.c"], check=True)

        def show(*args):
            return subprocess.run([c.dir / "show", *args], check=True, capture_output=True, text=True).stdout

        assert show().splitlines() == ["/assets/index-1.js text/javascript; charset=utf-8", "/index.html text/html; charset=utf-8"]
        assert show("/index.html", "0") == "<html></html>" and show("/index.html", "1") == ""
        assert [show("/assets/index-1.js", form) for form in "012"] == ["let first = 1;" * 20, "packed", "small"]
        c.run("embed", "--none", "--c", c.dir / "web.c", "--bin", c.dir / "web.bin", node=False)
        subprocess.run([os.environ.get("CC", "cc"), "-I", ROOT / "src", "-o", c.dir / "show", c.dir / "main.c", c.dir / "web.c"], check=True)
        assert show() == ""


def test_a_prebuilt_bundle_is_of_this_commit_or_refused():
    with Checkout() as c:
        bundle = c.dir / "bundle"
        c.run("export", bundle)
        c.called()
        said = c.run("check", bundle)
        assert c.git("rev-parse", "HEAD")[:12] in said and "Node is not needed" in said, said
        c.run("embed", "--bundle", bundle, "--c", c.dir / "web.c", "--bin", c.dir / "web.bin", node=False)
        assert c.called() == [] and "index-1.js" in (c.dir / "web.c").read_text()
        c.commit("nothing of the dashboard")
        assert "whose web/ is the same" in c.run("check", bundle)
        c.write("src/main.ts", "let later = 1;")
        c.commit("two")
        assert "their web/ differs" in c.run("check", bundle, code=1)
        c.write("src/main.ts", "let uncommitted = 1;")
        c.run("export", bundle)
        assert json.loads((bundle / "BUNDLE.json").read_text())["is_changed"]
        assert "changed sources" in c.run("check", bundle, code=1)
        c.git("checkout", "-q", "web")
        c.run("export", bundle)
        shutil.rmtree(c.top / ".git")  # an unpacked archive: the sources themselves are compared
        assert "of these sources" in c.run("check", bundle)
        c.write("src/main.ts", "let other = 1;")
        assert "other sources" in c.run("check", bundle, code=1)
        assert "is no bundle" in c.run("check", c.dir, code=1)
        (c.dir / "mine").mkdir()
        (c.dir / "mine" / "letter").write_text("keep me")
        assert "left alone" in c.run("export", c.dir / "mine", code=1) and (c.dir / "mine" / "letter").exists()


if __name__ == "__main__":
    main()
