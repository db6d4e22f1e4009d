#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's own selftests of livepatch and its test modules, from the source of this very release, beside kcare.
#
# - upstream's scripts, unmodified, while a level is live on other functions, of vmlinux and of a module: they pass, the
#   level stays as it is, and kcare logs nothing
# - test-ftrace.sh wants to turn ftrace off, which a live redirect does not allow: it skips itself then, and passes with
#   a level that waits for its module; a livepatched function is traced beside one that does not wait
# - livepatches of upstream's on functions that kcare has, and the other way round: all of it is refused, or all of it
#   goes live, and what was there stays (test-redirect.sh has it for a livepatch of our own, for both ways to redirect)
# - a kprobe that may change where a function goes on, before and after
# - a level goes in and out while a livepatch cannot finish

#@ timeout: 900

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly UPSTREAM=$KCARE_TARGET/tests/$RELEASE/upstream/livepatch KLP=/sys/kernel/livepatch

[[ -s $UPSTREAM/../made ]] || die "upstream's tests are not built for $RELEASE"
need_payloads beside module cmdline multi getpid
# Where upstream looks for the kernel's build tree, if only to see that it is there; it has been built in that.
export KDIR=$KCARE_TARGET/kernels/$RELEASE/build
load_kcare redirect=1
modprobe -r dummy 2>/dev/null
cmdline=$(</proc/cmdline)
readonly LIVEPATCHED='test_klp_livepatch: this has been live patched'
readonly REPLACED='test_klp_atomic_replace: this has been live patched'

applies() {
	is "apply $1" "$(apply "$1")" $'ok\tok'
}

unloads() {
	is "unload" "$(back unload)" $'ok\tok'
}

# line3: the name in the line of /proc/meminfo that upstream's patch replaces as a whole, and multi moves.
line3() {
	sed -n '3s/:.*//p' /proc/meminfo
}

# klp MODULE [PARAMETER]...: upstream's livepatch goes live.
klp() {
	local module=$1
	shift
	succeeds insmod "$UPSTREAM/test_modules/$module.ko" "$@"
	retry grep -q 0 "$KLP/$module/transition"
}

# klp_off MODULE: it goes.
klp_off() {
	echo 0 >"$KLP/$1/enabled"
	retry rmmod "$1"
}

# -------------------------------------------------------------------------------------- upstream's scripts

