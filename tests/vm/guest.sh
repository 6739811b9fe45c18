# Words for the tests inside the machine.
D=/sys/bus/pci/devices
J=/run/vfio

# "edu snd_hda_intel - -!": the drivers of a slot's functions; ! after one whose driver_override is set.
drivers() {
    line=
    for f in "$D/$1".*; do
        d=-
        [ -e "$f/driver" ] && d=$(basename "$(readlink "$f/driver")")
        [ "$(cat "$f/driver_override")" = "(null)" ] || d="$d!"
        line="$line $d"
    done
    echo "${line# }"
}
say() { echo "$1 $2"; }
bind() { kohakuriver vfio-switch $J bind "$@"; }
give_back() { kohakuriver vfio-switch $J give-back "$@"; }
recover() { kohakuriver vfio-switch $J recover; }
journals() { ls $J 2>/dev/null | grep -c '\.json$'; }
now_ms() { awk '{ printf "%d\n", $1 * 1000 }' /proc/uptime; }
