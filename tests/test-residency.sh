#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Patch code is the kernel's own code: what the kernel does for its functions it does for those of a patch.
#
# - a warning is printed with the function's name and module, and the function goes on
# - a fault on a user's address is handled by the function's own exception table
# - a stack trace goes through the function and names it without doubt
# - a static branch and a static call take effect that are turned while the patch is live
# - an indirect call arrives
# - the tables go with the patch

# The warnings are wanted; that there is no other one is the last test.
#@ warnings: wanted

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads residency-eventfd
load_kcare
state=$(state)
push_sysctl kernel.task_delayacct 0
location='eventfd_write\+0x[0-9a-f]+/0x[0-9a-f]+ \[kcare_1\]'

start_test "the sizes that the patch knows are invalid without it"
for size in 4201 4202 4203 4204 4205 4206 4207 4208; do
	is "size $size" "$(evfd poke $size)" EINVAL
done
check_result ""

start_test "the patch goes live"
is "apply" "$(kpush apply "$(payload residency-eventfd)" | cut -f2,3)" $'ok\tok'
is "size 8" "$(evfd poke 8)" 8
is "size 7" "$(evfd poke 7)" EINVAL
check_result "$(applied_log 1 1 1 0)"

start_test "WARN_ON prints and returns"
is "result" "$(evfd poke 4203)" 4203
like "place" "$(log | grep WARNING:)" "^WARNING: .*fs/eventfd\.c:[0-9]+ .*$location"
like "instruction" "$(log | grep -m1 '^RIP: 0010:')" "^RIP: 0010:$location"
like "modules" "$(log | grep '^Modules linked in:')" ' kcare_1\('
is "result, again" "$(evfd poke 4203)" 4203
is "warnings" "$(log | grep -c '^WARNING:')" 2
is "ends" "$(log | grep -c -- '---\[ end trace')" 2
check_result

start_test "WARN_ON_ONCE prints once"
is "results" "$(for _ in 1 2 3; do evfd poke 4204; done | xargs)" "4204 4204 4204"
is "warnings" "$(log | grep -c '^WARNING:')" 1
like "place" "$(log | grep WARNING:)" "$location"
check_result

start_test "a fault gives EFAULT"
is "get_user, good address" "$(evfd poke 4201)" 4201
is "get_user, bad address" "$(evfd poke 4201 bad)" EFAULT
is "unsafe_get_user, good address" "$(evfd poke 4202)" 4202
is "unsafe_get_user, bad address" "$(evfd poke 4202 bad)" EFAULT
is "oopses" "$(log | grep -cE 'BUG:|Oops')" 0
check_result ""

start_test "a stack trace names the function"
is "result" "$(evfd poke 4205)" 4205
# What the unwinder is sure of, from the first frame to the last.
trace=$(log | sed -n '/^Call Trace:/,/^ <\/TASK>/p' | grep '^ [a-z_]')
is "functions" "$(sed 's/+.*//; s/\.cold$//' <<<"$trace" | xargs)" \
	"dump_stack_lvl eventfd_write vfs_write ksys_write do_syscall_64 entry_SYSCALL_64_after_hwframe"
like "the patch's" "$(grep eventfd_write <<<"$trace")" '^ eventfd_write(\.cold)?\+0x[0-9a-f]+/0x[0-9a-f]+ \[kcare_1\]$'
check_result

start_test "a static branch takes effect"
results=$(evfd poke 4206)
for value in 1 0 1 0; do
	sysctl_set kernel.task_delayacct $value
	results+=" $(evfd poke 4206)"
done
is "results" "$results" "2 1 2 1 2"
check_result ""

start_test "a static branch that is on when the patch comes"
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
sysctl_set kernel.task_delayacct 1
is "apply" "$(kpush apply "$(payload residency-eventfd)" | cut -f2,3)" $'ok\tok'
results=$(evfd poke 4206)
sysctl_set kernel.task_delayacct 0
is "results" "$results $(evfd poke 4206)" "1 2"
check_result "$(unloaded_log 1 1)
$(applied_log 1 1 1 0)"

# tracepoint_calls: what the patch calls for the tracepoint.
tracepoint_calls() {
	kcode calls eventfd_write kcare_1 | grep -E 'task_rename|__SCT__' | xargs
}
# events: what the tracepoint has recorded of the patch.
events() {
	grep -c 'task_rename: .*newcomm=kcare-test' "$TRACING/trace"
}

start_test "a static call takes effect"
event=$TRACING/events/task/task_rename
on_exit eval "echo 0 >$event/enable"
echo >"$TRACING/trace"
is "result" "$(evfd poke 4207)" 4207
is "recorded while off" "$(events)" 0
is "called while off" "$(tracepoint_calls)" "__traceiter_task_rename"
echo 1 >"$event/enable"
is "result" "$(evfd poke 4207)" 4207
is "recorded while on" "$(events)" 1
is "called while on" "$(tracepoint_calls)" "trace_event_raw_event_task_rename"
# A second one on the same tracepoint makes it go through the iterator.
bpftrace -B line -e 'tracepoint:task:task_rename { printf("new %s\n", args.newcomm) }' >"$WORK/bpftrace" 2>&1 &
tracer=$!
retry eval '[[ $(tracepoint_calls) == __traceiter_task_rename ]]'
is "called with two" "$(tracepoint_calls)" "__traceiter_task_rename"
is "result" "$(evfd poke 4207)" 4207
is "recorded with two" "$(events)" 2
retry grep -q 'new kcare-test' "$WORK/bpftrace"
echo 0 >"$event/enable"
is "called with the other one" "$(tracepoint_calls)" "perf_trace_task_rename"
is "result" "$(evfd poke 4207)" 4207
kill -INT "$tracer"
wait "$tracer"
is "recorded by bpftrace" "$(grep -c '^new kcare-test' "$WORK/bpftrace")" 2
is "result" "$(evfd poke 4207)" 4207
is "recorded while off" "$(events)" 2
check_result ""

start_test "an indirect call arrives"
is "result" "$(evfd poke 4208)" 4208
check_result ""

start_test "the tables go with the patch"
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
is "state" "$(state)" "$state"
# Each looks through the tables that the patch was in.
sysctl_set kernel.task_delayacct 1
sysctl_set kernel.task_delayacct 0
echo 1 >"$event/enable"
echo 0 >"$event/enable"
is "size 4203" "$(evfd poke 4203)" EINVAL
is "a fault of the kernel" "$(evfd poke 8 bad)" EFAULT
check_result "$(unloaded_log 1 1)"

start_test "there was no other warning"
dmesg >"$WORK/all"
is "warnings" "$(grep -cE 'WARNING:' "$WORK/all")" 3
is "worse" "$(grep -E 'BUG:|Oops|UBSAN|refcount_t' "$WORK/all")" ""
check_result
