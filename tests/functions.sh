# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the test scripts share. They run as root in a machine of scripts/vm, and print TAP.
#
# A script is a list of tests, each one start_test, actions and checks, check_result. A check that fails says what it
# got and what it wanted and lets the test go on; the test is "not ok" then.

set -uo pipefail

RELEASE=$(uname -r)
# Where target/ is in the machine: below the repository, or beside it (scripts/vm).
KCARE_TARGET=/kcare/target
[[ ! -d /kcare-target/payloads ]] || KCARE_TARGET=/kcare-target
readonly RELEASE KCARE_TARGET
readonly KO=$KCARE_TARGET/kmod/$RELEASE/rust-kmod/kcare.ko
readonly PAYLOADS=$KCARE_TARGET/payloads/$RELEASE
readonly TRACING=/sys/kernel/tracing
# shellcheck disable=SC2034 # for scripts
readonly VIEWS=/sys/class/misc/kcare
readonly SKIP=4
# A loop's limit in seconds. Nothing takes half as long, even where a busy host emulates the machine.
RETRY_LIMIT=60
[[ $RELEASE != *-debug-* ]] || RETRY_LIMIT=180
readonly RETRY_LIMIT
# How long a task has slept is known to a kernel with CONFIG_SCHED_INFO.
ASLEEP=', asleep for [0-9.]+ s'
[[ -e /proc/self/schedstat ]] || ASLEEP=
# shellcheck disable=SC2034 # for scripts
readonly ASLEEP
PATH=$KCARE_TARGET/tests/bin:${BASH_SOURCE[0]%/*}/programs:$PATH

WORK=$(mktemp -d)
readonly WORK

tests=0 failures=0 name='' good=1 exit_actions=()
# What `run` leaves.
out='' status=0

# ------------------------------------------------------------------------------------------------- tests

# start_test NAME: what is checked from here to check_result.
start_test() {
	name=$1
	good=1
	mark="kcare-test: ${0##*/} $((tests + 1))"
	printf '# TEST: %s\n' "$name"
	printf '%s\n' "$mark" >/dev/kmsg
}

