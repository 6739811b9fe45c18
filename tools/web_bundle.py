#!/usr/bin/python3
"""The dashboard (web/) as what the program embeds.

  web_bundle.py build                    makes the bundle of the sources as they are, unless it is there already
  web_bundle.py export DIR               the same, copied to DIR: for builds without Node (meson setup -Dweb_bundle=DIR)
  web_bundle.py check DIR                is DIR a bundle of this checkout? Says so in one line; exit status 1 when not
  web_bundle.py embed --c C --bin BIN [--depfile FILE] [--bundle DIR | --none]
                                         writes a C file with the table of assets, and the bytes that it includes

A bundle is a folder: the files of the dashboard, each with FILE.gz and FILE.br where that is smaller, and BUNDLE.json,
which names the commit. Bundles are kept in web/.bundle by the hash of what they are made from, so that several build
folders share one; a lock there keeps npm from running twice at a time. Making one needs Node 18 or newer with npm;
everything else here needs Python alone.
"""
import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
CACHE = WEB / ".bundle"
COMPRESS = ROOT / "tools" / "web_compress.mjs"
NO_SOURCES = {".bundle", ".git", "dist", "node_modules", "test", "tests"}
NODE_MIN = 18
KEEP_BUNDLES = 4
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/vnd.microsoft.icon",
    ".json": "application/json", ".webmanifest": "application/manifest+json", ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2", ".wasm": "application/wasm",
}


def fail(text):
    sys.exit("web_bundle: " + text)


# ---- sources ----

def sources():
    """-> (files, folders) that the bundle depends on, sorted."""
    files, folders = [], []
    for folder, below, names in os.walk(WEB):
        if Path(folder) == WEB:
            below[:] = [name for name in below if name not in NO_SOURCES]
        below.sort()
        folders.append(Path(folder))
        files += [Path(folder) / name for name in names if ".timestamp-" not in name]  # vite's own, for a moment
    return sorted(files) + [COMPRESS], folders


def source_hash(files):
    total = hashlib.sha256()
    for path in files:
        data = path.read_bytes()
        total.update(b"%s\0%d\0" % (os.fsencode(path.relative_to(ROOT)), len(data)))
        total.update(data)
    return total.hexdigest()[:24]


