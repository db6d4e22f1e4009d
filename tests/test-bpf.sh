#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# BPF programs that hold what a level wants to take away.
#
# - a program that holds a level's code keeps its memory, and no longer than that
# - a function that a second level adds is redirected although a program has it (fexit)
# - a task that sleeps in a program in front of a redirected function goes on in memory that is still there, whether it
#   leaves in time or not, and that is freed when it has left

#@ append: slab_debug=FZPU,kmalloc-*
#@ timeout: 600

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly LIMIT=6000

need_payloads cmdline levels-2 getcwd
load_kcare timeout_ms=$LIMIT nudge_ms=0
apply cmdline >/dev/null
back unload >/dev/null
memory >"$WORK/memory"
state=$(state)

# bpf NAME ARGUMENT...: a program as bpf.py NAME, until `unbpf`.
bpf() {
	mkfifo "$WORK/bpf-end"
	bpf.py "$@" <"$WORK/bpf-end" >"$WORK/bpf" 2>&1 &
	tracer=$!
	exec 8>"$WORK/bpf-end"
	retry eval "grep -q attached $WORK/bpf || gone $tracer"
	is "bpf $1" "$(<"$WORK/bpf")" attached
}

unbpf() {
	exec 8>&-
	wait "$tracer"
	rm "$WORK/bpf-end"
}

start_test "a program that holds a level's code"
is "apply" "$(apply cmdline)" $'ok\tok'
bpf hold "$(sed -n 's/^\([0-9a-f]*\) t cmdline_proc_show\t\[kcare_1\]$/\1/p' /proc/kallsyms)"
like "references" "$(grep '^kcare_1 ' /proc/modules)" '^kcare_1 [0-9]+ 2 kcare, Live '
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
like "log" "$(kcare_log)" "kcare_1 has 1 users left: its memory stays until they are gone"
isnt "held" "$(more)" ""
unbpf
# What is not held any more is freed with the next level.
is "apply" "$(apply cmdline)" $'ok\tok'
is "unload" "$(back unload)" $'ok\tok'
is "lost" "$(remains)" ""
is "state" "$(state)" "$state"
check_result

start_test "fexit on a function that a second level adds"
forget_keys
reload_kcare timeout_ms=$LIMIT nudge_ms=0 redirect=2
is "apply 1" "$(apply cmdline)" $'ok\tok'
bpftrace -B line -e 'fexit:vmlinux:meminfo_proc_show { printf("hit\n") }' >"$WORK/bpftrace" 2>&1 &
tracer=$!
retry eval "grep -A1 '^meminfo_proc_show ' $TRACING/enabled_functions | grep -q bpf_trampoline"
unlike "before" "$(</proc/meminfo)" KcareMulti
is "apply 2" "$(apply levels-2)" $'ok\tok'
like "the new function runs" "$(</proc/meminfo)" KcareMulti
is "rollback" "$(back rollback)" $'ok\tok'
unlike "the old one runs" "$(</proc/meminfo)" KcareMulti
is "apply 2" "$(apply levels-2)" $'ok\tok'
interrupt "$tracer"
isnt "hits" "$(grep -c hit "$WORK/bpftrace")" 0
like "the new function still runs" "$(</proc/meminfo)" KcareMulti
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

# stack_has PID FUNCTION: the task sleeps somewhere in it.
stack_has() {
	sleeping "$1" && grep -q "$2" "/proc/$1/stack"
}

# sleeper NAME FUNCTION: a task in getcwd(), asleep in a function, until `wake NAME`.
sleeper() {
	local end
	mkfifo "$WORK/$1-end"
	faulter 4243 <"$WORK/$1-end" >"$WORK/$1" &
	pids[$1]=$!
	exec {end}>"$WORK/$1-end"
	ends[$1]=$end
	retry stack_has "${pids[$1]}" "$2"
}

# wake NAME: it goes on; the old function answers "ok", and the new one EDOM.
wake() {
	eval "exec ${ends[$1]}>&-"
	wait "${pids[$1]}"
	is "answer of $1" "$(<"$WORK/$1")" ok
	rm "$WORK/$1-end"
}

# shared: ftrace calls kcare for the function, and the program with it.
shared() {
	grep -qE '^__x64_sys_getcwd .*\) (R )? *I ' "$TRACING/enabled_functions"
}

# refused: an apply that an old sleeper makes fail. While it waits, a new one falls asleep in the program, with the level
# before it.
refused() {
	start_test "$1"
	sleeper old do_sys_getcwd
	bpf sleep __x64_sys_getcwd
	apply getcwd >"$WORK/answer" &
	applying=$!
	retry shared
	# Called, and not only about to be.
	sleep 1
	sleeper new bpf
	retry eval "! shared"
}

not_in_list() {
	! in_module_list "$1"
}

declare -A pids ends
if ! grep -q " __do_sys_getcwd$" /proc/kallsyms; then
	start_test "a task that sleeps in front of a function"
	skip_test "$RELEASE has no __do_sys_getcwd"
else
	# What is kept once.
	apply getcwd >/dev/null
	back unload >/dev/null
	memory >"$WORK/memory"
	refused "a task that sleeps in front of a function, and leaves in time"
	wake new
	wait "$applying"
	is "answer" "$(<"$WORK/answer")" $'ETIMEDOUT\tblocked'
	unbpf
	wake old
	is "state" "$(state)" "$state"
	is "lost" "$(remains)" ""
	check_result

	refused "a task that sleeps in front of a function, and does not"
	wait "$applying"
	is "answer" "$(<"$WORK/answer")" $'ETIMEDOUT\tblocked'
	like "log" "$(kcare_log)" "patch level 1 cannot be freed yet: after 1000 ms 1 task\(s\) .* task ${pids[new]} \(faulter\) in the patch"
	is "in the list" "$(in_module_list kcare_1 && echo yes)" yes
	wake new
	unbpf
	wake old
	# It is looked at again, and freed then.
	retry not_in_list kcare_1
	is "state" "$(state)" "$state"
	is "lost" "$(remains)" ""
	check_result
fi
