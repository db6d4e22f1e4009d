#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Both ways to redirect a function, and others who want the same function: results stay right, or the conflict is
# refused by name.
#
# With redirect=1 (direct) and with redirect=2 (ipmodify):
# - apply and unload
# - function tracer, kprobe, kretprobe on the function, before the apply and after it; and within the new function
# - BPF fentry and fexit, before and after
# - sysctl kernel.ftrace_enabled=0, before and after
# - a livepatch, before and after
# - a jump that ftrace does not know of, before
# With redirect=0: direct, and ipmodify where a BPF program has the function.
# A live level is converted from the one to the other and back: BPF programs that were refused can be attached then; beside
# tracers and probes; who holds the function refuses it, and all is as before.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly FUNCTION=cmdline_proc_show
readonly LIVEPATCH=$KCARE_TARGET/tests/$RELEASE/livepatch/kcare_test_livepatch.ko
readonly FOREIGN=$KCARE_TARGET/tests/$RELEASE/foreign/kcare_test_foreign.ko

need_payloads cmdline
load_kcare redirect=1
original=$(</proc/cmdline)
patched="$original kcare=1"
conflict="patch refused (redirect-conflict): $FUNCTION is redirected already, by a livepatch, a BPF program or another patcher"
not_applied=$(applied_log 1 1 1 0 | sed '$d')
events=$TRACING/events/kprobes

apply() {
	is "apply" "$(kpush apply "$(payload cmdline)" | cut -f2-4)" $'ok\tok\t-'
}

unload() {
	is "unload" "$(kpush unload | cut -f2-4)" $'ok\tok\t-'
}

# result WHEN TEXT
result() {
	is "result $1" "$(</proc/cmdline)" "$2"
}

applied() {
	if [[ $strategy -eq 1 ]]; then
		applied_log 1 1 1 0
	else
		applied_log 1 1 0 1
	fi
}

# lines FILE PATTERN
lines() {
	grep -c -- "$2" "$1"
}

clear_tracing() {
	echo nop >"$TRACING/current_tracer"
	echo >"$TRACING/set_ftrace_filter"
	[[ ! -e $events ]] || echo 0 >"$events/enable"
	echo >"$TRACING/kprobe_events"
	echo >"$TRACING/trace"
}
on_exit clear_tracing

# bpf PROBE: attaches to the function; $tracer is the process, and its output is in $WORK/bpf.
bpf() {
	bpftrace -B line -e "$1:vmlinux:$FUNCTION { printf(\"hit\\n\") }" >"$WORK/bpf" 2>&1 &
	tracer=$!
	retry attached
}

# attached: bpftrace has attached, or has given up.
attached() {
	grep -A1 "^$FUNCTION " "$TRACING/enabled_functions" | grep -q bpf_trampoline || gone "$tracer"
}

unbpf() {
	interrupt "$tracer"
}

