#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# On a CPU with Indirect Branch Tracking. Where an indirect call or jump gets to anything but an ENDBR instruction, the
# kernel says "Missing ENDBR" and that is a BUG, so that the machine ends.
#
# - levels come and go, by both ways to redirect, and what they change is called: through the kernel's tables, through
#   patch code's own indirect calls, static branches and static calls; callbacks
# - a module that comes later
# - a tracer in front of the old function and of the new one
# - by IPMODIFY beside a BPF program that calls the function by itself (fexit): the address of what it calls is that of
#   a trampoline while a level waits for a task, and afterwards of code for a function that had no ENDBR

#@ accel: bochs
#@ timeout: 1800

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads cmdline levels-2 levels-3 multi new-data blocked-eventfd eventfd-static residency-eventfd getcwd extable getpid static-key callbacks callbacks-2 shadow state-1 state-2 syscall syscall-2 static-call module
grep -q ' ibt ' /proc/cpuinfo || skip "the CPU has no Indirect Branch Tracking"
load_kcare redirect=1
state=$(state)
on_exit modprobe -r dummy

# PAYLOAD|COMMAND|what it prints with the level, and not without.
readonly SHOWN='
cmdline|cat /proc/cmdline|kcare=1$
levels-2|cat /proc/meminfo|KcareMulti
levels-3|evfd value|^1001$
multi|cat /proc/cmdline|kcare\.multi=1$
new-data|cat /proc/version|^kcare reads
blocked-eventfd|evfd value|^1001$
eventfd-static|system_call 284 4243|^-33$
residency-eventfd|evfd poke 4208|^4208$
residency-eventfd|evfd poke 4207|^4207$
residency-eventfd|evfd poke 4206|^2$
getcwd|system_call 79 0 4243|^-33$
extable|system_call 309 0 0 1|^-14$
getpid|pid|^4243$
static-key|cat /proc/cmdline|kcare\.key=off$
callbacks|cat /proc/cmdline|kcare\.callbacks=1$
callbacks-2|cat /proc/version|^kcare kpatch: 
shadow|fdinfo|eventfd-new
state-1|sysctl_value kernel.print-fatal-signals|^4244$
state-2|sysctl_value kernel.print-fatal-signals|^4244$
syscall|system_call 95 0x14243|^-33$
syscall-2|system_call 95 0x14243|^-33$
static-call|cat /proc/cmdline|kcare\.call=
'

# system_call NUMBER ARGUMENT...: what it gives, an error as a negative number.
system_call() {
	python3 -S -c '
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
result = libc.syscall(*(int(word, 0) for word in sys.argv[1:]))
print(result if result >= 0 else -ctypes.get_errno())' "$@"
}

# pid: of a task with the name that getpid.patch knows.
pid() {
	(
		printf kcare-pid >"/proc/$BASHPID/comm"
		echo "$BASHPID"
	)
}

# fdinfo: of a new eventfd.
fdinfo() {
	python3 -S -c 'import os; print(open(f"/proc/self/fdinfo/{os.eventfd(1)}").read())'
}

# exit_traced FUNCTION: a BPF program runs when it returns, until `untraced`.
exit_traced() {
	echo >"$TRACING/trace"
	mkfifo "$WORK/bpf-end"
	bpf.py exit "$1" <"$WORK/bpf-end" >"$WORK/bpf" 2>&1 &
	tracer=$!
	exec 8>"$WORK/bpf-end"
	retry eval "grep -q attached $WORK/bpf || gone $tracer"
	is "bpf" "$(<"$WORK/bpf")" attached
}

untraced() {
	exec 8>&-
	wait "$tracer"
	rm "$WORK/bpf-end"
}

# hits: how often that program ran.
hits() {
	grep -c 'bpf_trace_printk: kcare-exit$' "$TRACING/trace"
}

# shared FUNCTION: ftrace calls kcare for it, and the program as well.
shared() {
	grep -qE "^$1 .* I " "$TRACING/enabled_functions"
}

start_test "Indirect Branch Tracking is on"
is "the kernel says" "$(dmesg --notime | grep -E '^CET detected|IBT selftest')" \
	"CET detected: Indirect Branch Tracking enabled"
check_result

