#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A level that goes live all at once, and tasks inside the code that goes out of use: nothing is switched until they have left.
#
# - a task asleep in the old function: apply fails in the limit, names both, changes nothing; later it succeeds
# - a task asleep in the new function: the same for unload
# - both again with the return address hidden by a kretprobe, and by the function-graph tracer
# - a task asleep in a function without fentry, of which only the callers are redirected
# - tasks that sleep on are woken, and their system calls start anew in the other function
# - more tasks than one message names; a task that leaves in time; a caller that gets a signal
# - a stop that would take too long, of a level that goes live all at once and of one that does not

#@ timeout: 600

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly LIMIT=1500
# eventfd_read() sleeps in this function; its return address is what tracers hide.
readonly CALLEE=do_wait_intr_irq

need_payloads blocked-eventfd cmdline getcwd stopper
load_kcare timeout_ms=$LIMIT
state=$(state)

# sleeper [MODULE]: starts a task that sleeps in eventfd_read(), the original or that of MODULE; its id is in $pid.
sleeper() {
	evfd sleep >"$WORK/sleeper" &
	pid=$!
	retry asleep_in "$pid" eventfd_read
	if [[ ${1-} ]]; then
		like "stack" "$(grep 'eventfd_read' "/proc/$pid/stack")" "\[$1\]$"
	else
		unlike "stack" "$(grep 'eventfd_read' "/proc/$pid/stack")" '\[kcare'
	fi
}

# leaves VALUE: the task leaves the function with this value.
leaves() {
	kill -TERM "$pid"
	wait "$pid"
	is "value of the task that slept" "$(<"$WORK/sleeper")" "$1"
}

# no_return WORDS: the return address is not among the words of the bare stack. KASAN leaves others there.
no_return() {
	if grep -q ' kasan_report$' /proc/kallsyms; then
		like "words on the bare stack" "$1" '^[0-9]+$'
		is "words on the bare stack, $1, fewer than $plain" "$(($1 < plain))" 1
	else
		is "return addresses on the bare stack" "$1" 0
	fi
}

# in_the_way TASKS PLACE ANSWER: the answer of kpush names the task and where it is.
in_the_way() {
	is "answer" "$(cut -f2-4 <<<"$3")" $'ETIMEDOUT\tblocked\t-'
	like "message" "$(cut -f5 <<<"$3")" \
		"^after $LIMIT ms $1 task\(s\) are still inside code that goes out of use: task $pid \(evfd\) in eventfd_read\+0x[0-9a-f]+$2$ASLEEP;$"
}

# both_ways: an apply and an unload, each blocked by a task and then not.
both_ways() {
	local answer hidden=${1-}

	sleeper
	[[ -z $hidden ]] || no_return "$(stackwords "$pid" eventfd_read)"
	in_the_way 1 "" "$(kpush apply "$(payload blocked-eventfd)")"
	is "state" "$(state)" "$state"
	leaves 1
	is "apply" "$(kpush apply "$(payload blocked-eventfd)" | cut -f2,3)" $'ok\tok'
	is "value" "$(evfd value)" 1001

	patched=$(state)
	sleeper kcare_1
	[[ -z $hidden ]] || no_return "$(stackwords "$pid" eventfd_read kcare_1)"
	in_the_way 1 " of the patch" "$(kpush unload)"
	is "state" "$(state)" "$patched"
	leaves 1001
	is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
	is "state" "$(state)" "$state"
}

# refused WHAT TASKS PLACE: the line of the log, with ids and offsets left out.
refused() {
	echo "$1 refused (blocked): after $LIMIT ms $2 task(s) are still inside code that goes out of use: task N (evfd) in eventfd_read+N$3;"
}

log_of_both_ways() {
	cat <<-EOT
		$(applied_log 1 1 1 0 | sed '$d')
		$(refused patch 1 "")
		$(applied_log 1 1 1 0)
		$(refused unload 1 " of the patch")
		$(unloaded_log 1 1)
	EOT
}

# Besides what functions.sh leaves out.
eval "plain_$(declare -f kcare_log)"
kcare_log() {
	plain_kcare_log | sed -E 's/task [0-9]+ /task N /g; s/\+0x[0-9a-f]+/+N/g; s/, asleep for [0-9.]+ s//g'
}

