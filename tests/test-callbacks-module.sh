#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Callbacks of a patch for vmlinux and for a module that comes and goes. Here it is dummy.
#
# - the module is there when the level goes live, and when it is unloaded
# - the module comes while the level is live, and goes before or after it
# - vmlinux's pre_patch refuses, the module's refuses; the module's refuses when it comes: the module is not loaded
# - the level is replaced and comes back with the module there

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly SIGNALS=kernel.print-fatal-signals

need_payloads callbacks-module callbacks-2
push_sysctl $SIGNALS 0
load_kcare
state=$(state)
# shellcheck disable=SC2034 # for kcare_log
patches='callbacks|callbacks-kpatch'

called() {
	is "called" "$(kcare_log | grep '^callbacks' | sed 's/^callbacks: //')" "$1"
}

# patched COLLISIONS: what the module's function says.
patched() {
	is "collisions" "$(cat /sys/class/net/dummy0/statistics/collisions)" "$1"
}

# Debian's modprobe makes no device unless it is told to.
start_test "the module is there before and after"
succeeds modprobe dummy numdummies=1
patched 0
is "apply" "$(apply callbacks-module)" $'ok\tok'
patched 4243
is "unload" "$(back unload)" $'ok\tok'
patched 0
succeeds rmmod dummy
is "state" "$(state)" "$state"
called "pre_patch vmlinux
pre_patch dummy, which is live
post_patch vmlinux
post_patch dummy, which is live
pre_unpatch dummy, which is live
pre_unpatch vmlinux
post_unpatch dummy, which is live
post_unpatch vmlinux"
check_result

start_test "the module comes later, and stays"
is "apply" "$(apply callbacks-module)" $'ok\tok'
succeeds modprobe dummy numdummies=1
patched 4243
is "unload" "$(back unload)" $'ok\tok'
patched 0
succeeds rmmod dummy
called "pre_patch vmlinux
post_patch vmlinux
pre_patch dummy, which is coming
post_patch dummy, which is coming
pre_unpatch dummy, which is live
pre_unpatch vmlinux
post_unpatch dummy, which is live
post_unpatch vmlinux"
check_result

start_test "the module goes earlier, and comes again"
succeeds modprobe dummy numdummies=1
is "apply" "$(apply callbacks-module)" $'ok\tok'
succeeds rmmod dummy
succeeds modprobe dummy numdummies=1
patched 4243
succeeds rmmod dummy
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
called "pre_patch vmlinux
pre_patch dummy, which is live
post_patch vmlinux
post_patch dummy, which is live
pre_unpatch dummy, which is going
post_unpatch dummy, which is going
pre_patch dummy, which is coming
post_patch dummy, which is coming
pre_unpatch dummy, which is going
post_unpatch dummy, which is going
pre_unpatch vmlinux
post_unpatch vmlinux"
check_result

start_test "the module never comes"
is "apply" "$(apply callbacks-module)" $'ok\tok'
is "unload" "$(back unload)" $'ok\tok'
called "pre_patch vmlinux
post_patch vmlinux
pre_unpatch vmlinux
post_unpatch vmlinux"
check_result

start_test "vmlinux's pre_patch refuses"
succeeds modprobe dummy numdummies=1
sysctl_set $SIGNALS 4243
is "apply" "$(apply callbacks-module)" $'EINVAL\tcallback-failed'
patched 0
called "pre_patch vmlinux"
check_result

start_test "the module's pre_patch refuses"
sysctl_set $SIGNALS 4245
is "apply" "$(apply callbacks-module)" $'EINVAL\tcallback-failed'
patched 0
called "pre_patch vmlinux
pre_patch dummy, which is live
post_unpatch vmlinux"
succeeds rmmod dummy
is "state" "$(state)" "$state"
check_result

start_test "the module's pre_patch refuses when it comes"
is "apply" "$(apply callbacks-module)" $'ok\tok'
fails 1 modprobe dummy numdummies=1
is "the module" "$(grep -c '^dummy ' /proc/modules)" 0
sysctl_set $SIGNALS 0
succeeds modprobe dummy numdummies=1
patched 4243
succeeds rmmod dummy
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
called "pre_patch vmlinux
post_patch vmlinux
pre_patch dummy, which is coming
pre_patch dummy, which is coming
post_patch dummy, which is coming
pre_unpatch dummy, which is going
post_unpatch dummy, which is going
pre_unpatch vmlinux
post_unpatch vmlinux"
check_result

start_test "a level without the module replaces it, and a rollback"
succeeds modprobe dummy numdummies=1
is "apply 1" "$(apply callbacks-module)" $'ok\tok'
is "apply 2" "$(apply callbacks-2)" $'ok\tok'
patched 0
is "rollback" "$(back rollback)" $'ok\tok'
patched 4243
is "unload" "$(back unload)" $'ok\tok'
patched 0
succeeds rmmod dummy
is "state" "$(state)" "$state"
called "pre_patch vmlinux
pre_patch dummy, which is live
post_patch vmlinux
post_patch dummy, which is live
callbacks-kpatch: pre_patch vmlinux
callbacks-kpatch: post_patch vmlinux
pre_patch vmlinux
pre_patch dummy, which is live
post_patch vmlinux
post_patch dummy, which is live
pre_unpatch dummy, which is live
pre_unpatch vmlinux
post_unpatch dummy, which is live
post_unpatch vmlinux"
check_result
