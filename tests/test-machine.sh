#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What happens to a machine while a level is live: CPUs go and come, tasks are frozen, the machine sleeps, patch code
# crashes, and another kernel is started without a reset.
#
# - CPUs that go and come run the patch, and a switch with one CPU less counts for the one that comes
# - a frozen task is in nobody's way, and goes on in the function that is live when it thaws
# - a level is live after a sleep of the machine, and one that waits to be is refused for it
# - an oops in patch code names function and level, the debug companion names the line, and kcare goes on
# - the level for a rollback is given up before a task is killed
# - a kernel started by kexec is the original one

# The oops is wanted, and looked at.
#@ warnings: wanted

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly ANOTHER=kcare_test_kexec
readonly CPU=/sys/devices/system/cpu/cpu1
readonly CGROUP=/sys/fs/cgroup/kcare-test

# The second kernel of the last test comes here, too.
if grep -q "$ANOTHER" /proc/cmdline; then
	name="a kernel started by kexec is the original one"
	mark=none
	is "/proc/cmdline" "$(grep -c 'kcare=1' /proc/cmdline)" 0
	is "modules" "$(grep -c '^kcare' /proc/modules)" 0
	is "taint O" $(($(</proc/sys/kernel/tainted) >> 12 & 1)) 0
	is "/dev/kcare" "$(ls /dev/kcare 2>&1 >/dev/null | wc -l)" 1
	load_kcare
	is "apply" "$(apply cmdline)" $'ok\tok'
	is "/proc/cmdline" "$(grep -o 'kcare=1' /proc/cmdline)" "kcare=1"
	is "unload" "$(back unload)" $'ok\tok'
	check_result
	exit
fi

need_payloads cmdline levels-2 levels-3 blocked-eventfd oops
original=$(</proc/cmdline)
load_kcare
state=$(state)

# cmdline_on CPU: /proc/cmdline as a task on this CPU reads it, without what is original.
cmdline_on() {
	taskset -c "$1" cat /proc/cmdline | sed "s|^$original||"
}

if [[ -w $CPU/online ]]; then
	on_exit eval "echo 1 >$CPU/online"

	start_test "a level that is live when a CPU goes and comes"
	is "apply" "$(apply cmdline)" $'ok\tok'
	succeeds eval "echo 0 >$CPU/online"
	is "on the one that stays" "$(cmdline_on 0)" " kcare=1"
	succeeds eval "echo 1 >$CPU/online"
	is "on the one that comes" "$(cmdline_on 1)" " kcare=1"
	check_result "$(applied_log 1 1 1 0)"

	start_test "a level that goes live, and goes, with a CPU less"
	succeeds eval "echo 0 >$CPU/online"
	is "apply" "$(apply levels-2)" $'ok\tok'
	succeeds eval "echo 1 >$CPU/online"
	is "on the one that comes" "$(cmdline_on 1)" " kcare.multi=1"
	succeeds eval "echo 0 >$CPU/online"
	is "unload" "$(back unload)" $'ok\tok'
	succeeds eval "echo 1 >$CPU/online"
	is "on the one that comes" "$(cmdline_on 1)" ""
	is "state" "$(state)" "$state"
	check_result "$(applied_log 2 2 2 0)
patch level 1 replaced
$(unloaded_log 2 2)"

	start_test "levels come and go while a CPU does"
	while echo 0 >"$CPU/online" && echo 1 >"$CPU/online"; do
		:
	done 2>/dev/null &
	plug=$!
	for _ in 1 2 3 4 5 6 7 8; do
		is "apply" "$(apply cmdline)" $'ok\tok'
		is "/proc/cmdline" "$(</proc/cmdline)" "$original kcare=1"
		is "unload" "$(back unload)" $'ok\tok'
		is "/proc/cmdline" "$(</proc/cmdline)" "$original"
	done
	kill "$plug"
	wait "$plug" 2>/dev/null
	echo 1 2>/dev/null >"$CPU/online"
	is "state" "$(state)" "$state"
	check_result
fi

# frozen VALUE: all tasks of the group are frozen, or none is.
frozen() {
	grep -q "^frozen $1$" "$CGROUP/cgroup.events"
}

start_test "a frozen task, and two levels meanwhile"
mkdir -p "$CGROUP"
on_exit rmdir "$CGROUP"
# shellcheck disable=SC2016 # The dollars are that shell's.
sh -c 'echo $$ >"$1/cgroup.procs"; exec evfd sleep' evfd "$CGROUP" >"$WORK/sleeper" &
pid=$!
retry asleep_in "$pid" eventfd_read
echo 1 >"$CGROUP/cgroup.freeze"
retry frozen 1
is "apply" "$(apply blocked-eventfd)" $'ok\tok'
is "value" "$(evfd value)" 1001
kill "$pid"
echo 0 >"$CGROUP/cgroup.freeze"
wait "$pid"
is "its value, from the new function" "$(<"$WORK/sleeper")" 1001
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result "$(applied_log 1 1 1 0)
$(unloaded_log 1 1)"

# sleeps: all tasks are frozen, for 5 seconds; the devices, of which some cannot sleep in this machine, are not.
sleeps() {
	echo freezer >/sys/power/pm_test && echo freeze >/sys/power/state
}