start_test "a task in the old function, a task in the new function"
sleeper
plain=$(stackwords "$pid" eventfd_read)
like "words on the bare stack" "$plain" '^[1-9][0-9]*$'
leaves 1
both_ways
check_result "$(log_of_both_ways)"

start_test "what kcare-push and kcarectl say"
sleeper
fails 7 kcare-push "$(payload blocked-eventfd)"
like "kcare-push" "$out" "task $pid \(evfd\) in eventfd_read"
leaves 1
succeeds kcare-push "$(payload blocked-eventfd)"
sleeper kcare_1
fails 7 kcarectl --unload
like "kcarectl" "$out" "task $pid \(evfd\) in eventfd_read"
like "info" "$(kcarectl --info)" '^kpatch-state: patch is applied'
leaves 1001
succeeds kcarectl --unload
is "state" "$(state)" "$state"
check_result "$(log_of_both_ways)"

start_test "return address hidden by a kretprobe"
echo "r:kcare_test $CALLEE" >"$TRACING/kprobe_events"
on_exit eval "echo 0 >$TRACING/events/kprobes/enable; echo >$TRACING/kprobe_events"
echo 1 >"$TRACING/events/kprobes/kcare_test/enable"
state=$(state)
both_ways hidden
like "hits of the probe" "$(grep kcare_test "$TRACING/kprobe_profile")" ' [1-9][0-9]* '
echo 0 >"$TRACING/events/kprobes/kcare_test/enable"
echo >"$TRACING/kprobe_events"
check_result "$(log_of_both_ways)"

start_test "return address hidden by the function-graph tracer"
on_exit eval "echo nop >$TRACING/current_tracer; echo >$TRACING/set_ftrace_filter"
echo "$CALLEE" >"$TRACING/set_ftrace_filter"
echo function_graph >"$TRACING/current_tracer"
state=$(state)
both_ways hidden
is "seen by the tracer" "$(grep -c "$CALLEE" "$TRACING/trace" | sed 's/^[1-9].*/yes/')" yes
echo nop >"$TRACING/current_tracer"
echo >"$TRACING/set_ftrace_filter"
check_result "$(log_of_both_ways)"
state=$(state)

start_test "a task in a function without fentry that its callers jump to"
if ! grep -q " __do_sys_getcwd$" /proc/kallsyms; then
	skip_test "$RELEASE has no __do_sys_getcwd"
else
	mkfifo "$WORK/end"
	faulter 4243 <"$WORK/end" >"$WORK/faulter" &
	pid=$!
	exec 9>"$WORK/end"
	retry asleep_in "$pid" __do_sys_getcwd
	unlike "stack" "$(cat "/proc/$pid/stack")" '_x64_sys_getcwd'
	answer=$(kpush apply "$(payload getcwd)")
	is "answer" "$(cut -f2-4 <<<"$answer")" $'ETIMEDOUT\tblocked\t-'
	like "message" "$(cut -f5 <<<"$answer")" " 1 task\(s\) are .*: task $pid \(faulter\) in __[a-z0-9]*_sys_getcwd\.cold\+"
	exec 9>&-
	wait "$pid"
	is "answer of the old function" "$(<"$WORK/faulter")" ok
	is "apply" "$(apply getcwd)" $'ok\tok'
	is "answer of the new one" "$(faulter 4243 </dev/null)" EDOM
	is "unload" "$(back unload)" $'ok\tok'
	is "state" "$(state)" "$state"
	check_result
fi

start_test "more tasks than a message names"
pids=()
for ((i = 0; i < 12; i++)); do
	evfd sleep >>"$WORK/sleepers" &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	retry asleep_in "$pid" eventfd_read
