#!/bin/bash
# Everything that can be said about the source without running it. Each check prints one line, its complaints when there
# are any; exit status 1 when one failed. A tool that is not installed is named and counts as a failure, so that a green
# run means that all was looked at. LINT="format rules" runs some of them.
set -uo pipefail
cd "$(dirname "$0")/.."

BUILD=${BUILD:-build-test}
JOBS=${JOBS:-$(nproc)}
CHECKS=${LINT:-rules format headers clang cppcheck tidy scripts web}
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0

sources() { git ls-files --cached --others --exclude-standard 'src/*.c' 'src/**/*.c' | sort -u; }
all_c() { git ls-files --cached --others --exclude-standard '*.c' '*.h' | sort -u; }
flags() { pkg-config --cflags glib-2.0 libuv libmicrohttpd libcurl jansson sqlite3 libsodium libsystemd smartcols; }
DEFINES='-std=gnu17 -D_GNU_SOURCE -DKR_VERSION="lint" -DG_LOG_DOMAIN="lint" -DKR_FAULT_POINTS=1 -Isrc'

check_rules() { /usr/bin/python3 tools/check_includes.py; }

check_format() { all_c | xargs clang-format --dry-run -Werror; }

# Every header compiles alone, with both compilers' eyes.
check_headers() {
    local flags status=0
    flags=$(flags)
    while read -r header; do
        # shellcheck disable=SC2086
        gcc $DEFINES $flags -Wall -Wextra -Werror -fsyntax-only -x c - <<<"#include \"${header#src/}\"" || status=1
    done < <(git ls-files --cached --others --exclude-standard 'src/*.h' 'src/**/*.h' | sort -u)
    return $status
}

# The whole program with clang, warnings as errors (the builds use gcc).
check_clang() {
    [ -f build-clang/build.ninja ] || CC=clang meson setup build-clang -Doptimization=0 -Dfault_points=true || return 1
    ninja -C build-clang -j"$JOBS"
}

check_cppcheck() {
    # shellcheck disable=SC2046
    cppcheck --quiet --std=c11 --library=gtk --enable=warning,performance,portability --inline-suppr -j"$JOBS" \
        --suppress=missingInclude --suppress=unknownMacro --error-exitcode=1 -Isrc -D_GNU_SOURCE \
        -DKR_VERSION='"x"' -DG_LOG_DOMAIN='"x"' $(sources)
}

check_tidy() {
    [ -f "$BUILD/compile_commands.json" ] || meson setup "$BUILD" -Dfault_points=true || return 1
    ninja -C "$BUILD" -j"$JOBS" || return 1 # generated headers
    sources | xargs -P"$JOBS" -n4 clang-tidy -p "$BUILD" --quiet 2>/dev/null
}

check_scripts() {
    local status=0
    while read -r script; do bash -n "$script" || status=1; done < <(git ls-files 'tools/*.sh' .ci/run)
    git ls-files '*.py' | while read -r script; do
        /usr/bin/python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$script" || exit 1
    done || status=1
    return $status
}

# The dashboard's types, strictly.
check_web() {
    /usr/bin/python3 tools/web_bundle.py build && (cd web && npm run --silent check)
}

for check in $CHECKS; do
    begin=$SECONDS
    if "check_$check" >"$out" 2>&1; then
        printf 'ok      %-9s %3d s\n' "$check" $((SECONDS - begin))
        [ "$check" != rules ] || sed 's/^/    /' "$out"
    else
        failed=1
        printf 'FAILED  %-9s %3d s\n' "$check" $((SECONDS - begin))
        # Without what build tools say when all is well.
        sed 's/^/    /' "$out" | grep -v '^ *\(ninja:\|\[[0-9]*/\|.* found: \|Compiler for C \|cc -\|clang -\)' | tail -80
    fi
done
exit $failed
