#!/bin/bash
# Gives Docker Engines the two small images that the demo and the tests use, without a registry and without a docker client:
#   kohakuriver/python:local   python3 and python, busybox's commands, examples/train.py in the working directory
#   busybox:local              busybox's commands
# usage: tools/image.sh SOCKET…
# The first run builds a tar of some 50 MB from Debian packages into var/cache (about half a minute); later runs import it.
set -u
umask 022

root=$(cd "$(dirname "$0")/.." && pwd -P)
cache=$root/var/cache

fail() {
    echo "image: $*" >&2
    exit 1
}

site_of() { # where this machine gets the packages of a release from
    apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' 2>/dev/null |
        awk -v c="$1" '$2 == c {print $1; exit}'
}

build_python() {
    local suite folder tar=$cache/python.tar site
    [ -f "$tar" ] && return
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    site=$(site_of "$suite")
    [ -n "$site" ] || suite=bookworm
    command -v mmdebstrap >/dev/null || fail "mmdebstrap is not installed (tools/deps.sh)"
    [ "$(id -u)" = 0 ] || fail "building the image needs root"
    echo "image: building the Python image from Debian $suite, once"
    folder=$(mktemp -d) || fail "no temporary folder"
    trap 'rm -rf "$folder"' EXIT
    mmdebstrap --quiet --variant=extract --include=python3-minimal,libpython3-stdlib,busybox-static \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$folder/root" ${site:+"$site"} >"$folder/log" 2>&1 ||
        fail "mmdebstrap failed: $(grep -v '^I:' "$folder/log" | tail -n 1)"
    finish_python "$folder/root"
    tar -C "$folder/root" --numeric-owner -cf "$tar.part" . && mv "$tar.part" "$tar" || fail "cannot write $tar"
    rm -rf "$folder"
    trap - EXIT
}

# No package's scripts ran: what they would link is linked here, and what only apt and dpkg need goes.
finish_python() {
    local at=$1 command
    [ -x "$at/bin/busybox" ] && [ "$at" != / ] || fail "$at is not the unpacked image"
    rm -rf "${at:?}"/{dev,boot,media,mnt,opt,srv,home} "${at:?}"/var/{lib/{apt,dpkg},cache} "${at:?}"/etc/{apt,dpkg,cron.daily,alternatives} \
        "${at:?}"/usr/share/{doc,man,locale,lintian,bug}
    mkdir -p "$at"/{bin,dev,etc,proc,root,sys,workspace} "$at/usr/bin"
    for command in $("$at/bin/busybox" --list); do
        [ -e "$at/bin/$command" ] || [ -e "$at/usr/bin/$command" ] || ln -s busybox "$at/bin/$command"
    done
    ln -sf python3 "$at/usr/bin/python"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$at/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$at/etc/group"
}

build_busybox() {
    local folder tar=$cache/busybox.tar
    [ -f "$tar" ] && return
    [ -x /bin/busybox ] || fail "busybox-static is not installed (tools/deps.sh)"
    folder=$(mktemp -d) || fail "no temporary folder"
    mkdir -p "$folder"/{bin,dev,proc,sys,tmp,etc,root}
    cp /bin/busybox "$folder/bin/" && "$folder/bin/busybox" --install "$folder/bin" &&
        tar -C "$folder" -cf "$tar.part" . && mv "$tar.part" "$tar"
    rm -rf "$folder"
    [ -s "$tar" ] || fail "cannot build the busybox image"
}

# The tar with examples/train.py of this checkout as its last entry.
build_final() {
    local folder tar=$cache/python-train.tar
    [ "$tar" -nt "$cache/python.tar" ] && [ "$tar" -nt "$root/examples/train.py" ] && return
    folder=$(mktemp -d) || fail "no temporary folder"
    mkdir -p "$folder/workspace" && cp "$root/examples/train.py" "$folder/workspace/" &&
        cp "$cache/python.tar" "$tar.part" && tar -C "$folder" --owner=0 --group=0 -rf "$tar.part" ./workspace/train.py &&
        mv "$tar.part" "$tar"
    rm -rf "$folder"
    [ "$tar" -nt "$cache/python.tar" ] || fail "cannot put examples/train.py into the image"
}

# import SOCKET REPOSITORY TAR CHANGES… : does nothing when the engine has the image with the same content already
import() {
    local socket=$1 repo=$2 tar=$3 sum change query='' answer
    shift 3
    sum=$(stat -c '%s-%Y' "$tar")
    curl -sf -m 10 --unix-socket "$socket" "http://d/images/$repo:local/json" 2>/dev/null | grep -qF "\"kohakuriver.tar\":\"$sum\"" &&
        return
    for change in "$@" "LABEL kohakuriver.tar=$sum"; do
        query+="&changes=$(printf %s "$change" | od -An -v -tx1 | tr -d '\n' | sed 's/ /%/g')"
    done
    answer=$(curl -sS -m 300 --unix-socket "$socket" -X POST -T "$tar" -H 'Content-Type: application/x-tar' \
        "http://d/images/create?fromSrc=-&repo=$(printf %s "$repo" | sed 's|/|%2F|g')&tag=local$query" 2>&1) ||
        fail "import of $repo into $socket: $answer"
    [[ $answer == *error* || $answer == *message* ]] && fail "import of $repo into $socket: $answer"
    return 0
}

[ $# -gt 0 ] || {
    sed -n 's/^# \{0,1\}//p' "$0" | sed 1d >&2
    exit 2
}
mkdir -p "$cache" || exit 1
exec 9>"$cache/.image.lock"
flock 9
build_busybox
build_python
build_final
for socket in "$@"; do
    curl -sf -m 5 --unix-socket "$socket" http://d/_ping >/dev/null || fail "no Docker Engine answers at $socket"
    import "$socket" busybox "$cache/busybox.tar" 'ENV PATH=/bin' 'CMD ["/bin/sh"]'
    import "$socket" kohakuriver/python "$cache/python-train.tar" 'ENV PATH=/usr/bin:/bin:/usr/sbin:/sbin' \
        'ENV PYTHONUNBUFFERED=1' 'WORKDIR /workspace' 'CMD ["python3"]'
done
