#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Callbacks of a patch for vmlinux and for a module that comes and goes. Here it is dummy, and tun beside it.
#
# - the module is there when the level goes live, and when it is unloaded
# - the module comes while the level is live, and goes before or after it
# - vmlinux's pre_patch refuses, the module's refuses; the module's refuses when it comes: the module is not loaded
# - the level is replaced and comes back with the module there
# - two modules, one of which stays: each has its callbacks when it is its turn
# - a task sleeps in the module that stays: the level does not go live, and takes back what its callbacks did; the other
#   module comes and goes meanwhile

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly SIGNALS=kernel.print-fatal-signals LIMIT=4000

need_payloads callbacks-module callbacks-modules callbacks-2
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

# tun: what a task that opens a device of the module does: `value` prints what a read of 4243 bytes without a frame
# fails with, `sleep` sleeps in a read. Only for a subshell: the task is that.
tun() {
	exec python3 -c '
import errno, fcntl, os, struct, sys
fd = os.open("/dev/net/tun", os.O_RDWR)
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454ca, 2, 0x1000
fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"kcare%d", IFF_TAP | IFF_NO_PI))
os.set_blocking(fd, sys.argv[1] == "sleep")
try:
    os.read(fd, 4243)
except OSError as e:
    print(errno.errorcode[e.errno])' "$1"
}

waiting_for_tun() {
	kcare_log | grep -q '^callbacks: pre_patch tun'
}

start_test "two modules, one of which comes and goes"
succeeds modprobe tun
is "tun before" "$(tun value)" EAGAIN
is "apply" "$(apply callbacks-modules)" $'ok\tok'
is "tun" "$(tun value)" EDOM
succeeds modprobe dummy numdummies=1
patched 4243
succeeds rmmod dummy
is "tun still" "$(tun value)" EDOM
is "unload" "$(back unload)" $'ok\tok'
is "tun after" "$(tun value)" EAGAIN
called "pre_patch vmlinux
pre_patch tun, which is live
post_patch vmlinux
post_patch tun, which is live
pre_patch dummy, which is coming
post_patch dummy, which is coming
pre_unpatch dummy, which is going
post_unpatch dummy, which is going
pre_unpatch tun, which is live
pre_unpatch vmlinux
post_unpatch tun, which is live
post_unpatch vmlinux"
check_result

start_test "a task sleeps in one of two modules, and the other one comes and goes"
reload_kcare timeout_ms=$LIMIT
tun sleep &
pid=$!
retry asleep_in "$pid" tun_chr_read_iter
kpush apply "$(payload callbacks-modules)" >"$WORK/answer" &
pusher=$!
retry waiting_for_tun
succeeds modprobe dummy numdummies=1
patched 0
succeeds rmmod dummy
wait "$pusher"
is "apply" "$(cut -f2,3 "$WORK/answer")" $'ETIMEDOUT\tblocked'
like "message" "$(cut -f5 "$WORK/answer")" "task $pid \(python3\) in tun_chr_read_iter\+"
is "tun" "$(tun value)" EAGAIN
called "pre_patch vmlinux
pre_patch tun, which is live
post_unpatch tun, which is live
post_unpatch vmlinux"
kill -KILL "$pid"
wait "$pid" 2>/dev/null
is "apply" "$(apply callbacks-modules)" $'ok\tok'
is "tun" "$(tun value)" EDOM
is "unload" "$(back unload)" $'ok\tok'
succeeds rmmod tun
is "state" "$(state)" "$state"
check_result
