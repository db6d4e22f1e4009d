#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Modules: patched when they are there, before their init when they come, released when they go.
#
# - a module that is live is patched and comes back; the parts are in /proc/modules
# - a module that comes later is patched before its init runs
# - a module that goes takes its part along, and its level stays; it comes again, and is patched again
# - two units of one module, and one new function of the kernel that a module's part uses
# - a level with a module's part replaces another one and is rolled back to, with the module gone and back between
# - a module of another build is not loaded while the level is live; with allow_unpatched=1 it is
# - a module is loaded and unloaded in a loop while levels come and go
# - nothing is lost

#@ append: slab_debug=FZPU,kmalloc-*

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads module module-2 module-outer cmdline
load_kcare
modprobe -r dummy zram 2>/dev/null
on_exit modprobe -r dummy zram
state=$(state)

collisions() {
	cat /sys/class/net/dummy0/statistics/collisions
}

mtu() {
	cat /sys/class/net/dummy0/mtu
}

# parts: what is in the module list of the levels.
parts() {
	grep -o '^kcare_[0-9][^ ]*' /proc/modules | sort | xargs
}

# told: what /dev/kcare says about modules.
told() {
	sed -n 's/^module: //p' /dev/kcare | xargs
}

# base_log: of a level that has nothing for vmlinux.
base_log() {
	cat <<-EOT
		verifying patch...
		verified successfully
		allocated N bytes for patch at kcare_1
		0 relocations to fixup...
		fixed 0 relocations
	EOT
}

# part_log LEVEL MODULE: of a part that is loaded.
part_log() {
	cat <<-EOT
		allocated N bytes for patch at kcare_$1_$2
		N relocations to fixup...
		fixed N relocations
	EOT
}

start_test "a module that is live"
modprobe dummy numdummies=1
is "before" "$(collisions) $(mtu)" "0 1500"
is "apply" "$(apply module)" $'ok\tok'
is "patched" "$(collisions) $(mtu)" "4243 1500"
is "parts" "$(parts)" "kcare_1 kcare_1_dummy"
is "told" "$(told)" "dummy patched"
is "redirected" "$(redirected)" "dummy_get_stats64 dummy_setup"
is "a name in the part" "$(grep -c ' dummy_get_stats64.*\[kcare_1_dummy\]' /proc/kallsyms)" 1
is "unload" "$(back unload)" $'ok\tok'
is "unpatched" "$(collisions)" 0
is "state" "$(state | grep -v '^modules')" "$(grep -v '^modules' <<<"$state")"
check_result "$(base_log)
$(part_log 1 dummy)
patch level 1 applied: 2 functions switched (2 direct, 0 ipmodify), stopped for N us, N retries
$(unloaded_log 1 2)"

start_test "a module goes while its level is live, and comes again"
is "apply" "$(apply module)" $'ok\tok'
succeeds modprobe -r dummy
is "parts" "$(parts)" "kcare_1"
is "told" "$(told)" "dummy waiting"
is "redirected" "$(redirected)" ""
is "info" "$(kpush info | grep -E '^(level|functions) ' | xargs)" "level 1 functions 0"
succeeds modprobe dummy numdummies=1
is "patched before its init" "$(collisions) $(mtu)" "4243 4242"
is "parts" "$(parts)" "kcare_1 kcare_1_dummy"
is "told" "$(told)" "dummy patched"
is "unload" "$(back unload)" $'ok\tok'
is "unpatched" "$(collisions) $(mtu)" "0 4242"
succeeds modprobe -r dummy
is "state" "$(state)" "$state"
check_result "$(base_log)
$(part_log 1 dummy)
patch level 1 applied: 2 functions switched (2 direct, 0 ipmodify), stopped for N us, N retries
module dummy goes, and its patch with it
$(part_log 1 dummy)
module dummy patched: 2 functions of patch level 1
$(unloaded_log 1 2)"

start_test "the level first, the module later"
is "apply" "$(apply module)" $'ok\tok'
is "told" "$(told)" "dummy waiting"
succeeds modprobe dummy numdummies=1
is "patched before its init" "$(collisions) $(mtu)" "4243 4242"
is "unload" "$(back unload)" $'ok\tok'
succeeds modprobe -r dummy
is "state" "$(state)" "$state"
check_result

start_test "two units of one module"
modprobe zram
is "before" "$(cat /sys/block/zram0/initstate)" 0
is "apply" "$(apply module-2)" $'ok\tok'
is "one unit" "$(cat /sys/block/zram0/initstate)" "0 kcare.zram=1"
like "the other one" "$(cat /sys/block/zram0/comp_algorithm)" 'kcare$'
is "unload" "$(back unload)" $'ok\tok'
is "after" "$(cat /sys/block/zram0/initstate)" 0
modprobe -r zram
is "state" "$(state)" "$state"
check_result

start_test "a module's part uses what is new in the kernel"
modprobe dummy numdummies=1
is "apply" "$(apply module-outer)" $'ok\tok'
before=$(collisions)
for _ in 1 2 3; do cat /proc/cmdline >/dev/null; done
is "reads of /proc/cmdline" $(($(collisions) - before)) 3
is "redirected" "$(redirected)" "cmdline_proc_show dummy_get_stats64"
succeeds modprobe -r dummy
succeeds modprobe dummy numdummies=1
before=$(collisions)
cat /proc/cmdline >/dev/null
is "reads, in a module that has come again" $(($(collisions) - before)) 1
is "unload" "$(back unload)" $'ok\tok'
is "unpatched" "$(collisions)" 0
modprobe -r dummy
is "state" "$(state)" "$state"
check_result