same_tests() {
	local strategy=$1 label=$2 hits offset

	start_test "$label: apply and unload"
	apply
	result "patched" "$patched"
	unload
	result "original" "$original"
	check_result "$(applied)
$(unloaded_log 1 1)"

	start_test "$label: function tracer before"
	echo "$FUNCTION" >"$TRACING/set_ftrace_filter"
	echo function >"$TRACING/current_tracer"
	result "traced" "$original"
	apply
	result "patched" "$patched"
	result "patched, again" "$patched"
	unload
	result "original" "$original"
	is "calls seen" "$(lines "$TRACING/trace" ": $FUNCTION <-")" 4
	clear_tracing
	check_result "$(applied)
$(unloaded_log 1 1)"

	start_test "$label: function tracer after"
	apply
	echo "$FUNCTION" >"$TRACING/set_ftrace_filter"
	echo function >"$TRACING/current_tracer"
	result "patched" "$patched"
	echo nop >"$TRACING/current_tracer"
	result "not traced any more" "$patched"
	echo function_graph >"$TRACING/current_tracer"
	result "graph-traced" "$patched"
	unload
	result "original" "$original"
	clear_tracing
	check_result "$(applied)
$(unloaded_log 1 1)"

	start_test "$label: the new function can be traced"
	apply
	echo "$FUNCTION:mod:kcare_1" >"$TRACING/set_ftrace_filter"
	is "filter" "$(<"$TRACING/set_ftrace_filter")" "$FUNCTION [kcare_1]"
	echo function >"$TRACING/current_tracer"
	result "patched" "$patched"
	is "calls seen" "$(lines "$TRACING/trace" ": $FUNCTION <-")" 1
	# It goes with the patch, although the tracer has it.
	unload
	result "original" "$original"
	clear_tracing
	check_result "$(applied)
$(unloaded_log 1 1)"

	start_test "$label: kprobe and kretprobe before"
	echo "p:kcare_entry $FUNCTION" >"$TRACING/kprobe_events"
	echo "r:kcare_return $FUNCTION \$retval:s32" >>"$TRACING/kprobe_events"
	echo 1 >"$events/enable"
	result "probed" "$original"
	apply
	result "patched" "$patched"
	unload
	result "original" "$original"
	is "entries" "$(lines "$TRACING/trace" kcare_entry:)" 3
	is "returns" "$(lines "$TRACING/trace" 'kcare_return: .*arg1=0')" 3
	clear_tracing
	check_result "$(applied)
$(unloaded_log 1 1)"

	start_test "$label: kprobe and kretprobe after"
	apply
	echo "p:kcare_entry $FUNCTION" >"$TRACING/kprobe_events"
	echo "r:kcare_return $FUNCTION \$retval:s32" >>"$TRACING/kprobe_events"
	echo 1 >"$events/enable"
	result "patched" "$patched"
	unload
	result "original" "$original"
	is "entries" "$(lines "$TRACING/trace" kcare_entry:)" 2
	is "returns" "$(lines "$TRACING/trace" 'kcare_return: .*arg1=0')" 2
	clear_tracing
	check_result "$(applied)
$(unloaded_log 1 1)"

	start_test "$label: kprobe within the old function"
	# Behind what fentry and ftrace use, at the first instruction that the kernel finds there.
	for ((offset = 12; offset < 32; offset++)); do
		echo "p:kcare_within $FUNCTION+$offset" >"$TRACING/kprobe_events" 2>/dev/null && break
	done
	echo 1 >"$events/enable"
	result "probed" "$original"
	answer=$(kpush apply "$(payload cmdline)")
	is "apply" "$(cut -f2-4 <<<"$answer")" $'EINVAL\tpreimage-mismatch\tfuncs[0]'
	like "message" "$(cut -f5 <<<"$answer")" \
		"^the code of $FUNCTION at \+0x[0-9a-f]+ is 0xcc and not 0x[0-9a-f]{2}: a breakpoint, as a kprobe sets it$"
	clear_tracing
	apply
	unload
	check_result

	start_test "$label: kprobe within the new function"
	apply
	for ((offset = 12; offset < 32; offset++)); do
		echo "p:kcare_within kcare_1:$FUNCTION+$offset" >"$TRACING/kprobe_events" 2>/dev/null && break
	done
	echo "p:kcare_entry kcare_1:$FUNCTION" >>"$TRACING/kprobe_events"
	echo 1 >"$events/enable"
	result "patched" "$patched"
	is "hits within" "$(lines "$TRACING/trace" kcare_within:)" 1
	is "hits at the entry" "$(lines "$TRACING/trace" kcare_entry:)" 1
	# The probes go with the code.
	unload
	result "original" "$original"
	is "probes that are left" "$(grep -v '\[GONE\]' /sys/kernel/debug/kprobes/list)" ""
	clear_tracing
	check_result "$(applied)
$(unloaded_log 1 1)"

	for probe in fentry fexit; do
		start_test "$label: BPF $probe before"
		bpf $probe
		result "traced" "$original"
		hits=1
		answer=$(kpush apply "$(payload cmdline)")
		if [[ $strategy -eq 1 ]]; then
			is "apply" "$(cut -f2-4 <<<"$answer")" $'EBUSY\tredirect-conflict\tfuncs[0]'
			like "message" "$(cut -f5 <<<"$answer")" "^$FUNCTION is redirected already"
			result "traced still" "$original"
			((++hits))
			wanted="$not_applied
$conflict"
		else
			is "apply" "$(cut -f2-4 <<<"$answer")" $'ok\tok\t-'
			result "patched" "$patched"
			unload
			result "traced still" "$original"
			((hits += 2))
			wanted="$(applied)
$(unloaded_log 1 1)"
		fi
		retry eval "[[ \$(lines $WORK/bpf '^hit') -eq $hits ]]"
		unbpf
		result "original" "$original"
		is "redirected" "$(redirected)" ""
		check_result "$wanted"

		start_test "$label: BPF $probe after"
		apply
		bpf $probe
		result "patched" "$patched"
		if [[ $strategy -eq 1 ]]; then
			# bpftrace has been told that there is a direct caller already (EINVAL).
			retry gone "$tracer"
			is "hits" "$(lines "$WORK/bpf" '^hit')" 0
		else
			retry eval "[[ \$(lines $WORK/bpf '^hit') -eq 1 ]]"
		fi
		unbpf
		result "patched still" "$patched"
		unload
		result "original" "$original"
		is "redirected" "$(redirected)" ""
		check_result "$(applied)
$(unloaded_log 1 1)"
	done

	start_test "$label: ftrace_enabled=0 after"
	apply
	sysctl_set kernel.ftrace_enabled 0
	is "ftrace_enabled" "$(sysctl_value kernel.ftrace_enabled)" 1
	result "patched" "$patched"
	unload
	result "original" "$original"
	sysctl_set kernel.ftrace_enabled 0
	is "ftrace_enabled" "$(sysctl_value kernel.ftrace_enabled)" 0
	check_result "$(applied)
$(unloaded_log 1 1)"

	start_test "$label: ftrace_enabled=0 before"
	state=$(state)
	answer=$(kpush apply "$(payload cmdline)")
	is "apply" "$(cut -f3 <<<"$answer")" redirect-failed
	like "message" "$(cut -f5 <<<"$answer")" 'kernel\.ftrace_enabled'
	is "state" "$(state)" "$state"
	result "original" "$original"
	sysctl_set kernel.ftrace_enabled 1
	apply
	result "patched" "$patched"
	unload
	check_result

	start_test "$label: livepatch before"
	succeeds insmod "$LIVEPATCH"
	retry grep -q 0 /sys/kernel/livepatch/kcare_test_livepatch/transition
	result "livepatched" livepatched
	is "apply" "$(kpush apply "$(payload cmdline)" | cut -f2-4)" $'EBUSY\tredirect-conflict\tfuncs[0]'
	result "livepatched still" livepatched
	remove_livepatch
	result "original" "$original"
	apply
	result "patched" "$patched"
	unload
	check_result "$not_applied
$conflict
$(applied)
$(unloaded_log 1 1)"

	start_test "$label: livepatch after"
	apply
	fails 1 insmod "$LIVEPATCH"
	like "insmod says" "$out" "busy"
	result "patched" "$patched"
	is "in /proc/modules" "$(grep -c '^kcare_test_livepatch ' /proc/modules)" 0
	unload
	result "original" "$original"
	succeeds insmod "$LIVEPATCH"
	result "livepatched" livepatched
	remove_livepatch
	result "original" "$original"
	check_result "$(applied)
$(unloaded_log 1 1)"

	start_test "$label: a jump that ftrace does not know of, before"
	succeeds insmod "$FOREIGN"
	is "apply" "$(kpush apply "$(payload cmdline)" | cut -f2-4)" $'EBUSY\tredirect-conflict\tfuncs[0]'
	result "original still" "$original"
	# At the sight of it ftrace would have shut itself down.
	echo schedule >"$TRACING/set_ftrace_filter"
	echo function >"$TRACING/current_tracer"
	retry grep -q schedule "$TRACING/trace"
	clear_tracing
	succeeds rmmod kcare_test_foreign
	apply
	result "patched" "$patched"
	unload
	check_result "$not_applied
patch refused (redirect-conflict): $FUNCTION is redirected already, by code that ftrace does not know of
$(applied)
$(unloaded_log 1 1)"
}

