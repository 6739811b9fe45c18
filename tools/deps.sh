#!/bin/bash
# Installs the Debian packages that are missing. Does nothing, and needs no root, when all are there.
#   tools/deps.sh          what building and the demo need
#   tools/deps.sh --test   what the tests and `make lint`, `make fuzz` need besides
set -u

build=(build-essential meson ninja-build pkg-config libglib2.0-dev libuv1-dev libmicrohttpd-dev libwslay-dev
    libcurl4-openssl-dev libjansson-dev libsqlite3-dev libsodium-dev libsystemd-dev libsmartcols-dev libmnl-dev)
demo=(docker.io busybox-static mmdebstrap iproute2 iptables curl python3 ca-certificates procps util-linux)
check=(clang clang-tidy clang-format cppcheck libclang-rt-14-dev prometheus chromium fonts-dejavu-core)
machines=(nftables qemu-system-x86 qemu-utils openssh-client kmod lz4 mtools ovmf python3-yaml)

fail() {
    echo "deps: $*" >&2
    exit 1
}

# The dashboard is built with Node; one that does not come from a Debian package will do.
has_node() {
    local version
    command -v npm >/dev/null && version=$(node --version 2>/dev/null) && version=${version#v} && [ "${version%%.*}" -ge 18 ]
}

wanted=("${build[@]}" "${demo[@]}")
has_node || wanted+=(nodejs npm)
case "${1:-}" in
--test) wanted+=("${check[@]}" "${machines[@]}") ;;
"") ;;
*)
    echo "usage: tools/deps.sh [--test]" >&2
    exit 2
    ;;
esac

command -v dpkg-query >/dev/null ||
    fail "this is no Debian system; install what stands for: ${wanted[*]}"
installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^ii *//p')
missing=()
for package in "${wanted[@]}"; do
    grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

[ "$(id -u)" = 0 ] || fail "not installed: ${missing[*]} (run as root, or: apt-get install ${missing[*]})"
echo "deps: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
    "$@" >"$log" 2>&1 && return
    tail -n 5 "$log" >&2
    fail "failed: $*"
}
export DEBIAN_FRONTEND=noninteractive
run apt-get -qq -o DPkg::Lock::Timeout=300 update
run apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"