same_tests() {
	local label=$1 payload command shown before=''

	start_test "$label: 20 levels in and out, and what they change is called"
	while IFS='|' read -r payload command shown; do
		[[ $payload ]] || continue
		if [[ $payload != "$before" ]]; then
			[[ -z $before ]] || is "unload $before" "$(back unload)" $'ok\tok'
			unlike "without $payload" "$($command)" "$shown"
			is "apply $payload" "$(apply "$payload")" $'ok\tok'
			before=$payload
		fi
		like "with $payload" "$($command)" "$shown"
	done <<<"$SHOWN"
	is "unload $before" "$(back unload)" $'ok\tok'
	is "state" "$(state)" "$state"
	check_result

	start_test "$label: a level replaces another one, and comes back"
	is "apply 1" "$(apply cmdline)" $'ok\tok'
	is "apply 2" "$(apply levels-2)" $'ok\tok'
	like "2" "$(</proc/cmdline)" 'kcare\.multi=1$'
	is "apply 3" "$(apply levels-3)" $'ok\tok'
	unlike "3" "$(</proc/cmdline)" 'kcare'
	is "rollback" "$(back rollback)" $'ok\tok'
	like "2 again" "$(</proc/cmdline)" 'kcare\.multi=1$'
	is "unload" "$(back unload)" $'ok\tok'
	is "state" "$(state)" "$state"
	check_result

	start_test "$label: a module that comes later"
	is "apply" "$(apply module)" $'ok\tok'
	succeeds modprobe dummy numdummies=1
	is "patched before its init" "$(cat /sys/class/net/dummy0/{statistics/collisions,mtu} | xargs)" "4243 4242"
	is "unload" "$(back unload)" $'ok\tok'
	is "unpatched" "$(</sys/class/net/dummy0/statistics/collisions)" 0
	succeeds modprobe -r dummy
	is "state" "$(state)" "$state"
	check_result

	start_test "$label: tracers in front of the old function and the new one"
	is "apply" "$(apply cmdline)" $'ok\tok'
	for tracer in function function_graph; do
		echo cmdline_proc_show >"$TRACING/set_ftrace_filter"
		echo "$tracer" >"$TRACING/current_tracer"
		like "$tracer" "$(</proc/cmdline)" 'kcare=1$'
		like "what it has seen" "$(<"$TRACING/trace")" cmdline_proc_show
		echo nop >"$TRACING/current_tracer"
	done
	echo >"$TRACING/set_ftrace_filter"
	is "unload" "$(back unload)" $'ok\tok'
	is "state" "$(state)" "$state"
	check_result
}

same_tests direct
reload_kcare redirect=2 timeout_ms=6000
same_tests ipmodify

start_test "fexit on a function that a level changes"
exit_traced cmdline_proc_show
unlike "before" "$(</proc/cmdline)" kcare
is "apply" "$(apply cmdline)" $'ok\tok'
like "with the level" "$(</proc/cmdline)" 'kcare=1$'
is "unload" "$(back unload)" $'ok\tok'
unlike "after" "$(</proc/cmdline)" kcare
is "hits" "$(hits)" 3
untraced
is "state" "$(state)" "$state"
check_result

start_test "fexit while a level waits for a task"
evfd sleep >"$WORK/sleeper" &
sleeper=$!
retry asleep_in "$sleeper" eventfd_read
exit_traced eventfd_read
apply blocked-eventfd >"$WORK/answer" &
applying=$!
retry shared eventfd_read
# Through the trampoline, to the old function.
is "while it waits" "$(evfd value)" 1
is "hits" "$(hits)" 1
kill -TERM "$sleeper"
wait "$sleeper" "$applying"
is "answer" "$(<"$WORK/answer")" $'ok\tok'
is "with the level" "$(evfd value)" 1001
is "unload" "$(back unload)" $'ok\tok'
is "after" "$(evfd value)" 1
untraced
is "state" "$(state)" "$state"
check_result

start_test "fexit on a function that is redirected directly, behind its conversion"
reload_kcare redirect=1 timeout_ms=6000
is "apply" "$(apply eventfd-static)" $'ok\tok'
succeeds tee "$VIEWS/redirect" <<<2
is "converted" "$(system_call 284 4243)" -33
exit_traced do_eventfd
is "traced" "$(system_call 284 4243)" -33
is "hits" "$(hits)" 1
untraced
succeeds tee "$VIEWS/redirect" <<<0
is "converted back" "$(system_call 284 4243)" -33
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

start_test "fexit on a function that had no ENDBR"
reload_kcare redirect=2 timeout_ms=6000
exit_traced do_eventfd
isnt "before" "$(system_call 284 4243)" -33
is "apply" "$(apply eventfd-static)" $'ok\tok'
is "with the level" "$(system_call 284 4243)" -33
is "unload" "$(back unload)" $'ok\tok'
isnt "after" "$(system_call 284 4243)" -33
is "hits" "$(hits)" 3
is "apply" "$(apply eventfd-static)" $'ok\tok'
untraced
is "without the program" "$(system_call 284 4243)" -33
exit_traced do_eventfd
is "with one that comes later" "$(system_call 284 4243)" -33
is "hits" "$(hits)" 1
untraced
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result