done
answer=$(kpush apply "$(payload blocked-eventfd)")
is "answer" "$(cut -f2-4 <<<"$answer")" $'ETIMEDOUT\tblocked\t-'
like "number" "$(cut -f5 <<<"$answer")" "^after $LIMIT ms 12 task\(s\) are"
is "named" "$(grep -o 'task [0-9]* (evfd) in eventfd_read+' <<<"$answer" | sort -u | wc -l)" 8
kill -TERM "${pids[@]}"
wait "${pids[@]}"
is "their values" "$(sort "$WORK/sleepers" | uniq -c | xargs)" "12 1"
is "state" "$(state)" "$state"
check_result

# An apply has loaded its payload and waits for a task.
waiting() {
	log | grep -q '^kcare: fixed .* relocations'
}

start_test "a task that leaves in time"
reload_kcare timeout_ms=20000 nudge_ms=0
sleeper
kpush apply "$(payload blocked-eventfd)" >"$WORK/answer" &
pusher=$!
retry waiting
# While it waits, the state can be asked for.
is "state meanwhile" "$(kpush info | grep ^state)" "state 0"
is "value meanwhile" "$(evfd value)" 1
# A module that no level patches comes and goes, too.
succeeds modprobe dummy numdummies=0
succeeds modprobe -r dummy
is "it still waits" "$(kill -0 "$pusher" && echo yes)" yes
leaves 1
wait "$pusher"
is "answer" "$(cut -f2,3 "$WORK/answer")" $'ok\tok'
is "value" "$(evfd value)" 1001
isnt "retries" "$(log | grep -oP 'applied: .*, \K[0-9]+(?= retries)')" 0
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

start_test "tasks that sleep on are woken, and sleep on in the other function"
reload_kcare timeout_ms=20000 nudge_ms=300
pids=()
for ((i = 0; i < 12; i++)); do
	evfd sleep >>"$WORK/woken" &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	retry asleep_in "$pid" eventfd_read
done
is "apply" "$(kpush apply "$(payload blocked-eventfd)" | cut -f2,3)" $'ok\tok'
for pid in "${pids[@]}"; do
	retry asleep_in "$pid" eventfd_read
	like "stack" "$(grep eventfd_read "/proc/$pid/stack")" '\[kcare_1\]$'
done
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
for pid in "${pids[@]}"; do
	retry asleep_in "$pid" eventfd_read
	unlike "stack" "$(grep eventfd_read "/proc/$pid/stack")" '\[kcare'
done
is "woken" "$(log | grep -oP 'kcare: \K[0-9]+(?= sleeping task)' | xargs)" "12 12"
kill -TERM "${pids[@]}"
wait "${pids[@]}"
is "their values" "$(sort "$WORK/woken" | uniq -c | xargs)" "12 1"
is "state" "$(state)" "$state"
check_result

start_test "a caller that gets a signal"
reload_kcare timeout_ms=600000 nudge_ms=0
sleeper
kpush apply "$(payload blocked-eventfd)" >"$WORK/answer" &
pusher=$!
retry waiting
kill -TERM "$pusher"
wait "$pusher" 2>/dev/null
is "state" "$(state)" "$state"
leaves 1
check_result "registered device with node 10:N
$(applied_log 1 1 1 0 | sed '$d')
patch refused (interrupted): the request was interrupted by a signal"

start_test "the threads that stop the machine are in it"
reload_kcare
answer=$(kpush apply "$(payload stopper)")
is "answer" "$(cut -f2-4 <<<"$answer")" $'ETIMEDOUT\tblocked\t-'
like "message" "$(cut -f5 <<<"$answer")" '^the threads that stop the machine are always in multi_cpu_stop\+0x[0-9a-f]+$'
is "state" "$(state)" "$state"
check_result

start_test "stops that would take too long"
# Nobody looks at that many tasks within a microsecond.
reload_kcare timeout_ms=500 stop_us=1
pids=()
for _ in {1..8}; do
	yes | cat >/dev/null &
	pids+=($!)
done
for payload in blocked-eventfd cmdline; do
	answer=$(kpush apply "$(payload $payload)")
	is "$payload" "$(cut -f2-5 <<<"$answer")" \
		$'EBUSY\tstop-limit\t-\tlooking at the tasks that have just run takes longer than 1 us'
	is "state" "$(state)" "$state"
done
kill "${pids[@]}"
wait "${pids[@]}" 2>/dev/null
check_result

nothing_is_left "$state"