def git(*args):
    """What git says, None when it is not there or this is no checkout."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


# ---- making one ----

def node_or_fail():
    """-> (node, npm, version)"""
    node, npm = shutil.which("node"), shutil.which("npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip() if node else ""
    major = version.lstrip("v").split(".")[0]
    if not node or not npm or not major.isdigit() or int(major) < NODE_MIN:
        fail("the dashboard is built with Node %d or newer and npm, and there is %s. tools/deps.sh installs them; or take a\n"
             "bundle that was made elsewhere (make web-bundle): meson setup -Dweb_bundle=DIR; or leave it out: -Dweb=false"
             % (NODE_MIN, "Node " + version if node else "no node on PATH"))
    return node, npm, version


def run(what, *argv):
    environment = dict(os.environ, CI="1", NO_COLOR="1", npm_config_update_notifier="false", npm_config_fund="false",
                       npm_config_audit="false", npm_config_progress="false")
    done = subprocess.run(argv, cwd=WEB, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode != 0:
        fail("%s failed:\n%s" % (what, done.stdout[-6000:]))
    return done.stdout


def install(npm, node_version):
    """npm ci, unless node_modules is what the lock file says already."""
    lock = hashlib.sha256((WEB / "package-lock.json").read_bytes() + (WEB / "package.json").read_bytes() +
                          node_version.encode()).hexdigest()
    mark = CACHE / "installed"
    if (WEB / "node_modules" / ".package-lock.json").exists() and mark.exists() and mark.read_text() == lock:
        return
    mark.unlink(missing_ok=True)
    run("npm ci", npm, "ci")
    mark.write_text(lock)


def describe(hash_of_sources):
    dirty = git("status", "--porcelain", "--", "web")
    return {"commit": git("rev-parse", "HEAD"), "web_tree": git("rev-parse", "HEAD:web"),
            "is_changed": bool(dirty) if dirty is not None else None, "sources": hash_of_sources}


def make(target, hash_of_sources):
    node, npm, version = node_or_fail()
    install(npm, version)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        out = Path(scratch) / "dist"
        run("npm run build", npm, "run", "build", "--", "--outDir", str(out), "--emptyOutDir")
        if not (out / "index.html").exists():
            fail("npm run build made no index.html in %s" % out)
        run("compressing", node, str(COMPRESS), str(out))
        (out / "BUNDLE.json").write_text(json.dumps(describe(hash_of_sources), indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        out.rename(target)


def build():
    """-> the folder of the bundle of the sources as they are."""
    if not (WEB / "package-lock.json").exists():
        fail("there is no web/package-lock.json: this is no whole checkout")
    CACHE.mkdir(exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        hash_of_sources = source_hash(sources()[0])
        target = CACHE / hash_of_sources
        if not (target / "BUNDLE.json").exists():
            make(target, hash_of_sources)
        os.utime(target)
        bundles = sorted((p for p in CACHE.iterdir() if (p / "BUNDLE.json").exists()), key=lambda p: -p.stat().st_mtime)
        for old in bundles[KEEP_BUNDLES:]:
            shutil.rmtree(old)
    return target


def export(target):
    made = build()
    description = describe(made.name)
    if target.exists() and not (target / "BUNDLE.json").exists() and any(target.iterdir()):
        fail("%s is there and is no bundle: it is left alone" % target)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(made, target)
    (target / "BUNDLE.json").write_text(json.dumps(description, indent=1) + "\n")
    print("%s: the dashboard of commit %s%s" % (target, description["commit"] or "unknown",
                                               " with changes" if description["is_changed"] else ""))


# ---- one that was made elsewhere ----

def check(bundle):
    try:
        said = json.loads((bundle / "BUNDLE.json").read_text())
        commit = said["commit"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        fail("%s is no bundle of the dashboard (make web-bundle makes one): %s" % (bundle, problem))
    if not (bundle / "index.html").exists():
        fail("%s has no index.html" % bundle)
    here = git("rev-parse", "HEAD")
    if said.get("is_changed"):
        fail("%s was built from changed sources, not from commit %s as it is" % (bundle, commit))
    if here is None:  # an unpacked archive of the sources: they are what can be compared
        if said.get("sources") != source_hash(sources()[0]):
            fail("%s was built from other sources of the dashboard than are here" % bundle)
        print("prebuilt dashboard, of these sources (commit %s); Node is not needed" % commit)
    elif commit == here:
        print("prebuilt dashboard of this commit, %s; Node is not needed" % commit[:12])
    elif commit and said.get("web_tree") and said["web_tree"] == git("rev-parse", "HEAD:web"):
        print("prebuilt dashboard of commit %s, whose web/ is the same; Node is not needed" % commit[:12])
    else:
        fail("%s was built from commit %s, this is %s, and their web/ differs" % (bundle, commit, here))


# ---- embedding ----

def assets(bundle):
    """Yields (path, type, [plain, gzip or None, brotli or None])."""
    for path in sorted(p for p in bundle.rglob("*") if p.is_file()):
        name = path.relative_to(bundle).as_posix()
        if path.suffix in (".gz", ".br") or name == "BUNDLE.json":
            continue
        packed = [Path("%s.%s" % (path, end)) for end in ("gz", "br")]
        yield ("/" + name, TYPES.get(path.suffix, "application/octet-stream"),
               [path.read_bytes()] + [p.read_bytes() if p.exists() else None for p in packed])


def c_string(text):
    return '"%s"' % "".join(c if " " <= c <= "~" and c not in '"\\' else "\\%03o" % ord(c) for c in text)


def embed(bundle, c_file, bin_file):
    pack, rows = bytearray(), []
    for name, kind, forms in assets(bundle) if bundle else ():
        etag = hashlib.sha256(forms[0]).hexdigest()[:20]
        columns = []
        for data in forms:
            columns.append("{web_pack + %d, %d}" % (len(pack), len(data)) if data is not None else "{NULL, 0}")
            pack += data or b""
        rows.append("    {%s, %s, %s, {%s}},\n" % (c_string(name), c_string(kind), c_string(etag), ", ".join(columns)))
    bin_file.write_bytes(bytes(pack) + b"\0")
    c_file.write_text(
        '/* Made by tools/web_bundle.py. */\n#include "host/web_assets.h"\n\n#include <stddef.h>\n\n'
        '/* sha256 of what is included: %s */\n'
        '__asm__(".pushsection .rodata\\n.balign 16\\n.globl web_pack\\n.hidden web_pack\\nweb_pack:\\n"\n'
        '        ".incbin \\"%s\\"\\n.popsection\\n");\n'
        "extern const unsigned char web_pack[];\n\nconst struct web_asset web_assets[] = {\n%s    {NULL},\n};\n"
        % (hashlib.sha256(pack).hexdigest(), bin_file.resolve(), "".join(rows)))


def write_depfile(path, target, bundle):
    files, folders = sources() if bundle is None else (sorted(p for p in bundle.rglob("*")), [bundle])
    names = [str(p).replace("\\", "\\\\").replace(" ", "\\ ").replace("#", "\\#").replace("$", "$$") for p in files + folders]
    path.write_text("%s: %s\n" % (target, " \\\n  ".join(names)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build")
    verbs.add_parser("export").add_argument("dir", type=Path)
    verbs.add_parser("check").add_argument("dir", type=Path)
    verb = verbs.add_parser("embed")
    verb.add_argument("--c", type=Path, required=True)
    verb.add_argument("--bin", type=Path, required=True)
    verb.add_argument("--depfile", type=Path)
    verb.add_argument("--bundle", type=Path)
    verb.add_argument("--none", action="store_true")
    options = parser.parse_args()
    if options.verb == "build":
        print(build())
    elif options.verb == "export":
        export(options.dir)
    elif options.verb == "check":
        check(options.dir)
    else:
        if options.bundle:
            check(options.bundle)
        if options.depfile and not options.none: # before the build: what changes meanwhile makes another one necessary
            write_depfile(options.depfile, options.c, options.bundle)
        embed(None if options.none else options.bundle or build(), options.c, options.bin)


if __name__ == "__main__":
    main()