start_test "levels replace one another, and the module goes and comes between"
modprobe dummy numdummies=1
is "apply 1" "$(apply module)" $'ok\tok'
is "apply 2" "$(apply module-2)" $'ok\tok'
is "level 2" "$(collisions)" 0
is "parts" "$(parts)" "kcare_1 kcare_1_dummy kcare_2"
succeeds modprobe -r dummy
is "parts" "$(parts)" "kcare_1 kcare_2"
succeeds modprobe dummy numdummies=1
is "parts" "$(parts)" "kcare_1 kcare_1_dummy kcare_2"
is "level 2" "$(collisions) $(mtu)" "0 1500"
is "rollback" "$(back rollback)" $'ok\tok'
is "level 1" "$(collisions)" 4243
is "parts" "$(parts)" "kcare_1 kcare_1_dummy"
is "apply 2" "$(apply module-2)" $'ok\tok'
is "unload" "$(back unload)" $'ok\tok'
is "unpatched" "$(collisions)" 0
modprobe -r dummy
is "state" "$(state)" "$state"
check_result

# A copy whose build-id has one other byte, as a rebuilt module has.
other=$WORK/dummy.ko
python3 - "$(modinfo -n dummy)" "$other" <<'EOT'
import lzma, sys
file, copy = sys.argv[1:]
data = bytearray((lzma.open if file.endswith(".xz") else open)(file, "rb").read())
data[data.index(b"\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0") + 16] ^= 1
# The kernel's signature, if there is one, is over other bytes now; without its mark there is none.
end = data.rfind(b"~Module signature appended~")
open(copy, "wb").write(data[:end] if end >= 0 else data)
EOT

start_test "another build of the module is not loaded"
is "apply" "$(apply module)" $'ok\tok'
fails 1 insmod "$other" numdummies=1
is "parts" "$(parts)" "kcare_1"
like "log" "$(kcare_log | tail -n 2 | head -n 1)" '^module refused \(wrong-build-id\): part dummy: it is for module dummy with build-id [0-9a-f]+, and the one that is loaded has [0-9a-f]+ in its place$'
is "log, the end" "$(kcare_log | tail -n 1)" "module dummy is not loaded"
succeeds modprobe dummy numdummies=1
is "the right one" "$(collisions)" 4243
modprobe -r dummy
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

start_test "another build of a module that is live, and of one with allow_unpatched=1"
insmod "$other" numdummies=1
is "apply" "$(apply module)" $'EINVAL\twrong-build-id'
rmmod dummy
is "state" "$(state)" "$state"
reload_kcare allow_unpatched=1
is "apply" "$(apply module)" $'ok\tok'
succeeds insmod "$other" numdummies=1
is "unpatched" "$(collisions)" 0
is "told" "$(told)" "dummy waiting"
like "history" "$(kcarectl --history | tail -n 1)" 'UTC  module .* wrong-build-id  [a-z_0-9]+ came$'
rmmod dummy
is "unload" "$(back unload)" $'ok\tok'
reload_kcare
check_result

start_test "another build of a module, which no level knows"
is "apply" "$(apply module)" $'ok\tok'
is "apply 3" "$(apply module-outer)" $'ok\tok'
fails 1 insmod "$other" numdummies=1
is "log" "$(kcare_log | tail -n 1)" "module dummy is not loaded"
is "still kept" "$(<"$VIEWS/previous_level")" 1
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

start_test "another build of a module, which only the level for a rollback does not know"
is "apply" "$(apply module)" $'ok\tok'
is "apply 2" "$(apply module-2)" $'ok\tok'
is "kept" "$(<"$VIEWS/previous_level")" 1
succeeds insmod "$other" numdummies=1
like "log" "$(kcare_log | tail -n 1)" '^patch level 1 is no longer kept for a rollback: part dummy: it is for module dummy with build-id '
is "kept" "$(<"$VIEWS/previous_level")" 0
is "rollback" "$(back rollback)" $'ENOENT\tno-previous'
is "told" "$(told)" "zram waiting"
rmmod dummy
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

start_test "a module in a loop while levels come and go"
come_and_go() {
	local end=$((SECONDS + 10))
	while [[ $SECONDS -lt $end ]]; do
		modprobe dummy numdummies=1 || echo "modprobe failed"
		modprobe -r dummy || echo "modprobe -r failed"
	done
}
both() {
	local loop way
	ways=0
	come_and_go >"$WORK/loop" 2>&1 &
	loop=$!
	while kill -0 "$loop" 2>/dev/null; do
		for way in "apply module" "apply module-2" "apply module-outer" "back rollback" "apply module-outer" "back unload" \
			"apply cmdline" "back unload"; do
			is "$way" "$($way)" $'ok\tok'
			((++ways))
		done
	done
	wait "$loop"
	is "the loop" "$(<"$WORK/loop")" ""
	isnt "ways" "$ways" 0
	is "state" "$(state)" "$state"
}
lost both >"$WORK/lost"
is "lost" "$(<"$WORK/lost")" ""
log | grep -E 'WARNING|BUG|Oops|Call Trace' >"$WORK/bad"
is "bad lines in the log" "$(<"$WORK/bad")" ""
check_result