start_test "the machine sleeps while a level is live, and while one waits to be"
if [[ -w /sys/power/pm_test ]]; then
	before=$(</sys/power/suspend_stats/success)
	is "apply" "$(apply cmdline)" $'ok\tok'
	evfd sleep >"$WORK/sleeper" &
	pid=$!
	retry asleep_in "$pid" eventfd_read
	kpush apply "$(payload levels-3)" >"$WORK/answer" &
	push=$!
	retry grep -q '^kcare_3 ' /proc/modules
	succeeds sleeps
	is "sleeps" $(($(</sys/power/suspend_stats/success) - before)) 1
	kill "$pid"
	wait "$pid" "$push"
	# A request that waits has locked what must not be frozen, so it makes way.
	is "answer" "$(cut -f2,3 "$WORK/answer")" $'EINTR\tinterrupted'
	is "/proc/cmdline" "$(</proc/cmdline)" "$original kcare=1"
	is "apply, once more" "$(apply levels-3)" $'ok\tok'
	is "/proc/cmdline" "$(</proc/cmdline)" "$original"
	is "value" "$(evfd value)" 1001
	is "unload" "$(back unload)" $'ok\tok'
	is "state" "$(state)" "$state"
	check_result
else
	skip_test "this kernel cannot sleep, or cannot test it (CONFIG_PM_DEBUG)"
fi

# faddr2line FILE FUNCTION+OFFSET/SIZE: the kernel's own script, with the binutils of the kernel's build root.
faddr2line() {
	local kernel=$KCARE_TARGET/kernels/$RELEASE root tool bin=$WORK/binutils
	root=$(cd -P "$kernel/root" && pwd)
	mkdir -p "$bin"
	for tool in addr2line readelf; do
		printf '#!/bin/sh\nexec %s/lib64/ld-linux-x86-64.so.2 --library-path %s/usr/lib/x86_64-linux-gnu %s/usr/bin/%s "$@"\n' \
			"$root" "$root" "$root" "$tool" >"$bin/$tool"
		chmod +x "$bin/$tool"
	done
	PATH=$bin:$PATH bash "$kernel/source/scripts/faddr2line" "$@"
}

start_test "an oops in patch code names function and level, and its companion the line"
push_sysctl kernel.panic_on_oops 0
is "apply" "$(apply oops)" $'ok\tok'
is "size 4210" "$(evfd poke 4210)" 4210
fails 137 evfd poke 4209
like "fault" "$(log | grep -m1 '^BUG: ')" '^BUG: unable to handle page fault for address: 0000000000001093$'
like "instruction" "$(log | grep -m1 '^RIP: 0010:')" '^RIP: 0010:eventfd_write(\.cold)?\+0x[0-9a-f]+/0x[0-9a-f]+ \[kcare_1\]$'
like "levels in the banner" "$(log | grep '^Modules linked in:')" ' kcare_1\('
is "oopses" "$(log | grep -c '^Oops: ')" 1
is "what the next boot may find" "$(log | grep '^kcare: oops')" "kcare: oops 1 while patch level 1 is live"
is "counted" "$(<"$VIEWS/oopses")" 1
place=$(log | sed -nE 's/^RIP: 0010:([^ ]+) .*/\1/p' | head -n 1)
behind=$(grep -n -m1 'if (count != sizeof(ucnt))' "$KCARE_TARGET/kernels/$RELEASE/source/fs/eventfd.c")
like "line" "$(faddr2line "$(payload oops).debug" "$place")" "eventfd_write at \./fs/eventfd\.c:$((${behind%%:*} + 2))( |$)"
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
is "size 4210" "$(evfd poke 4210)" EINVAL
check_result

start_test "memory is short"
is "apply 1" "$(apply cmdline)" $'ok\tok'
is "apply 2" "$(apply levels-2)" $'ok\tok'
is "kept" "$(<"$VIEWS/previous_level")" 1
# SIGKILL, from the kernel.
fails 137 sh -c 'echo 1000 >/proc/self/oom_score_adj; exec tail /dev/zero'
retry grep -qx 0 "$VIEWS/previous_level"
is "live" "$(<"$VIEWS/level")" 2
is "rollback" "$(back rollback)" $'ENOENT\tno-previous'
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result "$(applied_log 1 1 1 0)
$(applied_log 2 2 2 0)
patch level 1 replaced
memory is short
patch level 1 is no longer kept for a rollback
rollback refused (no-previous): there is no previous level to go back to
$(unloaded_log 2 2)"

start_test "kexec"
kernel=$KCARE_TARGET/kernels/$RELEASE/vmlinuz
initrd=$(find "$KCARE_TARGET/vm" -path "*/$RELEASE-*/initrd" | head -n 1)
if [[ ! -s $kernel || -z $initrd ]]; then
	skip_test "there is no kernel to start"
else
	is "apply" "$(apply cmdline)" $'ok\tok'
	succeeds python3 - "$kernel" "$initrd" "$original $ANOTHER" <<-'EOT'
		import ctypes, os, sys
		kernel, initrd = (os.open(file, os.O_RDONLY) for file in sys.argv[1:3])
		line = sys.argv[3].encode() + b"\0"
		libc = ctypes.CDLL(None, use_errno=True)
		KEXEC_FILE_LOAD = 320
		if libc.syscall(KEXEC_FILE_LOAD, kernel, initrd, ctypes.c_ulong(len(line)), line, ctypes.c_ulong(0)):
		    sys.exit("kexec_file_load: " + os.strerror(ctypes.get_errno()))
	EOT
	is "loaded" "$(</sys/kernel/kexec_loaded)" 1
	check_result
	sync
	# LINUX_REBOOT_CMD_KEXEC
	python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x45584543)'
	start_test "the other kernel"
	fail "reboot" "still here" "the other kernel"
	check_result
fi
