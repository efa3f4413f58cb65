#!/usr/bin/env bash
# What the tests of remote measuring talk to: an SSH server, adb, and two other machines' Python
# (3.9 as Debian 11 has it; 3.11 for aarch64, run by qemu). Where it cannot be installed, as this is
# no Debian or nobody may, the tests say so and are skipped.
#
#   bash tests/servers/install.sh      fills build/pythons, installs the rest with apt-get
set -uo pipefail
cd "$(dirname "$0")/../.."

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "tests/servers: no apt-get, or not root: tests that need servers may be skipped"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive

install() {
  local missing=()
  [ -x /usr/sbin/sshd ] || missing+=(openssh-server)
  command -v ssh >/dev/null || missing+=(openssh-client)
  command -v adb >/dev/null || missing+=(adb)
  command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
  [ ${#missing[@]} = 0 ] && return
  # The tests start a server of their own: the machine's stays off.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    trap "rm -f $policy" RETURN
  fi
  apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" >/dev/null
}

# other_python SUITE ARCHITECTURE PACKAGE…: unpacks packages of that suite into a folder of its own.
# The archive is the one that this machine gets its packages from.
other_python() {
  local suite=$1 architecture=$2 root=$PWD/build/pythons/$1-$2 archive state
  shift 2
  [ -x "$root/usr/bin/python3" ] && return
  archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $codename" |
    head -n 1)
  state=$(mktemp -d) || return
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/debs"
  echo "deb $archive $suite main" >"$state/sources.list"
  cat >"$state/apt.conf" <<EOF
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$state/lists";
Dir::State::status "/dev/null";
Dir::Cache "$state/cache";
APT::Architecture "$architecture";
APT::Architectures "$architecture";
APT::Sandbox::User "root";
EOF
  if APT_CONFIG=$state/apt.conf apt-get update --quiet=2 &&
    (cd "$state/debs" && APT_CONFIG=$state/apt.conf apt-get download --quiet=2 "$@"); then
    rm -rf "$root" && mkdir -p "$root"
    for package in "$state"/debs/*.deb; do dpkg-deb --extract "$package" "$root"; done
  fi
  rm -rf "$state"
  [ -d "$root" ]
}

apt-get update --quiet=2
install
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")

# wrapper ROOT COMMAND…: what is started as this Python. A process that it starts is one as well.
wrapper() {
  local python=$1/usr/bin/python3
  shift
  { echo '#!/bin/sh'; printf '%s\n' "$@"; } >"$python" && chmod +x "$python"
}

if [ "$(dpkg --print-architecture)" = amd64 ]; then
  old=$PWD/build/pythons/bullseye-amd64
  other_python bullseye amd64 python3.9-minimal libpython3.9-minimal libpython3.9-stdlib \
    libffi7 libssl1.1 &&
    wrapper "$old" "LD_LIBRARY_PATH='$old/usr/lib/x86_64-linux-gnu' exec '$old/usr/bin/python3.9' \"\$@\""
  arm=$PWD/build/pythons/bookworm-arm64
  other_python bookworm arm64 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib \
    libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libcrypt1 libuuid1 &&
    wrapper "$arm" "exec qemu-aarch64-static -L '$arm' -0 '$arm/usr/bin/python3' '$arm/usr/bin/python3.11' \"\$@\""
fi
exit 0
