#!/usr/bin/env bash
# Puts the libraries, the headers, tidegate.pc and the CMake package in place: ffi/install/install.sh PREFIX
# DESTDIR stands before every path, for who makes packages; LIBDIR is "lib" unless it is given; with KEEP_DEBUG=1 the shared library
# keeps what a debugger reads.
#
# Nothing of what is inside may meet what is in a program: librdkafka, OpenSSL, zlib and mimalloc's malloc stay local. In the shared
# library the linker sees to that. The static one is one object, in which every symbol but those of ffi/symbols.txt was made local:
# there, too, its malloc is used by its own code only, and the program keeps its own.
set -euo pipefail

prefix=${1:?usage: ffi/install/install.sh PREFIX}
root=$(cd "$(dirname "$0")/../.." && pwd)
built=${TIDEGATE_BUILT:-${CARGO_TARGET_DIR:-$root/target}/release}
libdir=${LIBDIR:-lib}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
major=${version%%.*}
symbols=$root/ffi/symbols.txt
# What the C library of a system has in its own files; the last line of `rustc --print native-static-libs`.
static_libs='-lgcc_s -lpthread -ldl -lm'

case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
to=${DESTDIR:-}$prefix
lib=$to/$libdir
mkdir -p "$lib/pkgconfig" "$lib/cmake/tidegate" "$to/include/tidegate"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The shared library, without what only a debugger reads.
shared=$lib/libtidegate.so.$version
if [ "${KEEP_DEBUG:-0}" = 1 ]; then
    cp "$built/libtidegate_ffi.so" "$work/shared"
else
    strip --strip-unneeded -o "$work/shared" "$built/libtidegate_ffi.so"
fi
install -m 755 "$work/shared" "$shared"
ln -sf "libtidegate.so.$version" "$lib/libtidegate.so.$major"
ln -sf "libtidegate.so.$major" "$lib/libtidegate.so"

# The static library. Rust's own objects carry bitcode of its compiler's LLVM, which other tools stumble over.
mapfile -t roots < <(sed 's/^/--undefined=/' "$symbols")
ld --relocatable -d --gc-sections "${roots[@]}" -o "$work/whole.o" "$built/libtidegate_ffi.a"
objcopy --strip-debug --remove-section=.llvmbc --remove-section=.llvmcmd --keep-global-symbols="$symbols" "$work/whole.o" "$work/local.o"
objcopy --strip-unneeded "$work/local.o" "$work/tidegate.o"
rm -f "$work/libtidegate.a"
ar rcs "$work/libtidegate.a" "$work/tidegate.o"
install -m 644 "$work/libtidegate.a" "$lib/libtidegate.a"

install -m 644 "$root/include/tidegate.h" "$root/include/tidegate.hpp" "$to/include/"
install -m 644 "$root"/include/tidegate/*.hpp "$to/include/tidegate/"

fill() {
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@VERSION@|$version|g" -e "s|@MAJOR@|$major|g" \
        -e "s|@STATIC_LIBS@|$static_libs|g" -e "s|@STATIC_LIBS_LIST@|${static_libs// /;}|g" "$root/ffi/install/$1" >"$work/filled"
    install -m 644 "$work/filled" "$2"
}
fill tidegate.pc.in "$lib/pkgconfig/tidegate.pc"
fill tidegate-config.cmake.in "$lib/cmake/tidegate/tidegate-config.cmake"
fill tidegate-config-version.cmake.in "$lib/cmake/tidegate/tidegate-config-version.cmake"

size() { du -b "$1" | awk '{ printf "%.1f MB", $1 / 1e6 }'; }
echo "installed tidegate $version in $prefix: $shared ($(size "$shared")), libtidegate.a ($(size "$lib/libtidegate.a"))"
