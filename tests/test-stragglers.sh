#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Nobody can veto a level: who is inside the code that goes out of use finishes there, and all others are in the new one.
#
# - a page fault on a file of a user's own file system that is never answered; vfork() with a child that pauses; a kernel
#   thread that never leaves; a thread in its exit, which no list of threads has any more; a grace period of RCU-tasks that
#   does not end; 300 threads asleep and 100 that call all the time; a fault that userfaultfd holds; the task
#   that asks for the level
# - meanwhile every new call sees the new code, the straggler the old one, consistently over two functions
# - a second level, a rollback, an unload, the same level again while a straggler is out, of the original code or of a level
# - nobody gets more than one EINTR, and nothing is left when the last one has left

#@ timeout: 900
#@ append: slab_debug=FZPU,kmalloc-*

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads straggler-1 straggler-2 straggler-exit straggler-ioctl straggler-thread
forget_keys
# shellcheck disable=SC2119 # without parameters
load_kcare
state=$(state)
readonly ONE=straggler-1 TWO=straggler-2

# status FIELD: the values of a line of the device.
status() {
	sed -n "s/^$1: //p" /dev/kcare
}

# straggles PID LEVEL PLACE [NAME]: this task is on the list, sees that level, and is there.
straggles() {
	local line
	line=$(status straggler | grep "^$1 ")
	is "level that task $1 sees" "$(cut -d' ' -f4 <<<"$line")" "$2"
	like "place of task $1" "$(cut -d' ' -f5 <<<"$line")" "^$3\+0x[0-9a-f]+$([[ $2 -eq 0 ]] || echo '\[patch\]')$"
	[[ -z ${4-} ]] || is "name of task $1" "$(cut -d' ' -f6- <<<"$line")" "$4"
}

is_not_listed() {
	! status straggler | grep -q "^$1 "
}

is_freed() {
	! in_module_list "$1"
}

complete() {
	! grep -q '^transition: ' /dev/kcare
}

# sees WHAT: new calls, that is those of a task that begins now.
sees() {
	local wanted
	case $1 in
	0) wanted='1 ok' ;;
	1) wanted='1001 EDOM' ;;
	2) wanted='2001 ENOSPC' ;;
	esac
	is "new calls" "$(evfd value) $(straggle clone)" "$wanted"
}

# timed WHAT [NAME]: a request, which succeeds; says how long it took.
timed() {
	local before after answer
	before=$(date +%s%N)
	case $1 in
	apply) answer=$(kpush apply "$(payload "$2")") ;;
	*) answer=$(kpush "$1") ;;
	esac
	after=$(date +%s%N)
	is "$*" "$(cut -f2,3 <<<"$answer")" $'ok\tok'
	message=$(cut -f5 <<<"$answer")
	printf '# %s: %d ms, stops %s us in all\n' "$*" "$(((after - before) / 1000000))" "$(($(status stop-sum-ns) / 1000))"
}

# inside PID FUNCTION: this task is there, whichever way it sleeps.
inside() {
	grep -q "^\[<0>\] $2+" "/proc/$1/stack"
}

# begins WHAT COMMAND...: a task whose input ends with `exec 9>&-`, and which prints to $WORK/WHAT; its id is in $job.
begins() {
	local what=$1
	shift
	rm -f "$WORK/end"
	mkfifo "$WORK/end"
	"$@" <"$WORK/end" >"$WORK/$what" 2>&1 &
	job=$!
	exec 9>"$WORK/end"
}

# starts WHAT PLACE COMMAND...: a task whose input ends with `leaves`, and which sleeps at PLACE; its id is in $pid.
starts() {
	local what=$1 place=$2
	shift 2
	begins "$what" "$@"
	pid=$job
	retry inside "$pid" "$place"
}

# leaves WHAT ANSWER: the task leaves, and says what it saw.
leaves() {
	exec 9>&-
	wait "$job"
	is "what the task saw" "$(<"$WORK/$1")" "$2"
}

# all_the_way WHAT PLACE ANSWER: with the task out that `starts` has begun in original code.
all_the_way() {
	timed apply $ONE
	like "answer" "$message" "^1 task\(s\) finish old calls: task $pid \([^)]*\) of uid [0-9]+ in $2\+0x[0-9a-f]+;$"
	straggles "$pid" 0 "$2"
	is "stragglers" "$(status stragglers) $(</sys/class/misc/kcare/stragglers)" "1 1"
	sees 1
	timed apply $TWO
	straggles "$pid" 0 "$2"
	sees 2
	timed rollback
	straggles "$pid" 0 "$2"
	sees 1
	# Nobody sees the second level any more.
	retry is_freed kcare_2
	timed apply $TWO
	sees 2
	straggles "$pid" 0 "$2"
	fails 1 rmmod kcare
	leaves "$1" "$3"
	retry complete
	sees 2
	timed unload
	is "message" "$message" ""
	is "state" "$(state)" "$state"
	check_result
	# shellcheck disable=SC2119
	reload_kcare
}

