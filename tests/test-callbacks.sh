#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The functions that a patch has called around a switch, and system calls in the words of other tools.
#
# - a level goes live and comes back out: each is called once, in order
# - pre_patch refuses: nothing is changed, and nothing else is called
# - the switch fails after pre_patch: post_unpatch takes back what that did
# - a level replaces another one: only the callbacks of the new one are called; likewise on the way back
# - callbacks without a changed function; a dry run calls nothing
# - a system call and a static call by the macros of the kernel and of kpatch

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly SIGNALS=kernel.print-fatal-signals LIMIT=1500 DRY_RUN=2

need_payloads callbacks callbacks-2 callbacks-busy callbacks-only syscall syscall-2 static-call
push_sysctl $SIGNALS 0
load_kcare timeout_ms=$LIMIT
original=$(</proc/cmdline)
state=$(state)
# shellcheck disable=SC2034 # for kcare_log
patches='callbacks|callbacks-kpatch'

# prepared LEVEL: the log of an apply up to the callbacks.
prepared() {
	applied_log "$1" 0 0 0 | head -n -1
}

# switched LEVEL FUNCTIONS: the line of a switch.
switched() {
	applied_log "$1" "$2" "$2" 0 | tail -n 1
}

# umask_of MASK: what the system call gives, an error as a negative number.
umask_of() {
	python3 -c 'import ctypes, sys; print(ctypes.CDLL(None).umask(int(sys.argv[1], 0)))' "$1"
}

start_test "each callback is called once, in order"
is "apply" "$(apply callbacks)" $'ok\tok'
is "/proc/cmdline" "$(</proc/cmdline)" "$original kcare.callbacks=1"
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result "$(prepared 1)
callbacks: pre_patch vmlinux
callbacks: post_patch vmlinux
$(switched 1 1)
callbacks: pre_unpatch vmlinux
$(unloaded_log 1 1)
callbacks: post_unpatch vmlinux"

start_test "pre_patch refuses"
sysctl_set $SIGNALS 4243
is "apply" "$(apply callbacks)" $'EINVAL\tcallback-failed'
is "state" "$(state)" "$state"
is "what is logged" "$(kcare_log | grep '^callbacks')" "callbacks: pre_patch vmlinux"
is "what kcare logs last" "$(kcare_log | tail -n 1)" \
	"patch refused (callback-failed): kcare_test_pre_patch, the pre-patch callback for vmlinux, refused with error -19"
sysctl_set $SIGNALS 0
is "apply" "$(apply callbacks)" $'ok\tok'
is "unload" "$(back unload)" $'ok\tok'
check_result

start_test "the switch fails after pre_patch"
evfd sleep >"$WORK/sleeper" &
pid=$!
retry asleep_in "$pid" eventfd_read
is "apply" "$(apply callbacks-busy)" $'ETIMEDOUT\tblocked'
is "called" "$(kcare_log | grep '^callbacks')" "callbacks: pre_patch vmlinux
callbacks: post_unpatch vmlinux"
kill -TERM "$pid"
wait "$pid"
is "value of the task that slept" "$(<"$WORK/sleeper")" 1
is "state" "$(state)" "$state"
check_result

start_test "only the callbacks of the new level are called"
is "apply 1" "$(apply callbacks)" $'ok\tok'
is "apply 2" "$(apply callbacks-2)" $'ok\tok'
is "/proc/cmdline" "$(</proc/cmdline)" "$original"
like "/proc/version" "$(</proc/version)" '^kcare kpatch: '
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
is "called" "$(kcare_log | grep '^callbacks')" "callbacks: pre_patch vmlinux
callbacks: post_patch vmlinux
callbacks-kpatch: pre_patch vmlinux
callbacks-kpatch: post_patch vmlinux
callbacks-kpatch: pre_unpatch vmlinux
callbacks-kpatch: post_unpatch vmlinux"
check_result

start_test "rollback: the level that comes back is the new one"
is "apply 1" "$(apply callbacks)" $'ok\tok'
is "apply 2" "$(apply callbacks-2)" $'ok\tok'
is "rollback" "$(back rollback)" $'ok\tok'
is "/proc/cmdline" "$(</proc/cmdline)" "$original kcare.callbacks=1"
is "unload" "$(back unload)" $'ok\tok'
is "called" "$(kcare_log | grep '^callbacks' | tail -n +5)" "callbacks: pre_patch vmlinux
callbacks: post_patch vmlinux
callbacks: pre_unpatch vmlinux
callbacks: post_unpatch vmlinux"
check_result

start_test "pre_patch refuses a rollback"
is "apply 1" "$(apply callbacks)" $'ok\tok'
is "apply 2" "$(apply callbacks-2)" $'ok\tok'
sysctl_set $SIGNALS 4243
is "rollback" "$(back rollback)" $'EINVAL\tcallback-failed'
like "/proc/version" "$(</proc/version)" '^kcare kpatch: '
sysctl_set $SIGNALS 0
is "rollback" "$(back rollback)" $'ok\tok'
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

start_test "callbacks without a changed function"
is "apply" "$(apply callbacks-only)" $'ok\tok'
is "the sysctl" "$(sysctl_value $SIGNALS)" 4244
is "redirected" "$(redirected)" ""
is "level" "$(kpush info | sed -n 's/^level //p')" 1
is "unload" "$(back unload)" $'ok\tok'
is "the sysctl" "$(sysctl_value $SIGNALS)" 0
is "state" "$(state)" "$state"
check_result "$(applied_log 1 0 0 0)
$(unloaded_log 1 0)"

start_test "a dry run calls nothing"
is "dry run" "$(apply callbacks -f $DRY_RUN)" $'ok\tok'
is "called" "$(kcare_log | grep '^callbacks')" ""
is "state" "$(state)" "$state"
check_result

start_test "a system call and a static call by the macros of the kernel and of kpatch"
is "before" "$(umask_of 0x14243)" "$((8#$(umask)))"
for payload in syscall syscall-2; do
	is "apply $payload" "$(apply $payload)" $'ok\tok'
	is "with $payload" "$(umask_of 0x14243)" "-33"
	is "another value with $payload" "$(umask_of 0x12)" "$((8#$(umask)))"
done
is "apply static-call" "$(apply static-call)" $'ok\tok'
like "/proc/cmdline" "$(</proc/cmdline)" ' kcare\.call=[01]$'
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result
