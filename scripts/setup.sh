#!/usr/bin/env bash
# Set up what edgequant needs on a Debian-like machine: system packages, .venv, Python packages.
#
#     scripts/setup.sh [demo|test]
#
# "demo" (the default) is what the demo needs; "test" also what only tests need. May be run as
# often as one likes: with nothing to do it returns at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

purpose=${1:-demo}
case $purpose in demo | test) ;; *) echo "usage: scripts/setup.sh [demo|test]" >&2; exit 2 ;; esac

venv=${VENV:-.venv}
stamp=$venv/.edgequant-setup-$purpose

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# --- System packages -----------------------------------------------------------------------------

missing=()
# need PACKAGE PROGRAM...: note the package unless one of the programs is there.
need() {
    local package=$1 program
    shift
    for program in "$@"; do
        if PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null; then return; fi
    done
    missing+=("$package")
}

# as_root COMMAND...: run as root where that is possible without asking anybody.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

apt_updated=no
# install_packages PACKAGE...: through apt; false where it did not work.
install_packages() {
    say "installing with apt: $*"
    if [ $apt_updated = no ]; then
        as_root apt-get update || say "apt-get update failed; trying with the lists that are there"
        apt_updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "$@"
}

install_hint() { printf 'apt-get update && apt-get install --yes %s   (as root)' "$*"; }

# provide required|optional: install what `need` noted, or say how.
provide() {
    local kind=$1
    [ ${#missing[@]} = 0 ] && return
    if may_install && install_packages "${missing[@]}"; then
        missing=()
        return
    fi
    say "these packages are missing and cannot be installed from here: ${missing[*]}"
    say "install them with: $(install_hint "${missing[@]}")"
    [ "$kind" = optional ] || fail "then run this again"
    missing=()
}

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    fail "a Debian-like machine is needed: the virtual board is made from Debian packages"
need qemu-system-arm qemu-system-aarch64
need e2fsprogs mke2fs
need openssh-client ssh-keygen
need util-linux setpriv
provide required

# --- Python --------------------------------------------------------------------------------------

# find_python: the first Python of at least 3.11, the one in $PYTHON before all others.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

fingerprint() {
    { cat pyproject.toml scripts/constraints.txt scripts/setup.sh; "$venv/bin/python" -VV; pwd; } | sha256sum
}

# is_current STAMP: was the environment set up from the very same files?
is_current() {
    [ -x "$venv/bin/python" ] && [ -f "$1" ] && [ "$(cat "$1")" = "$(fingerprint)" ]
}

if is_current "$stamp"; then exit 0; fi

# Asked for only when something changed: who cannot install them is told once, not every time.
need ccache ccache
if [ "$purpose" = test ]; then
    need qemu-user-static qemu-aarch64-static qemu-aarch64
    need gcc gcc cc
    # Without recommended packages, Debian's gcc comes without the C library's headers.
    [ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
    need mount mount
    # The report is tried in a real browser.
    need chromium chromium chromium-browser
    # The three ways to build: zig comes with the Python packages.
    need g++-aarch64-linux-gnu aarch64-linux-gnu-g++
    need buildah podman buildah
    need mmdebstrap mmdebstrap
    # Where systemd runs, Debian's package also starts a server: that is not ours to decide.
    if [ ! -d /run/systemd/system ]; then
        need openssh-server sshd
    elif ! PATH=$PATH:/usr/sbin command -v sshd >/dev/null; then
        say "SSH tests will be skipped: no sshd (the package openssh-server has it)"
    fi
fi
provide optional

# The Python packages are the same for both purposes.
if is_current "$venv/.edgequant-setup-demo" || is_current "$venv/.edgequant-setup-test"; then
    fingerprint >"$stamp"
    exit 0
fi

if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    if ! python=$(find_python); then
        missing=(python3 python3-venv)
        provide required
        python=$(find_python) || fail "Python 3.11 or later is needed; name one with PYTHON=..."
    fi
    # A Debian Python can make environments only with this package.
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        missing=("python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv")
        provide required
    fi
    say "making $venv with $("$python" -V)"
    "$python" -m venv --clear "$venv"
fi

say "installing Python packages into $venv (torch is the largest: about 200 MB as a CPU build)"
# pip says nothing while it unpacks, which takes a minute or two.
(while sleep 10 >/dev/null 2>&1; do say "installing ... (${SECONDS} s)"; done) &
heartbeat=$!
trap 'kill $heartbeat 2>/dev/null || true' EXIT
# The pip that comes with Python may lack options that fetching the pinned source uses.
"$venv/bin/python" -m pip install --upgrade 'pip>=24.1'
# llama-cpp-python is taken without its library: that is our own host build's. CMake asks for a
# compiler all the same; where the system has none, zig is one.
export CMAKE_ARGS=-DLLAMA_BUILD=OFF
if ! command -v c++ >/dev/null; then
    "$venv/bin/python" -m pip install --editable '.[build]'
    export CC="$venv/bin/python -m ziglang cc" CXX="$venv/bin/python -m ziglang c++"
    case $venv in /*) ;; *) CC=$PWD/$CC CXX=$PWD/$CXX ;; esac
fi
"$venv/bin/python" -m pip install --constraint scripts/constraints.txt --editable '.[dev]'
fingerprint >"$stamp"
say "done"
