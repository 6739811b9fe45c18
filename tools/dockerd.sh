#!/bin/bash
# Docker Engines of our own, for the demo and the tests: each with its own network and UTS namespace, its own state and its
# own containerd, so that nothing of the machine's network or of another engine is touched, and so that containers live
# on when dockerd alone is killed. Needs root. Nothing is left behind by `stop`.
#
#   start NAME     idempotent; also after `crash`. Prints the socket's path.
#   crash NAME     kill -9 of dockerd alone: containers and containerd go on
#   stop NAME      ends everything of NAME and removes its state; also what an earlier failure left
#   stop-all
#   status NAME    "running …" (exit 0) or "stopped" (exit 3)
#   socket NAME    prints where the socket is, or will be
#   install26      fetches Docker 26 of the next Debian into var/cache, beside the installed one
#
# Environment: HOOK=DIR         a folder that goes in front of dockerd's PATH (nvidia-container-runtime-hook)
#              SCENARIOS=A:B    scenario files for the hook (KOHAKURIVER_FAKE_SCENARIOS)
#              ENGINE=26        run the fetched Docker 26, with CDI; specs in $CDI (default: cdi/ in the engine's state)
#              KOHAKURIVER_DK   the folder for the engines' state (default: var/dk of this checkout)
set -u
umask 022

root=$(cd "$(dirname "$0")/.." && pwd -P)
dk=${KOHAKURIVER_DK:-$root/var/dk}
x26=$root/var/cache/docker26

fail() {
    echo "dockerd: $*" >&2
    exit 1
}