start_test "vfork() with a child that pauses"
starts vfork kernel_clone straggle vfork
all_the_way vfork kernel_clone parent

# converted WAY: what levels in memory redirect is redirected in this way from here on.
converted() {
	local all
	succeeds tee "$VIEWS/redirect" <<<"$1"
	all=$(redirected | wc -w)
	isnt "redirected functions" "$all" 0
	is "log" "$(kcare_log | tail -n 1)" \
		"redirect is $1 now: $(($1 == 2 ? 0 : all)) direct, $(($1 == 2 ? all : 0)) ipmodify"
}

start_test "redirects are converted while a straggler is out"
starts vfork kernel_clone straggle vfork
timed apply $ONE
for way in 2 0; do
	converted $way
	straggles "$pid" 0 kernel_clone
	sees 1
done
timed apply $TWO
converted 2
sees 2
timed rollback
sees 1
converted 1
straggles "$pid" 0 kernel_clone
sees 1
leaves vfork parent
retry complete
sees 1
timed unload
sees 0
is "state" "$(state)" "$state"
check_result
# shellcheck disable=SC2119
reload_kcare

memory >"$WORK/memory"
start_test "a page fault that a user's own file system never answers"
if ! grep -qw fuse /proc/filesystems || [[ ! -e /proc/self/ns/user ]]; then
	skip_test "$RELEASE has no FUSE built in, or no user namespaces"
else
	mkdir -p "$WORK/mount"
	chmod 777 "$WORK" "$WORK/mount"
	# As udev has it.
	chmod 666 /dev/fuse
	starts fuse eventfd_write straggle fuse "$WORK/mount"
	is "its user" "$(stat -c %u "/proc/$pid")" 65534
	all_the_way fuse eventfd_write EFAULT
fi

start_test "a page fault that userfaultfd holds"
if [[ ! -e /proc/sys/vm/unprivileged_userfaultfd ]]; then
	skip_test "$RELEASE has no userfaultfd"
else
	starts faulter __do_sys_getcwd faulter 4243
	spins=$(awk '{print $14 + $15}' "/proc/$pid/stat")
	timed apply $ONE
	is "new calls" "$(faulter 4243 </dev/null)" EDOM
	timed apply $TWO
	is "new calls" "$(faulter 4243 </dev/null)" ENOSPC
	is "stragglers" "$(status stragglers)" 1
	timed unload
	retry complete
	is "it slept all the time" "$(($(awk '{print $14 + $15}' "/proc/$pid/stat") - spins < 20))" 1
	leaves faulter ok
	is "state" "$(state)" "$state"
	check_result
fi
# shellcheck disable=SC2119
reload_kcare

start_test "a task in a level's own code"
timed apply $ONE
starts vfork kernel_clone straggle vfork
timed apply $TWO
straggles "$pid" 1 kernel_clone
sees 2
timed rollback
# Everybody sees what it sees.
retry is_not_listed "$pid"
retry complete
sees 1
timed apply $TWO
straggles "$pid" 1 kernel_clone
timed unload
straggles "$pid" 1 kernel_clone
sees 0
# No level is live, and what redirects is what it sees.
converted 2
straggles "$pid" 1 kernel_clone
sees 0
fails 1 rmmod kcare
# The same level, beside what is left of it.
timed apply $ONE
straggles "$pid" 1 kernel_clone
sees 1
timed unload
sees 0
straggles "$pid" 1 kernel_clone
is "in the list" "$(in_module_list kcare_1 && echo yes)" yes
leaves vfork parent
retry complete
is "state" "$(state)" "$state"
is "history" "$(grep -c '^event: [0-9]* complete ' /dev/kcare)" 2
check_result
# shellcheck disable=SC2119
reload_kcare

start_test "a kernel thread that never leaves"
kthreadd=$(pgrep -x kthreadd)
timed apply straggler-thread
straggles "$kthreadd" 0 kthreadd kthreadd
sees 0
timed apply $TWO
sees 2
# This level leaves kthreadd() as it was, so that all see the same of what the thread is in.
retry is_not_listed "$kthreadd"
retry complete
timed unload
is "state" "$(state)" "$state"
check_result
# shellcheck disable=SC2119
reload_kcare

