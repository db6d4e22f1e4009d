#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A system call that all CPUs make all the time, and a level on it that comes and goes, with both ways to redirect, and
# with the one changed for the other while it is live.
#
# - every thread makes the call in every state, and no call gives what only an earlier or a later state does
#   (programs/soak.c)
# - a thread that has another name gets the original's result all along

#@ timeout: 600

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

# More threads on two emulated CPUs leave the switch hardly any time.
readonly THREADS=4

need_payloads getpid
load_kcare redirect=1
state=$(state)

# By the list of all that ftrace calls for a function, too, which it walks while that changes.
echo '*sys_getpid' >"$TRACING/set_ftrace_filter"

# hammered HOW CYCLES TRACER [OPTION]: how the function is redirected at first.
hammered() {
	local cycles=$2 tracer=$3
	start_test "$1 ${4-}, tracer $tracer: $THREADS threads call getpid while a level on it comes and goes"
	echo "$tracer" >"$TRACING/current_tracer"
	succeeds soak -g $THREADS ${4+"$4"} "$(payload getpid)" "$cycles"
	echo nop >"$TRACING/current_tracer"
	printf '%s\n' "$out" | sed 's/^/# /'
	like "result" "$out" "^$cycles cycles, [1-9][0-9]* calls of getpid by $THREADS threads, 0 wrong$"
	is "applied so" "$(log | grep -c " applied: .*[( ]1 $1[,)]")" "$cycles"
	is "state" "$(state)" "$state"
	is "failures" "$(kpush info | sed -n 's/^failures //p')" 0
	check_result
}

hammered direct 10 nop
hammered direct 4 nop -r
hammered direct 4 function -r
reload_kcare redirect=2
hammered ipmodify 10 nop

start_test "another task's getpid stays as it is"
is "apply" "$(apply getpid)" $'ok\tok'
succeeds python3 -c '
import os, threading
ids = set()
def call():
    ids.update(os.getpid() for _ in range(10000))
threads = [threading.Thread(target=call) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
named = []
def call_named():
    open(f"/proc/self/task/{threading.get_native_id()}/comm", "w").write("kcare-pid")
    named.append(os.getpid())
t = threading.Thread(target=call_named)
t.start()
t.join()
print(ids == {int(os.readlink("/proc/self"))}, named)'
is "results" "$out" "True [4243]"
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result