# Sets the names of everything that belongs to engine NAME.
use() {
    name=$1
    [[ $name =~ ^[a-z0-9][a-z0-9-]{0,15}$ ]] || fail "\"$name\" is no name for an engine"
    state=$dk/$name
    tag=kr-$(printf %s "$dk" | md5sum | cut -c1-6)-$name # unique on the machine, for namespaces and cgroups
    run=$state
    # UNIX socket paths have 107 bytes; the longest is that of a network sandbox.
    [ ${#state} -gt 60 ] && run=/run/$tag
    socket=$run/docker.sock
    netns=/run/netns/$tag
}

answers() { curl -sf -m 2 --unix-socket "$socket" http://d/_ping >/dev/null 2>&1; }

# The pid in a pid file, if that process still is what it was.
pid_of() {
    local pid
    pid=$(cat "$state/$1.pid" 2>/dev/null) || return 1
    [ -n "$pid" ] && grep -qsaF "$state/" "/proc/$pid/cmdline" && echo "$pid"
}

gone() { # waits until PID has ended; false after SECONDS
    local k
    for ((k = 0; k < $2 * 50; k++)); do
        [ -d "/proc/$1" ] && [ "$(sed 's/.*) //;s/ .*//' "/proc/$1/stat" 2>/dev/null)" != Z ] || return 0
        sleep .02
    done
    return 1
}

install26() {
    [ -x "$x26/usr/sbin/dockerd" ] && return
    local a=$x26/apt mirror o deb
    mkdir -p "$a/lists/partial" "$a/cache/archives/partial"
    mirror=$(mirror_of_debian)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$a/sources.list"
    o=(-qq -o "Dir::Etc::sourcelist=$a/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$a/lists" -o "Dir::Cache=$a/cache"
        -o APT::Sandbox::User=root)
    (apt-get "${o[@]}" update && cd "$a" && apt-get "${o[@]}" download docker.io containerd) ||
        fail "Docker 26 cannot be fetched from $mirror"
    for deb in "$a"/*.deb; do dpkg-deb -x "$deb" "$x26" || fail "cannot unpack $deb"; done
    rm -rf "$a"
}

mirror_of_debian() {
    sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '{print $1}' | grep -v security | head -n 1
}

# Runs a program in the engine's namespaces, as a session of its own, without our descriptors; $! is its pid.
inside() {
    setsid nsenter --net="$netns" unshare --uts sh -c 'echo "$0" >/proc/sys/kernel/hostname; exec "$@"' "$name" "$@" \
        </dev/null >>"$state/log" 2>&1 9>&- &
}

write_configs() {
    local features='' cdi=${CDI:-$state/cdi}
    if [ "${ENGINE:-}" = 26 ]; then
        mkdir -p "$cdi"
        features=", \"features\": {\"cdi\": true}, \"cdi-spec-dirs\": [\"$cdi\"]"
    fi
    echo "{\"live-restore\": true$features}" >"$state/daemon.json"
    cat >"$state/containerd.toml" <<TOML
version = 2
root = "$state/containerd"
state = "$run/containerd-run"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$run/containerd.sock"
[ttrpc]
  address = "$run/containerd.sock.ttrpc"
TOML
}

start_containerd() {
    local k
    pid_of containerd >/dev/null && return
    rm -f "$run/containerd.sock" "$run/containerd.sock.ttrpc"
    inside containerd --config "$state/containerd.toml"
    echo $! >"$state/containerd.pid"
    for ((k = 0; k < 600; k++)); do
        [ -S "$run/containerd.sock" ] && return
        [ -d "/proc/$!" ] || break
        sleep .05
    done
    fail "containerd of $name did not start: $(tail -n 1 "$state/log")"
}

start_dockerd() {
    local k
    rm -f "$state/dockerd.pid" "$socket"
    inside dockerd -H "unix://$socket" --data-root "$state/data" --exec-root "$run/exec" -p "$state/dockerd.pid" \
        --config-file "$state/daemon.json" --containerd "$run/containerd.sock" -G root --storage-driver "$driver" \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$tag" --bip 198.18.0.1/24 \
        --default-address-pool base=198.19.0.0/16,size=24 --shutdown-timeout 2
    for ((k = 0; k < 600; k++)); do
        answers && return
        [ -d "/proc/$!" ] || break
        sleep .05
    done
    fail "engine $name did not come up: $(grep -a 'level=fatal\|failed to start' "$state/log" | tail -n 1)"
}

start() {
    use "$1"
    [ "$(id -u)" = 0 ] || fail "a Docker Engine of our own needs root"
    command -v dockerd >/dev/null || fail "dockerd is not installed (tools/deps.sh)"
    mkdir -p "$state" "$run" || exit 1
    chmod 700 "$run"
    exec 9>"$dk/.$name.lock"
    flock 9
    if answers; then
        echo "$socket"
        return
    fi
    [ -e "$netns" ] || ip netns add "$tag" || fail "cannot make the network namespace $tag"
    ip -n "$tag" link set lo up
    write_configs
    driver=overlay2
    # overlay on overlay is refused by the kernel: a container's file system as home of the state
    [ "$(stat -f -c %T "$state")" = overlayfs ] && driver=vfs
    export KOHAKURIVER_FAKE_SCENARIOS=${SCENARIOS:-} KOHAKURIVER_FAKE_HOOK_LOG=$state/hook.log
    [ "${ENGINE:-}" = 26 ] && { install26 && PATH=$x26/usr/bin:$x26/usr/sbin:$PATH; }
    PATH=${HOOK:+$HOOK:}$PATH
    start_containerd
    start_dockerd
    echo "$socket"
}

crash() {
    local pid
    use "$1"
    pid=$(pid_of dockerd) || fail "engine $name does not run"
    kill -9 "$pid"
    gone "$pid" 5
}

remove_containers() {
    local id
    for id in $(curl -sf -m 5 --unix-socket "$socket" 'http://d/containers/json?all=1' 2>/dev/null |
        grep -o '"Id":"[0-9a-f]*"' | cut -d'"' -f4); do
        curl -s -m 20 --unix-socket "$socket" -X DELETE "http://d/containers/$id?force=1&v=1" >/dev/null
    done
}

cgroups() { # the engine's cgroup folders, of version 1 and 2
    ls -d "/sys/fs/cgroup/$tag" /sys/fs/cgroup/*/"$tag" 2>/dev/null
}

# Every process of the engine: those of its cgroups (containers), and those in its network namespace.
processes() {
    local group ns pid
    for group in $(cgroups); do find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null; done
    [ -e "$netns" ] || return
    ns=$(stat -Lc %i "$netns")
    for pid in /proc/[0-9]*; do
        [ "$(stat -Lc %i "$pid/ns/net" 2>/dev/null)" = "$ns" ] && echo "${pid#/proc/}"
    done
}

kill_processes() {
    local pid k
    for ((k = 0; k < 100; k++)); do
        set -- $(processes | sort -u)
        [ $# -eq 0 ] && return
        kill -9 "$@" 2>/dev/null
        sleep .05
    done
    fail "processes of engine $name do not die: $*"
}

shim_sockets() { # containerd keeps them in one place for the whole machine
    [ -e "$netns" ] && nsenter --net="$netns" grep -o '/run/containerd/s/[0-9a-f]*' /proc/net/unix | sort -u
}

remove_mounts() {
    local at
    awk -v a="$state/" -v b="$run/" 'index($2, a) == 1 || index($2, b) == 1 {print $2}' /proc/mounts | sort -r |
        while read -r at; do umount -l "$at"; done
}

stop() {
    local pid shims k
    use "$1"
    [ -e "$state" ] || [ -e "$netns" ] || [ -n "$(cgroups)" ] || return 0
    [ "$(id -u)" = 0 ] || fail "stopping engine $name needs root"
    shims=$(shim_sockets)
    remove_containers
    if pid=$(pid_of dockerd); then
        kill "$pid"
        gone "$pid" 15
    fi
    if pid=$(pid_of containerd); then
        kill "$pid"
        gone "$pid" 5
    fi
    kill_processes
    for k in $shims; do rm -f "$k"; done
    remove_mounts
    [ -e "$netns" ] && ip netns del "$tag"
    for k in $(cgroups); do find "$k" -depth -type d -exec rmdir {} + 2>/dev/null; done
    rm -rf "$state" "$run" "$dk/.$name.lock"
    rmdir "$dk" 2>/dev/null
    [ ! -e "$state" ] && [ -z "$(cgroups)" ] || fail "something of engine $name is left in $state"
}

stop_all() {
    local one
    for one in "$dk"/*/; do [ -d "$one" ] && (stop "$(basename "$one")"); done
    return 0
}

status() {
    use "$1"
    if answers; then
        echo "running, Docker $(curl -sf -m 5 --unix-socket "$socket" http://d/version | grep -o '"Version":"[^"]*"' | head -n 1 |
            cut -d'"' -f4), socket $socket"
    else
        echo stopped
        return 3
    fi
}

case "${1:-} $#" in
"start 2" | "crash 2" | "stop 2" | "status 2") "$1" "$2" ;;
"socket 2") use "$2" && echo "$socket" ;;
"stop-all 1") stop_all ;;
"install26 1") install26 ;;
*)
    sed -n '2,/^set -u/p' "$0" | sed -n 's/^# \{0,1\}//p' >&2
    exit 2
    ;;
esac
