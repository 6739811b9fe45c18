#!/bin/bash
# A whole cluster on this machine: a host, two runners, a real Docker Engine; then the commands of the user guide, each
# printed before its output. Needs root. With an NVIDIA driver and its container toolkit it uses the real GPUs; otherwise
# the GPUs are simulated (library, sysfs and container hook are stand-ins, everything else is real) and it says so.
#
#   tools/demo.sh [run]   runs it and removes everything again, also after Ctrl-C or a failure.
#                         KEEP=1 leaves it running, SIMULATED=1 simulates although there are GPUs.
#   tools/demo.sh stop    stops and removes what KEEP=1 left
#
# State: var/demo and var/dk/demo of this checkout.
set -u
umask 022

root=$(cd "$(dirname "$0")/.." && pwd -P)
demo=$root/var/demo
fakes=$root/build/tests/fakes
scenarios=$root/tests/fakes/scenarios
program=$root/build/kohakuriver
export PATH=$root/build:$PATH

fail() {
    echo "demo: $*" >&2
    exit 1
}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

# ---- stopping ----

# The daemons of this demo that live: their command line names our program and our folder.
daemons() {
    local pid
    for pid in $(cat "$demo"/*.pid 2>/dev/null); do
        grep -qsaF "$demo/" "/proc/$pid/cmdline" && echo "$pid"
    done
}

stop_daemons() {
    local signal k
    for signal in TERM KILL; do
        set -- $(daemons)
        [ $# -eq 0 ] && return
        kill "-$signal" "$@" 2>/dev/null
        for ((k = 0; k < 100; k++)); do
            [ -z "$(daemons)" ] && return
            sleep .05
        done
    done
}

# On an engine that is not ours only our own containers go: those of this demo's cluster.
remove_containers() {
    local socket cluster id
    socket=$(cat "$demo/foreign_socket" 2>/dev/null) || return
    cluster=$(cat "$demo/cluster_id" 2>/dev/null) || return
    for id in $(curl -sf -m 10 --unix-socket "$socket" -G http://d/containers/json --data-urlencode all=1 \
        --data-urlencode "filters={\"label\":[\"kohakuriver.cluster=$cluster\"]}" | grep -o '"Id":"[0-9a-f]*"' | cut -d'"' -f4); do
        curl -s -m 30 --unix-socket "$socket" -X DELETE "http://d/containers/$id?force=1&v=1" >/dev/null
    done
}

stop() {
    [ -e "$demo" ] || [ -e "$root/var/dk/demo" ] || return 0
    [ "$(id -u)" = 0 ] || fail "stopping the demo needs root"
    stop_daemons
    remove_containers
    "$root/tools/dockerd.sh" stop demo || return
    rm -rf "$demo"
}

# ---- starting ----

has_real_gpus() {
    [ "${SIMULATED:-}" != 1 ] && [ -e /proc/driver/nvidia/version ] &&
        { command -v nvidia-container-runtime-hook || command -v nvidia-ctk; } >/dev/null
}

answers() { curl -sf -m 5 --unix-socket "$1" http://d/_ping >/dev/null 2>&1; }

start_engine() {
    socket=/var/run/docker.sock
    if [ -z "$simulated" ] && answers $socket; then
        echo $socket >"$demo/foreign_socket"
    elif [ -z "$simulated" ]; then
        socket=$("$root/tools/dockerd.sh" start demo) || exit 1
    else
        # Its own in any case: the container hook of the simulated GPUs must be on its PATH.
        socket=$(HOOK=$fakes/hook SCENARIOS=$scenarios/mynode.json:$scenarios/node2.json \
            "$root/tools/dockerd.sh" start demo) || exit 1
    fi
    echo "Docker Engine: $socket"
    "$root/tools/image.sh" "$socket" || exit 1
}

free_port() {
    /usr/bin/python3 - <<'PYTHON'
import socket
for port in list(range(8000, 8100)) + [0]:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            print(probe.getsockname()[1])
            break
        except OSError:
            pass
PYTHON
}

# daemon NAME VERB: starts it with $demo/NAME.conf, in a session of its own so that Ctrl-C reaches this script alone
daemon() {
    setsid "$program" "$2" --config "$demo/$1.conf" </dev/null >>"$demo/$1.log" 2>&1 &
    echo $! >"$demo/$1.pid"
}

start_host() {
    local port k
    port=$(free_port)
    mkdir -p "$demo/host"
    head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$demo/join-token"
    chmod 600 "$demo/join-token"
    cat >"$demo/host.conf" <<CONF
[host]
listen=127.0.0.1:$port
state_dir=$demo/host
join_token_file=$demo/join-token
heartbeat_ms=1000
CONF
    export KOHAKURIVER_HOST=http://127.0.0.1:$port
    daemon host host
    for ((k = 0; k < 200; k++)); do
        curl -sf -m 2 "$KOHAKURIVER_HOST/api/v1/version" >"$demo/version" 2>/dev/null && break
        [ -d "/proc/$(cat "$demo/host.pid")" ] || fail "the host ended: $(tail -n 2 "$demo/host.log")"
        sleep .05
    done
    grep -o '"cluster_id":"[^"]*"' "$demo/version" | cut -d'"' -f4 >"$demo/cluster_id"
    [ -s "$demo/cluster_id" ] || fail "the host does not answer: $(tail -n 2 "$demo/host.log")"
}

start_runner() {
    local node=$1
    mkdir -p "$demo/$node"
    cat >"$demo/$node.conf" <<CONF
[runner]
node_name=$node
host_url=$KOHAKURIVER_HOST
state_dir=$demo/$node
join_token_file=$demo/join-token
docker_socket=$socket
default_image=kohakuriver/python:local
pull_policy=never
gpu_interval_ms=1000
CONF
    if [ -n "$simulated" ]; then
        cp "$scenarios/$node.json" "$demo/$node.scenario.json"
        "$root/tests/fakes/simtree.py" "$demo/$node.scenario.json" "$demo/$node.root" || fail "no fake sysfs for $node"
        printf '%s\n' "sysfs_root=$demo/$node.root" "nvml_library=$fakes/nvml/libnvidia-ml.so.1" >>"$demo/$node.conf"
        export KOHAKURIVER_FAKE_NVML=$demo/$node.scenario.json
    fi
    daemon "$node" runner
    unset KOHAKURIVER_FAKE_NVML
}

# Until every node can be given tasks.
wait_for_nodes() {
    local k why node
    for ((k = 0; k < 300; k++)); do
        why=$(kohakuriver node list -f json 2>&1 | /usr/bin/python3 -c '
import json, sys
text = sys.stdin.read()
nodes = {n["name"]: n for n in json.loads(text)["nodes"]} if text.startswith("{") else {}
for name in sys.argv[1:]:
    n = nodes.get(name, {})
    if not (n.get("online") and n.get("gpus_known") and n.get("engine_ok") and n.get("gpus_free") == n.get("gpus_total")):
        print(name, "is not ready:", n or text.strip())' "$@" 2>&1)
        [ -z "$why" ] && return
        for node in "$@"; do
            [ -d "/proc/$(cat "$demo/$node.pid")" ] || fail "the runner of $node ended: $(tail -n 1 "$demo/$node.log")"
        done
        sleep .1
    done
    fail "$why"
}

# ---- the tour ----

# show EXIT-CODE COMMAND ARGS… : prints the command and its output; its exit code must be the one given
show() {
    local wanted=$1 got
    shift
    printf '\n\033[1m$ %s\033[0m\n' "$*" >"$demo/shown"
    [ -t 1 ] && cat "$demo/shown" || printf '\n$ %s\n' "$*"
    "$@" >"$demo/out" 2>&1 &
    # The output as it comes, and kept for the checks.
    tail -n +1 -f --pid=$! -s .1 "$demo/out"
    wait $!
    got=$?
    [ $got = "$wanted" ] || fail "this ended with exit code $got, expected was $wanted"
}

expect() { # the last output must have a line that matches
    grep -qE -- "$1" "$demo/out" || fail "the output above should have: $1"
}

held_task() {
    say "# A GPU that is held: the second submission is refused, with the reason."
    show 0 kohakuriver task submit -q -t "mynode::0" --name long-run -- python train.py --steps 3000
    task=$(cat "$demo/out")
    show 1 kohakuriver task submit -t mynode::0 -- python train.py
    expect "$task"
    for ((k = 0; k < 100; k++)); do
        kohakuriver task status "$task" -f json | grep -q '"running"' && break
        sleep .1
    done
    show 0 kohakuriver task list
    show 0 kohakuriver node status mynode
    expect "task $task\b"
    show 0 kohakuriver task kill "$task" --wait
    for ((k = 0; k < 100; k++)); do # free on evidence: the node has to tell
        kohakuriver node status mynode -f json | grep -q '"holder"' || break
        sleep .1
    done
    show 0 kohakuriver node status mynode
    ! grep -q "task $task\b" "$demo/out" || fail "GPU 0 is still held by task $task"
}

tour_simulated() {
    show 0 kohakuriver node list
    show 0 kohakuriver task submit -t mynode::0 -w -- python train.py
    expect 'GPUs I can see: 1$'
    show 0 kohakuriver task submit -t mynode::0,1,2,3 -w -- python3 train.py
    expect 'GPUs I can see: 4$'
    show 0 kohakuriver task submit -t mynode:0::0,1 -w -- python train.py
    expect 'GPUs I can see: 2$'
    held_task
    say "# The other node, and a target that does not exist."
    show 0 kohakuriver task submit -t node2::1 -w -- python train.py
    expect 'GPUs I can see: 1$'
    show 1 kohakuriver task submit -t node2::7 -- python train.py
    show 0 kohakuriver task list
}

tour_real() {
    show 0 kohakuriver node list
    show 0 kohakuriver task submit -t mynode::0 -w -- python train.py
    expect 'GPUs I can see: 1$'
    held_task
    show 0 kohakuriver task list
}

# ---- the whole ----

cleanup() {
    local code=$?
    trap '' INT TERM HUP
    trap - EXIT
    if [ $code -ne 0 ] && [ -d "$demo" ]; then
        for log in "$demo"/*.log; do
            [ -s "$log" ] && { echo "--- end of $(basename "$log")"; tail -n 5 "$log"; }
        done >&2
    fi
    kill $(jobs -p) 2>/dev/null
    stop || code=1
    exit $code
}

keep() {
    trap - EXIT INT TERM HUP
    say "It is left running. The dashboard: $KOHAKURIVER_HOST/ ; on the command line:"
    cat <<TEXT
  export KOHAKURIVER_HOST=$KOHAKURIVER_HOST PATH=$root/build:\$PATH
  kohakuriver task submit -t mynode::1,2 -w -- python train.py
  kohakuriver node status mynode
Logs: $demo/*.log
To stop and remove it: make demo-stop
TEXT
}

run() {
    [ "$(id -u)" = 0 ] || fail "the demo needs root: it starts a Docker Engine and containers"
    [ -x "$program" ] || fail "$program is not there: run make first"
    stop || exit 1 # what an earlier one left
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mkdir -p "$demo" || exit 1
    simulated=1
    has_real_gpus && simulated=
    if [ -n "$simulated" ]; then
        say "=== KohakuRiver demo with SIMULATED GPUs: the cards, their driver and their library are stand-ins. ==="
    else
        say "=== KohakuRiver demo on this machine's NVIDIA GPUs ==="
    fi
    start_engine
    start_host
    start_runner mynode
    [ -n "$simulated" ] && start_runner node2
    wait_for_nodes mynode ${simulated:+node2}
    if [ -n "$simulated" ]; then tour_simulated; else tour_real; fi
    if [ "${KEEP:-}" = 1 ]; then
        keep
    else
        say "=== Done. Everything is stopped and removed again. ${simulated:+The GPUs were simulated. }==="
    fi
}

case "${1:-run}" in
run) run ;;
stop | --stop) stop && echo "demo: stopped" ;;
*)
    sed -n '2,/^set -u/p' "$0" | sed -n 's/^# \{0,1\}//p' >&2
    exit 2
    ;;
esac
