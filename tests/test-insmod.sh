#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Loading and unloading of kcare.ko.
#
# - the first line that it logs
# - insmod and rmmod 20 times leave nothing behind
# - an open device keeps the module
# - a live patch keeps the module
# - a wrong parameter, and a kernel that lacks a function or a variable, are refused with nothing left


#@ append: slab_debug=FZPU,kmalloc-*

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

[[ -e $KO ]] || skip "there is no kcare.ko for $RELEASE"
on_exit remove_kcare

# traces: everything that shows a loaded module, and its memory.
traces() {
	echo "modules: $(cut -d' ' -f1 /proc/modules | sort | xargs)"
	echo "symbols: $(grep -c '\[kcare' /proc/kallsyms)"
	echo "misc: $(grep -c ' kcare$' /proc/misc)"
	echo "nodes: $(stat -c %n /dev/kcare /proc/kcare /sys/class/misc/kcare /sys/module/kcare 2>/dev/null | xargs)"
	echo "keys: $(grep -cE '\.kcare|kcare development key' /proc/keys)"
	echo "probes: $(grep -c . /sys/kernel/debug/kprobes/list)"
	echo "redirected: $(redirected)"
	echo "traceable: $(grep -c '\[kcare' "$TRACING/available_filter_functions")"
}

cycle() {
	insmod "$KO" && rmmod kcare
}

start_test "a device, a keyring and one line in the log"
succeeds insmod "$KO"
is "mode and owner of the device" "$(stat -c '%a %U %F' /dev/kcare)" "600 root character special file"
is "keyring" "$(grep -c ' keyring .*\.kcare: 1$' /proc/keys)" 1
is "device number" "$(log | sed -n 's/^kcare: .*node //p')" "$(stat -c '%Hr:%Lr' /dev/kcare)"
succeeds rmmod kcare
check_result "registered device with node 10:N"

start_test "20 times leave nothing"
forget_keys
# The first time fills caches that are kept, such as that for executable memory.
traces >"$WORK/traces.before"
cycles=0
half() {
	local i
	for ((i = 0; i < 10; i++)); do
		cycle || break
	done
	is "cycles" "$i" 10
	((cycles += i))
}
lost half >"$WORK/lost"
is "lost" "$(<"$WORK/lost")" ""
traces >"$WORK/traces.after"
is "traces" "$(<"$WORK/traces.after")" "$(<"$WORK/traces.before")"
check_result "$(for ((i = 0; i < cycles; i++)); do echo "registered device with node 10:N"; done)"

start_test "an open device keeps the module"
succeeds insmod "$KO"
mkfifo "$WORK/hold"
kpush hold <"$WORK/hold" >"$WORK/held" &
exec 3>"$WORK/hold"
retry grep -q open "$WORK/held"
fails 1 rmmod kcare
like "rmmod says" "$out" "in use"
exec 3>&-
wait $!
succeeds rmmod kcare
check_result "registered device with node 10:N"

start_test "a live patch keeps the module"
need_payloads cmdline
succeeds insmod "$KO"
is "apply" "$(kpush apply "$(payload cmdline)" | cut -f2,3)" $'ok\tok'
fails 1 rmmod kcare
like "rmmod says" "$out" "in use"
is "still patched" "$(kpush info | grep ^state)" "state 1"
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
succeeds rmmod kcare
check_result "registered device with node 10:N
$(applied_log 1 1 1 0)
$(unloaded_log 1 1)"

start_test "an unknown strategy is refused"
fails 1 insmod "$KO" redirect=3
like "insmod says" "$out" "Invalid"
is "traces" "$(traces)" "$(<"$WORK/traces.before")"
check_result ""

# lacking NAME: a copy of the module that asks for a name of the same length which no kernel has. The first place is the
# string that it asks with; BTF comes behind it.
lacking() {
	python3 -c '
import sys
name, path, copy = sys.argv[1:]
old = open(path, "rb").read()
new = old.replace(f"\0{name}\0".encode(), f"\0{name[:-1]}%\0".encode(), 1)
assert new != old
open(copy, "wb").write(new)' "$1" "$KO" "$WORK/lacking.ko" || fail "the name $1 in kcare.ko" "none" "one"
}

for missing in module_finalize execmem_free module_notify_list; do
	start_test "a kernel without $missing is refused by name"
	lacking "$missing"
	fails 1 insmod "$WORK/lacking.ko"
	is "traces" "$(traces)" "$(<"$WORK/traces.before")"
	check_result "this kernel has no ${missing%?}%: it is not supported"
done