start_test "a thread in its exit, which has no number any more"
timed apply straggler-exit
begins exit straggle exit
has_no_number() {
	pid=$(<"$WORK/exit")
	[[ -n $pid && ! -e /proc/$pid/stat ]]
}
retry has_no_number
isnt "the process" "$job" "$pid"
timed unload
like "answer" "$message" \
	"^1 task\(s\) finish old calls: task $pid \(at its end\) of uid 0 in free_pipe_info\+0x[0-9a-f]+ of the patch;$"
straggles "$pid" 3 free_pipe_info "at its end"
timed apply $TWO
sees 2
straggles "$pid" 3 free_pipe_info
timed unload
fails 1 rmmod kcare
is "in the list" "$(in_module_list kcare_3 && echo yes)" yes
read -r size </proc/sys/fs/pipe-max-size
succeeds tee /proc/sys/fs/pipe-max-size <<<$((1 << 21))
retry complete
echo "$size" >/proc/sys/fs/pipe-max-size
exec 9>&-
wait "$job"
is "state" "$(state)" "$state"
check_result
# shellcheck disable=SC2119
reload_kcare

start_test "a grace period that does not end"
begins starved straggle starved
reads_on() {
	pid=$(<"$WORK/starved")
	[[ -n $pid ]] && grep -q '^\[<0>\] .*read_iter_zero+' "/proc/$job/task/$pid/stack"
}
retry reads_on
timed apply $ONE
sees 1
timed apply $TWO
sees 2
# The first level is not kept any more, and waits for the end of the grace period.
timed apply straggler-exit
sees 0
is "in the list" "$(in_module_list kcare_1 && echo yes)" yes
timed rollback
sees 2
is "in the list" "$(in_module_list kcare_3 && echo yes)" yes
# The same level, beside what is left of it.
timed apply straggler-exit
sees 0
timed rollback
sees 2
is "it is still there" "$(reads_on && echo yes)" yes
exec 9>&-
wait "$job"
retry is_freed kcare_3
timed unload
is "state" "$(state)" "$state"
check_result
# shellcheck disable=SC2119
reload_kcare

start_test "the system call by which a level is asked for"
# ioctl_errno: what a call of its own returns.
ioctl_errno() {
	python3 -c 'import errno, fcntl
try:
	fcntl.ioctl(0, 0x6b63)
except OSError as error:
	print(errno.errorcode[error.errno])' </dev/null
}
is "before" "$(ioctl_errno)" ENOTTY
timed apply straggler-ioctl
like "answer" "$message" '^1 task\(s\) finish old calls: task [0-9]+ \(kpush\) of uid 0 in __x64_sys_ioctl\+0x[0-9a-f]+;$'
is "new calls" "$(ioctl_errno)" EDOM
retry complete
timed unload
like "answer" "$message" '^1 task\(s\) finish old calls: task [0-9]+ \(kpush\) of uid 0 in __x64_sys_ioctl\+0x[0-9a-f]+ of the patch;$'
is "behind it" "$(ioctl_errno)" ENOTTY
retry complete
is "state" "$(state)" "$state"
check_result
# shellcheck disable=SC2119
reload_kcare

start_test "threads that sleep, and threads that call all the time"
begins epoll straggle epoll 300 100
all_asleep() {
	[[ $(grep -l '^\[<0>\] do_epoll_wait+' "/proc/$job/task"/*/stack 2>/dev/null | wc -l) -ge 300 ]]
}
retry all_asleep
more_lines() {
	[[ $(wc -l <"$WORK/epoll") -gt $1 ]]
}
# seen: what the spinners have returned since it was asked for last.
seen() {
	local lines
	lines=$(wc -l <"$WORK/epoll")
	echo >&9
	retry more_lines "$lines"
	tail -n 1 "$WORK/epoll"
}
is "before" "$(seen)" "spinners 1"
timed apply $ONE
like "meanwhile" "$(seen)" "^spinners( 1)? 1001$"
retry complete
sees 1
is "behind it" "$(seen >/dev/null; seen)" "spinners 1001"
timed apply $TWO
retry complete
is "two" "$(seen >/dev/null; seen)" "spinners 2001"
timed rollback
retry complete
is "back" "$(seen >/dev/null; seen)" "spinners 1001"
exec 9>&-
wait "$job"
# Each was woken once by each of three switches, and slept on in the code that was live then.
is "sleepers" "$(sed -n 's/^sleepers //p' "$WORK/epoll")" 1001
like "EINTR, at most" "$(sed -n 's/^interrupted //p' "$WORK/epoll")" '^[0-3]$'
timed unload
retry complete
is "state" "$(state)" "$state"
check_result

nothing_is_left "$state"