readonly PROBES=$KCARE_TARGET/tests/$RELEASE/probes/kcare_test_probes.ko

remove_livepatch() {
	retry grep -q 0 /sys/kernel/livepatch/kcare_test_livepatch/transition
	echo 0 >/sys/kernel/livepatch/kcare_test_livepatch/enabled
	retry rmmod kcare_test_livepatch
}

on_exit sysctl_set kernel.ftrace_enabled 1
same_tests 1 direct
reload_kcare redirect=2
same_tests 2 ipmodify

start_test "direct: kprobes that came without asking keep no change from being made"
reload_kcare redirect=1
apply
succeeds insmod "$PROBES"
result "patched" "$patched"
unload
result "original" "$original"
is "conflict" "$(kpush apply "$(payload cmdline)" | cut -f2,3)" $'EBUSY\tredirect-conflict'
result "original" "$original"
succeeds rmmod kcare_test_probes
apply
unload
check_result

start_test "auto: direct, and ipmodify beside a BPF program"
reload_kcare
apply
result "patched" "$patched"
unload
bpf fentry
apply
result "patched" "$patched"
retry eval "[[ \$(lines $WORK/bpf '^hit') -eq 1 ]]"
unbpf
result "patched still" "$patched"
unload
result "original" "$original"
check_result "registered device with node 10:N
$(applied_log 1 1 1 0)
$(unloaded_log 1 1)
$(applied_log 1 1 0 1)
$(unloaded_log 1 1)"

# convert NUMBER DIRECT IPMODIFY: what is live is redirected so from now on.
convert() {
	succeeds tee "$VIEWS/redirect" <<<"$1"
	is "redirect" "$(<"$VIEWS/redirect")" "$1"
	redirected_by "$2" "$3"
}

