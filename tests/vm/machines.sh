# Words for tests with host, runner and machines inside the machine. The node is "n"; its GPUs in PCI order: 0 the console, 1 the RTX 4090,
# which the driver "nvidia" has, 2 the H100 with a driver of its screen, 3 the Navi 31 without one, 4 the one with a stranger.
S=/run/state
KOHAKURIVER_FAKE_NVML=/scenario.json
export KOHAKURIVER_FAKE_NVML

# until_ok SECONDS COMMAND…: until the command succeeds.
until_ok() {
    end=$(( $(now_ms) + $1 * 1000 ))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(now_ms)" -lt "$end" ] || { echo "NEVER $*"; return 1; }
        sleep 0.4
    done
}

prepare() {
    ifconfig lo 127.0.0.1 up
    insmod /modules/nvidia-stand-in.ko ids=10de:2684:1462:5102 || echo "no stand-in for the driver"
    for f in $D/*; do # the other card of that kind is nobody's
        [ "$(cat "$f/device")" != 0x2684 ] || [ "$(basename "$f")" = 0000:01:00.0 ] || basename "$f" >"$f/driver/unbind"
    done
    i=$S/vms/images/tiny
    mkdir -p $i
    qemu-img create -q -f qcow2 $i/disk.qcow2 64M
    cp /tiny.elf $i/kernel
    echo '{"version": 1, "name": "tiny", "sha256": "0", "source": "test", "append": "", "virtual_bytes": 67108864, "created_ms": 1,' \
        '"has_kernel": true, "has_initrd": false}' >$i/image.json
    J=$S/vfio
}

start_host() {
    kohakuriver host --state-dir=/run/host --heartbeat-ms=300 --offline-after-ms=4000 >/run/host.log 2>&1 &
    host_pid=$!
    until_ok 20 kohakuriver node list
}

# In the environment of the caller, with a crash point for instance; more options behind.
start_runner() {
    cat /run/runner.log >>/run/runners.log 2>/dev/null
    : >/run/runner.log
    kohakuriver runner --node-name=n --state-dir=$S --join-token-file=/run/host/join-token --engine=simulated --default-image=img \
        --nvml-library=/lib/libnvidia-ml.so.1 --gpu-interval-ms=300 --gpu-deadline-ms=5000 --vm-accel=tcg --vm-stop-grace-ms=8000 \
        --drain-timeout-ms=4000 "$@" >>/run/runner.log 2>&1 &
    runner_pid=$!
}

# The runner that was started last: the host still takes the one before for online for a while.
connected() { grep -q "connected to" /run/runner.log && online; }
online() { kohakuriver node status n -f json | grep -q '"online": *true'; }
can_run() { kohakuriver node status n -f json | grep -q '"vm_ok": *true'; }

# state of GPU $1, as the cluster sees it
gpu_state() { kohakuriver gpu list -f json | tr -d '\n ' | sed 's/{"index":/\n&/g' | grep "^{\"index\":$1," | sed 's/.*"state":"\([a-z_]*\)".*/\1/'; }
gpu_is() { [ "$(gpu_state "$1")" = "$2" ]; }
vps_state() { kohakuriver vps status "$1" -f json | tr -d '\n ' | sed 's/.*"state":"\([a-z]*\)".*/\1/'; }
vps_is() { [ "$(vps_state "$1")" = "$2" ]; }
task_state() { kohakuriver task status "$1" -f json | tr -d '\n ' | sed 's/.*"state":"\([a-z]*\)".*/\1/'; }
task_is() { [ "$(task_state "$1")" = "$2" ]; }

# create NAME GPU […]
create() {
    name=$1 gpu=$2
    shift 2
    kohakuriver vps create --backend qemu -t "n::$gpu" --vm-image tiny --vm-memory 64 --vm-disk 64M --name "$name" --no-driver \
        --public-key-string "ssh-ed25519 AAAA t" "$@" 2>&1
}
qemu_pid() { pidof qemu-system-x86_64 vm1 vm2 2>/dev/null | tr ' ' '\n' | head -1; }