# upstream NAME [REASON]: runs test-NAME.sh, all of it. With REASON, it must skip itself for that.
upstream() {
	local script=$UPSTREAM/test-$1.sh before
	start_test "$label: upstream's test-$1.sh"
	before=$(state)
	run env -C "$UPSTREAM" "$script"
	printf '%s\n' "$out" | sed 's/^/# /'
	if [[ $# -gt 1 ]]; then
		is "status" "$status" "$SKIP"
		is "reason" "$(sed -n 's/^.*SKIP: //p' <<<"$out")" "$2"
	else
		is "status" "$status" 0
		is "tests that passed" "$(grep -c '^TEST: .* \.\.\. ok$' <<<"$out")" "$(grep -c '^[[:space:]]*start_test "' "$script")"
	fi
	is "state" "$(state)" "$before"
	is "livepatches" "$(livepatches)" ""
	is "our mark in the log" "$(dmesg | grep -cF "$mark")" 1
	is "what kcare logs" "$(kcare_log)" ""
	if [[ $# -gt 1 && $good -eq 1 ]]; then
		skip_test "upstream's own: $2"
	else
		check_result
	fi
}

# livepatches: those of the kernel's own kind.
livepatches() {
	find "$KLP" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | xargs
}

# beside_live: the level's functions do what they should.
beside_live() {
	start_test "$label: the level works"
	like "/proc/version" "$(</proc/version)" '^kcare reads: '
	is "eventfd" "$(evfd value)" 1001
	is "module" "$(cat /sys/class/net/dummy0/statistics/collisions)" 4243
	check_result
}

modprobe dummy numdummies=1
label=direct
applies beside
beside_live
for script in livepatch callbacks shadow-vars state sysfs syscall kprobe; do
	upstream "$script"
done
upstream ftrace "failed to set kernel.ftrace_enabled = 0"

start_test "$label: a livepatched function is traced"
klp test_klp_livepatch
echo 'cmdline_proc_show livepatch_cmdline_proc_show' >"$TRACING/set_ftrace_filter"
echo function >"$TRACING/current_tracer"
is "/proc/cmdline" "$(</proc/cmdline)" "$LIVEPATCHED"
is "calls seen" "$(grep -oE ': (livepatch_)?cmdline_proc_show <-' "$TRACING/trace" | sort | xargs)" \
	": cmdline_proc_show <- : livepatch_cmdline_proc_show <-"
echo nop >"$TRACING/current_tracer"
echo >"$TRACING/set_ftrace_filter"
klp_off test_klp_livepatch
check_result ""
beside_live
unloads

# What depends on the way to redirect.
label=ipmodify
reload_kcare redirect=2
applies beside
beside_live
for script in livepatch kprobe; do
	upstream "$script"
done
beside_live
unloads

label="a level that waits for its module"
reload_kcare
modprobe -r dummy
applies module
upstream ftrace
modprobe dummy numdummies=1
start_test "$label: the module comes"
is "patched" "$(cat /sys/class/net/dummy0/statistics/collisions)" 4243
unloads
check_result

# ------------------------------------------------------------------------------------------ same functions

# klp_refused MODULE FUNCTION [PARAMETER]...: a livepatch for a function that is taken.
klp_refused() {
	local module=$1 function=$2
	shift 2
	fails 1 insmod "$UPSTREAM/test_modules/$module.ko" "$@"
	like "insmod says" "$out" "Device or resource busy"
	is "livepatch says" "$(log | grep "^livepatch: failed to register" | tail -n 1)" \
		"livepatch: failed to register ftrace handler for function '$function' (-16)"
	is "in /proc/modules" "$(grep -c "^$module " /proc/modules)" 0
}

# refused NAME FUNCTION: a payload for a function that is taken.
refused() {
	local answer
	answer=$(kpush apply "$(payload "$1")")
	is "apply $1" "$(answer errno "$answer") $(answer reason "$answer")" "EBUSY redirect-conflict"
	like "message" "$(answer text "$answer")" "^$2 is redirected already, by a livepatch"
}

# probes: the functions that have a kprobe.
probes() {
	awk '{ sub(/\+.*/, "", $3); print $3 }' /sys/kernel/debug/kprobes/list
}

# pid_of_named: what getpid() gives a task whose name is that of the test patch, and whether it is right.
pid_of_named() {
	python3 -c '
import os
real = os.getpid()
open("/proc/self/comm", "w").write("kcare-pid")
print("real" if os.getpid() == real else os.getpid())'
}

same_functions() {
	start_test "$label: livepatches of functions that a level has"
	applies multi
	before=$(state)
	klp_refused test_klp_livepatch cmdline_proc_show
	klp_refused test_klp_atomic_replace meminfo_proc_show replace=1
	is "state" "$(state)" "$before"
	is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline kcare.multi=1"
	is "/proc/meminfo" "$(line3)" KcareMulti
	is "livepatches" "$(livepatches)" ""
	unloads
	klp test_klp_livepatch
	is "/proc/cmdline" "$(</proc/cmdline)" "$LIVEPATCHED"
	klp_off test_klp_livepatch
	is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline"
	check_result

	start_test "$label: a level of two functions, one of which has a livepatch"
	klp test_klp_atomic_replace
	refused multi meminfo_proc_show
	is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline"
	is "/proc/meminfo" "$(</proc/meminfo)" "$REPLACED"
	is "redirected" "$(redirected)" meminfo_proc_show
	applies cmdline
	is "/proc/cmdline, beside it" "$(</proc/cmdline)" "$cmdline kcare=1"
	is "/proc/meminfo, beside it" "$(</proc/meminfo)" "$REPLACED"
	klp_off test_klp_atomic_replace
	is "/proc/cmdline, alone" "$(</proc/cmdline)" "$cmdline kcare=1"
	is "/proc/meminfo, alone" "$(line3)" MemAvailable
	unloads
	applies multi
	unloads
	check_result

	start_test "$label: a livepatch gives a function up when another one replaces it"
	klp test_klp_livepatch
	refused cmdline cmdline_proc_show
	is "/proc/cmdline" "$(</proc/cmdline)" "$LIVEPATCHED"
	klp test_klp_atomic_replace replace=1
	retry rmmod test_klp_livepatch
	applies cmdline
	is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline kcare=1"
	is "/proc/meminfo" "$(</proc/meminfo)" "$REPLACED"
	unloads
	klp_off test_klp_atomic_replace
	is "redirected" "$(redirected)" ""
	check_result

	start_test "$label: the same system call"
	applies getpid
	is "getpid" "$(pid_of_named)" 4243
	klp_refused test_klp_syscall __x64_sys_getpid
	is "getpid still" "$(pid_of_named)" 4243
	unloads
	klp test_klp_syscall
	refused getpid __x64_sys_getpid
	is "getpid" "$(pid_of_named)" real
	klp_off test_klp_syscall
	applies getpid
	is "getpid" "$(pid_of_named)" 4243
	unloads
	is "getpid" "$(pid_of_named)" real
	check_result

	# Such a probe owns the function's redirect, as only one may.
	start_test "$label: a kprobe with a post-handler on the function"
	succeeds insmod "$UPSTREAM/test_modules/test_klp_kprobe.ko" has_post_handler=y
	is "probes" "$(probes)" cmdline_proc_show
	refused cmdline cmdline_proc_show
	is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline"
	succeeds rmmod test_klp_kprobe
	applies cmdline
	# Linux 7.2 answers success and has no such probe (kernel/kprobes.c, __register_kprobe()).
	run insmod "$UPSTREAM/test_modules/test_klp_kprobe.ko" has_post_handler=y
	is "probes" "$(probes)" ""
	is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline kcare=1"
	[[ $status -ne 0 ]] || succeeds rmmod test_klp_kprobe
	is "/proc/cmdline still" "$(</proc/cmdline)" "$cmdline kcare=1"
	unloads
	check_result

	start_test "$label: a kprobe without one"
	succeeds insmod "$UPSTREAM/test_modules/test_klp_kprobe.ko" has_post_handler=n
	is "probes" "$(probes)" cmdline_proc_show
	applies cmdline
	is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline kcare=1"
	succeeds rmmod test_klp_kprobe
	is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline kcare=1"
	succeeds insmod "$UPSTREAM/test_modules/test_klp_kprobe.ko" has_post_handler=n
	is "probes" "$(probes)" cmdline_proc_show
	unloads
	is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline"
	succeeds rmmod test_klp_kprobe
	check_result
}

label=direct
reload_kcare redirect=1
same_functions
label=ipmodify
reload_kcare redirect=2
same_functions

start_test "a level goes in and out while a livepatch cannot finish"
succeeds insmod "$UPSTREAM/test_modules/test_klp_callbacks_busy.ko" block_transition=Y
succeeds insmod "$UPSTREAM/test_modules/test_klp_callbacks_demo.ko"
is "in transition" "$(<"$KLP/test_klp_callbacks_demo/transition")" 1
applies multi
is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline kcare.multi=1"
unloads
is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline"
applies cmdline
is "in transition still" "$(<"$KLP/test_klp_callbacks_demo/transition")" 1
echo N >/sys/module/test_klp_callbacks_busy/parameters/block_transition
retry grep -q 0 "$KLP/test_klp_callbacks_demo/transition"
is "/proc/cmdline" "$(</proc/cmdline)" "$cmdline kcare=1"
klp_off test_klp_callbacks_demo
succeeds rmmod test_klp_callbacks_busy
unloads
is "redirected" "$(redirected)" ""
check_result