# refused NUMBER ERROR: the same, but all stays as it is.
refused() {
	local now
	now=$(<"$VIEWS/redirect")
	fails 1 tee "$VIEWS/redirect" <<<"$1"
	like "error" "$out" "$2"
	is "redirect still" "$(<"$VIEWS/redirect")" "$now"
}

# redirected_by DIRECT IPMODIFY: how kcare has the function, 0 or 1 each.
redirected_by() {
	local record
	record=$(grep -A2 "^$FUNCTION " "$TRACING/enabled_functions" | sed '3,$ { /^[^[:space:]]/d }')
	is "directly" "$(grep -cE '(redirect\.)?'"$FUNCTION"'.*\[kcare_1\]$' <<<"$record")" "$1"
	is "by IPMODIFY" "$(grep -c '^[^(]* ([0-9]*) [R ]* I ' <<<"$record")" "$2"
}

converted_log() {
	echo "redirect is $1 now: $2 direct, $3 ipmodify"
}

start_test "converted: BPF programs that were refused can be attached"
reload_kcare redirect=1
state=$(state)
apply
redirected_by 1 0
bpf fexit
retry gone "$tracer"
is "hits" "$(lines "$WORK/bpf" '^hit')" 0
convert 2 0 1
result "converted" "$patched"
for probe in fentry fexit; do
	bpf $probe
	result "traced" "$patched"
	retry eval "[[ \$(lines $WORK/bpf '^hit') -eq 1 ]]"
	# There can be one direct caller only.
	refused 1 "Device or resource busy"
	result "traced" "$patched"
	convert 0 0 1
	result "traced" "$patched"
	retry eval "[[ \$(lines $WORK/bpf '^hit') -eq 3 ]]"
	unbpf
	result "patched still" "$patched"
	convert 2 0 1
done
convert 0 1 0
result "converted back" "$patched"
convert 2 0 1
convert 1 1 0
unload
result "original" "$original"
is "state" "$(state)" "$state"
check_result "registered device with node 10:N
$(applied_log 1 1 1 0)
$(converted_log 2 0 1)
redirect refused (redirect-conflict): ${conflict#*: }
$(converted_log 0 0 1)
$(converted_log 2 0 1)
redirect refused (redirect-conflict): ${conflict#*: }
$(converted_log 0 0 1)
$(converted_log 2 0 1)
$(converted_log 0 1 0)
$(converted_log 2 0 1)
$(converted_log 1 1 0)
$(unloaded_log 1 1)"

start_test "converted beside the function tracer, a kprobe and a kretprobe"
apply
echo "p:kcare_entry $FUNCTION" >"$TRACING/kprobe_events"
echo "r:kcare_return $FUNCTION \$retval:s32" >>"$TRACING/kprobe_events"
echo 1 >"$events/enable"
echo "$FUNCTION" >"$TRACING/set_ftrace_filter"
echo function >"$TRACING/current_tracer"
for way in 2 0 2 1; do
	succeeds tee "$VIEWS/redirect" <<<"$way"
	result "redirect=$way" "$patched"
done
# In front of the original, and in the new body.
is "calls seen" "$(lines "$TRACING/trace" ": $FUNCTION <-")" 8
is "entries" "$(lines "$TRACING/trace" kcare_entry:)" 4
is "returns" "$(lines "$TRACING/trace" 'kcare_return: .*arg1=0')" 4
clear_tracing
redirected_by 1 0
result "patched" "$patched"
unload
is "state" "$(state)" "$state"
check_result

start_test "converted: levels and livepatches that come later"
apply
convert 2 0 1
fails 1 insmod "$LIVEPATCH"
like "insmod says" "$out" "busy"
result "patched" "$patched"
unload
result "original" "$original"
apply
redirected_by 0 1
convert 1 1 0
fails 1 insmod "$LIVEPATCH"
like "insmod says" "$out" "busy"
result "patched" "$patched"
unload
is "state" "$(state)" "$state"
check_result

start_test "not converted: a kprobe holds the function, no such way, no right to"
apply
succeeds insmod "$PROBES"
refused 2 "Device or resource busy"
result "patched" "$patched"
succeeds rmmod kcare_test_probes
redirected_by 1 0
for text in 3 -1 two ''; do
	refused "$text" "Invalid argument"
done
fails 1 setpriv --bounding-set -sys_module --inh-caps -sys_module tee "$VIEWS/redirect" <<<2
like "error" "$out" "Operation not permitted"
fails 1 setpriv --reuid 65534 --clear-groups tee "$VIEWS/redirect" <<<2
like "error" "$out" "Permission denied"
redirected_by 1 0
result "patched" "$patched"
convert 2 0 1
convert 1 1 0
unload
is "state" "$(state)" "$state"
is "failures" "$(kpush info | sed -n 's/^failures //p')" 3
check_result