# fail WHAT GOT WANTED
fail() {
	good=0
	printf '# %s:\n' "$1"
	printf '%s\n' "$2" | sed 's/^/#   got:    /'
	[[ $# -lt 3 ]] || printf '%s\n' "$3" | sed 's/^/#   wanted: /'
}

# is WHAT GOT WANTED: they are equal.
is() {
	[[ $2 == "$3" ]] || fail "$@"
}

# isnt WHAT GOT OTHER: they differ.
isnt() {
	[[ $2 != "$3" ]] || fail "$1" "$2" "anything else"
}

# like WHAT GOT REGEX: an extended regular expression, for all of a text.
like() {
	[[ $2 =~ $3 ]] || fail "$@"
}

# unlike WHAT GOT REGEX
unlike() {
	[[ ! $2 =~ $3 ]] || fail "$1" "$2" "nothing like $3"
}

# succeeds COMMAND...; what it prints is in $out, its status in $status.
succeeds() {
	run "$@"
	[[ $status -eq 0 ]] || fail "$* (status $status)" "$out" "success"
}

# fails STATUS COMMAND...: with this status; what it prints is in $out.
fails() {
	local wanted=$1
	shift
	run "$@"
	[[ $status -eq $wanted ]] || fail "$* (status $status)" "$out" "status $wanted"
}

# run COMMAND...: what it prints is in $out, its status in $status.
run() {
	out=$("$@" 2>&1)
	status=$?
}

# answers WHAT ERRNO REASON COMMAND...: what kpush says, which is in $answer then.
answers() {
	local what=$1 wanted=$2$'\t'$3
	shift 3
	answer=$("$@")
	is "$what" "$(cut -f2,3 <<<"$answer")" "$wanted"
}

# check_result [LOG]: the end of a test. With LOG, the kernel's log since start_test has exactly these lines of kcare.
# shellcheck disable=SC2120 # Scripts pass one.
check_result() {
	local got
	if [[ $# -gt 0 ]]; then
		got=$(kcare_log)
		[[ $got == "$1" ]] || {
			good=0
			echo '# the kernel log is not as it should be (- wanted, + got):'
			diff -u <(printf '%s\n' "$1") <(printf '%s\n' "$got") | tail -n +4 | sed 's/^/#   /'
		}
	fi
	((++tests))
	if [[ $good -eq 1 ]]; then
		printf 'ok %d - %s\n' "$tests" "$name"
	else
		((++failures))
		printf 'not ok %d - %s\n' "$tests" "$name"
	fi
	name=''
}

# skip_test REASON: the end of a test that this machine cannot do.
skip_test() {
	((++tests))
	printf 'ok %d - %s # SKIP %s\n' "$tests" "$name" "$1"
	name=''
}

# skip REASON: the whole script cannot be run here.
skip() {
	printf '1..0 # SKIP %s\n' "$1"
	trap - EXIT
	cleanup
	exit "$SKIP"
}

# die MESSAGE: nothing that follows would make sense.
die() {
	printf 'Bail out! %s\n' "$*"
	failures=$((failures + 1))
	exit 1
}

# --------------------------------------------------------------------------------------------- clean-up

# on_exit COMMAND...: done at the end, last one first.
on_exit() {
	exit_actions=("$(printf '%q ' "$@")" "${exit_actions[@]}")
}

cleanup() {
	local action
	for action in "${exit_actions[@]}"; do
		eval "$action" >/dev/null 2>&1
	done
	rm -rf "$WORK"
}

finish() {
	[[ -z $name ]] || printf 'not ok %d - %s # the script ended within it\n' "$((tests + 1))" "$name"
	cleanup
	printf '1..%d\n' "$tests"
	[[ $failures -eq 0 && $tests -gt 0 && -z $name ]] || exit 1
	exit 0
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# push_sysctl NAME VALUE: until the end of the script.
push_sysctl() {
	local old
	old=$(sysctl_value "$1") || return
	on_exit sysctl_set "$1" "$old"
	sysctl_set "$1" "$2"
}

sysctl_value() {
	cat "/proc/sys/${1//.//}"
}

sysctl_set() {
	echo "$2" 2>/dev/null >"/proc/sys/${1//.//}"
}

# ------------------------------------------------------------------------------------------------ waiting

# retry COMMAND...: until it succeeds; not for ever.
retry() {
	local end=$((SECONDS + RETRY_LIMIT))
	while ((SECONDS < end)); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.1
	done
	fail "for $RETRY_LIMIT s" "$*" "success"
	return 1
}

# sleeping PID: it waits for something.
sleeping() {
	[[ $(sed 's/^.*) //; s/ .*//' "/proc/$1/stat") == S ]]
}

# asleep_in PID FUNCTION: it waits in a call made by this function.
asleep_in() {
	sleeping "$1" && grep -q "^\[<0>\] $2+" "/proc/$1/stack"
}

gone() {
	[[ ! -e /proc/$1 ]]
}

# interrupt PID: a program of the script's own ends by a signal, to which it may not listen while it starts.
interrupt() {
	retry eval "kill -INT $1 2>/dev/null; gone $1"
	wait "$1"
}

# -------------------------------------------------------------------------------------------- kernel log

# log: the kernel's log since start_test.
log() {
	dmesg --notime --color=never | awk -v mark="$mark" 'on; $0 == mark { on = 1 }'
}

# Names of patches whose lines (`NAME: …`) belong to kcare_log, as an extended regular expression.
patches=none

# kcare_log: what kcare, and patches that log, have logged since start_test. Sizes, times and node numbers are no
# contract, and the first two lines are those of the kernel about any module that Debian has not built.
kcare_log() {
	log | sed -nE "s/^kcare: //p; /^($patches): /p" | sed -E '
		/^loading out-of-tree module taints kernel\.$/d
		/^module verification failed: /d
		/^payloads may be signed by /d
		/^this module trusts a development key: /d
		s/^allocated [1-9][0-9]* bytes/allocated N bytes/
		s/^([1-9][0-9]*) relocations to fixup/N relocations to fixup/
		s/^fixed [1-9][0-9]* relocations/fixed N relocations/
		s/stopped for [0-9]+ us, [0-9]+ retries/stopped for N us, N retries/
		s/node 10:[0-9]+$/node 10:N/'
}

# applied_log LEVEL FUNCTIONS DIRECT IPMODIFY: the contract for a payload that goes live.
applied_log() {
	cat <<-EOT
		verifying patch...
		verified successfully
		allocated N bytes for patch at kcare_$1
		N relocations to fixup...
		fixed N relocations
		patch level $1 applied: $2 functions switched ($3 direct, $4 ipmodify), stopped for N us, N retries
	EOT
}

# unloaded_log LEVEL FUNCTIONS
unloaded_log() {
	echo "patch level $1 unloaded: $2 functions switched back, stopped for N us, N retries"
}

# ------------------------------------------------------------------------------------------------- kcare

# load_kcare [PARAMETER]...
load_kcare() {
	[[ -e $KO ]] || skip "there is no kcare.ko for $RELEASE"
	insmod "$KO" "$@" || die "kcare.ko cannot be loaded"
	on_exit remove_kcare
}

# forget_keys: IMA keeps a copy of every new key until a policy comes, or for 5 minutes (ima_queue_key()).
forget_keys() {
	[[ ! -e /sys/kernel/security/ima ]] || echo 'dont_measure fsmagic=0x9fa0' >/sys/kernel/security/ima/policy
}

# reload_kcare [PARAMETER]...
reload_kcare() {
	rmmod kcare && insmod "$KO" "$@" || die "kcare.ko cannot be loaded again"
}

remove_kcare() {
	kpush unload
	rmmod kcare
}

# payload NAME: the path of a payload; it has been built by tests/run.
payload() {
	printf '%s/%s.kpatch' "$PAYLOADS" "$1"
}

# need_payloads NAME...
need_payloads() {
	local payload
	for payload; do
		[[ -s $(payload "$payload") ]] || die "there is no payload $payload for $RELEASE"
	done
}

# apply NAME [OPTION]...: applies a payload; prints the error number and the reason.
apply() {
	local payload
	payload=$(payload "$1")
	shift
	kpush apply "$@" "$payload" | cut -f2,3
}

# back WAY: `unload` or `rollback`; prints the same.
back() {
	kpush "$1" | cut -f2,3
}

# answer FIELD LINE: of a line of kpush: name, errno, reason, place, text.
answer() {
	local -A fields=([name]=1 [errno]=2 [reason]=3 [place]=4 [text]=5)
	cut -f"${fields[$1]}" <<<"$2"
}

# in_module_list NAME
in_module_list() {
	grep -q "^$1 " /proc/modules
}

# redirected: the functions that something attached to ftrace has taken.
redirected() {
	sed -n 's/^\([^[:space:]]\+\) .*/\1/p' "$TRACING/enabled_functions" | sort | xargs
}

# state: what must be as before when something has been refused or taken back. A module's text is in no list of its
# own; its symbols and its functions known to ftrace are.
state() {
	echo "modules: $(cut -d' ' -f1 /proc/modules | sort | xargs)"
	echo "redirected: $(redirected)"
	echo "symbols: $(grep -c '\[kcare_[0-9]*\]' /proc/kallsyms)"
	echo "traceable: $(grep -c '\[kcare_[0-9]*\]' "$TRACING/available_filter_functions")"
	echo "cmdline: $(cat /proc/cmdline)"
	echo "eventfd: $(evfd value)"
	kpush info | grep -E '^(state|level|previous|functions) ' | sed 's/^/kcare: /'
}

# ------------------------------------------------------------------------------------------------ memory

# memory: what is in use, as "NAME COUNT". Areas of vmalloc by owner, without the stacks of tasks, which come and go with
# every process, and what waits to be unmapped; and the objects of kmalloc() that have kcare or a level in the stack of
# their allocation, by cache and place, if the script runs with `slab_debug=FZPU,kmalloc-*`. By that the kernel writes
# stacks down (mm/slub.c, slab_debugfs_show()), keeps no object for itself that is free, and notices what is written to one.
memory() {
	awk '/unpurged|vm_map_ram/ { next } { print ($3 ~ /^[a-z_]/ ? $3 : "other") }' /proc/vmallocinfo |
		sed 's/\.[a-z0-9.]*+.*//; s/+.*//' | grep -vE '^(dup_task_struct|alloc_thread_stack_node|copy_process|kernel_clone)$' |
		sort | uniq -c | awk '{ print $2, $1 }'
	objects | awk '{ count[$2] += $1 } END { for (name in count) print name, count[name] }'
}

# objects: the objects of `memory`, as "COUNT CACHE:PLACE STACK" for each stack. Without kcare, its functions have
# addresses and no names any more. What other caches keep for each CPU is the allocator's own.
objects() {
	local ours='[^ \n]+ [[]kcare[^\n]*'
	# KASAN keeps what is free for a while (mm/kasan/quarantine.c); there kmemleak looks.
	[[ -e /sys/kernel/debug/slab/kmalloc-8/alloc_traces && $RELEASE != *-debug-* ]] || return 0
	[[ -d /sys/module/kcare ]] || ours='0xffffffff[^\n]*'
	# The kernel's list grows by doubling in one piece of memory, and leaves out silently what that has no room for
	# (add_location(), mm/slub.c).
	echo 1 >/proc/sys/vm/compact_memory
	awk -v RS= -F '\n' -v ours="$ours" '
		/__pcs_replace_(empty|full)_main/ { next }
		match($0, ours) {
			cache = FILENAME
			gsub(/.*\/slab\/|\/alloc_traces/, "", cache)
			place = substr($0, RSTART, RLENGTH)
			gsub(/^ *| .*/, "", place)
			printf "%d %s:%s", $0, cache, place
			for (i = 2; i <= NF; i++) {
				gsub(/^ *|\+.*/, "", $i)
				printf " %s", $i
			}
			print ""
		}' /sys/kernel/debug/slab/kmalloc-*/alloc_traces
}

# more [KEPT]: what there is more of than `memory` had in $WORK/memory, by more than KEPT (default: 0), as "NAME MORE".
more() {
	memory >"$WORK/memory.now"
	awk -v kept="${1:-0}" 'NR == FNR { before[$1] = $2; next } $2 > before[$1] + kept { print $1, $2 - before[$1] }' \
		"$WORK/memory" "$WORK/memory.now"
}

# remains [KEPT]: like more, after a while for what is on its way to be freed; with the stacks of objects.
remains() {
	local now end=$((SECONDS + RETRY_LIMIT / 3))
	while now=$(more "$@") && [[ $now && $SECONDS -lt $end ]]; do
		sleep 0.1
	done
	[[ $now ]] || return 0
	echo "$now"
	objects | awk 'NR == FNR { more[$1]; next } $2 in more' <(echo "$now") - | head -n 40
}

# unreferenced: objects that nothing points to, where there is kmemleak=on.
unreferenced() {
	[[ -e /sys/kernel/debug/kmemleak ]] || return 0
	# What is on its way to be freed can look lost once.
	echo scan >/sys/kernel/debug/kmemleak
	echo scan >/sys/kernel/debug/kmemleak
	cat /sys/kernel/debug/kmemleak
}

# lost COMMAND...: what COMMAND takes and does not give back, as "NAME MORE". It is run twice, as some things are kept once.
lost() {
	"$@"
	memory >"$WORK/memory"
	"$@"
	remains
}

# nothing_is_left STATE: a whole test, behind many times of something, with memory as of `memory` before in $WORK/memory.
# What is kept once, such as room in a list, depends on what was done last.
nothing_is_left() {
	start_test "nothing is left"
	is "state" "$(state)" "$1"
	is "lost" "$(remains 3)" ""
	is "unreferenced" "$(unreferenced 2>/dev/null)" ""
	is "complaints" "$(complaints)" ""
	check_result
}

# complaints: those of the kernel that the script does not expect (`#@ expected:`, as in tests/run).
complaints() {
	local expected
	expected=$(sed -n 's/^#@ expected: *//p' "$0")
	dmesg | grep -E 'WARNING:|BUG:|Oops|rcu: INFO|hung|lockup' | grep -vE "${expected:-^$}"
}
