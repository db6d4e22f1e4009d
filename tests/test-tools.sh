#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the ordinary tools say about a live level: it is to them what any other module without a file is.
#
# - lsmod, modinfo, /sys/module, /proc/kallsyms
# - ftrace: lists, function tracer, function graph, kprobe events
# - bpftrace: kprobes on the original and on the new body; fentry, which a direct redirect excludes, and IPMODIFY does not
# - perf: samples of a hot function with a vmlinux, without, and with a saved kallsyms; perf trace, perf probe
# - the stack of a task that sleeps in patched code

#@ timeout: 600

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads cmdline blocked-eventfd getpid
readonly FUNCTION=cmdline_proc_show

load_kcare
original=$(</proc/cmdline)
state=$(state)

clear_tracing() {
	echo nop >"$TRACING/current_tracer"
	echo >"$TRACING/set_ftrace_filter"
	echo >"$TRACING/set_graph_function"
	[[ ! -e $TRACING/events/kprobes ]] || echo 0 >"$TRACING/events/kprobes/enable"
	echo >"$TRACING/kprobe_events"
	echo >"$TRACING/trace"
}
on_exit clear_tracing

# address NAME [MODULE]: from /proc/kallsyms, of vmlinux without MODULE.
address() {
	awk -F '[ \t]' -v name="$1" -v module="${2:+[$2]}" '$3 == name && $4 == module { print $1 }' /proc/kallsyms
}

# traced: what the tracer has recorded, without task, CPU and time.
traced() {
	grep -v '^#' "$TRACING/trace" | sed 's/^.*[0-9]: //'
}

# trace PROGRAM: bpftrace in the background, as $tracer, with its output in $WORK/bpftrace.
trace() {
	bpftrace -B line -e "$1" >"$WORK/bpftrace" 2>&1 &
	tracer=$!
}

# hit NAME...: the patched function runs, and the programs have printed each of these names.
hit() {
	local hit
	cat /proc/cmdline
	for hit; do
		grep -q "^$hit" "$WORK/bpftrace" || return
	done
}

start_test "lsmod and modinfo"
is "apply" "$(apply cmdline)" $'ok\tok'
succeeds lsmod
like "lsmod" "$(grep '^kcare_1 ' <<<"$out")" '^kcare_1 +[1-9][0-9]* +1 kcare$'
like "lsmod, kcare" "$(grep '^kcare ' <<<"$out")" '^kcare +[1-9][0-9]* +1 kcare_1$'
# Complaints about a module have words where the list has numbers.
is "all else of lsmod" "$(grep -vE '^[a-z0-9_]+ +[1-9][0-9]* +[0-9]+( [a-z0-9_,]+)? *$' <<<"$out")" \
	"Module                  Size  Used by"
# It looks for a file below /lib/modules, and a level has none.
fails 1 modinfo kcare_1
is "modinfo" "$out" "modinfo: ERROR: Module kcare_1 not found."
check_result

# section NAME: where a section of the level begins, says /sys/module.
section() {
	cat "/sys/module/kcare_1/sections/$1"
}

start_test "/sys/module"
is "files" "$(cd /sys/module && find kcare_1 -path kcare_1/sections/\* -o -printf '%M %p %l\n' | sed 's/ $//' | sort -k 2)" \
	"drwxr-xr-x kcare_1
-r--r--r-- kcare_1/coresize
drwxr-xr-x kcare_1/holders
lrwxrwxrwx kcare_1/holders/kcare ../../kcare
-r--r--r-- kcare_1/initsize
-r--r--r-- kcare_1/initstate
-r--r--r-- kcare_1/refcnt
drwxr-xr-x kcare_1/sections
-r--r--r-- kcare_1/taint"
is "sections" "$(cd /sys/module/kcare_1/sections && find . -type f -printf '%m %s %P\n' | LC_ALL=C sort -k 3)" \
	"400 19 .data
400 19 .rodata
400 19 .text"
is "code" "$(section .text)" "$(sed -n 's/^kcare_1 .* \(0x[0-9a-f]*\)\( .*\)\?$/\1/p' /proc/modules)"
# Trampolines come first.
is "the same, says /proc/kallsyms" "$(section .text)" "0x$(address "redirect.$FUNCTION" kcare_1)"
is "byte by byte" "$(dd if=/sys/module/kcare_1/sections/.text bs=1 status=none)" "$(section .text)"
on_exit sysctl -q kernel.kptr_restrict="$(sysctl -n kernel.kptr_restrict)"
sysctl -q kernel.kptr_restrict=2
is "to whom addresses are hidden" "$(section .text)" 0x0000000000000000
sysctl -q kernel.kptr_restrict=0
is "state" "$(cd /sys/module/kcare_1 && cat initstate refcnt taint | xargs)" "live 1 OEK"
check_result ""

start_test "/proc/kallsyms"
like "symbols" "$(sed -n '/\[kcare_1\]$/s/^[0-9a-f]* //p' /proc/kallsyms | sort)" \
	"^t $FUNCTION"$'\t\[kcare_1\]\n'"t redirect\.$FUNCTION"$'\t\[kcare_1\]$'
isnt "address of the original" "$(address $FUNCTION)" ""
isnt "address of the new body" "$(address $FUNCTION kcare_1)" ""
check_result ""

start_test "lists of ftrace"
is "functions" "$(grep "^$FUNCTION" "$TRACING/available_filter_functions")" "$FUNCTION
$FUNCTION [kcare_1]"
like "redirects" "$(grep -A 1 "^$FUNCTION " "$TRACING/enabled_functions")" \
	"^$FUNCTION \(1\) R +D +M .*"$'\n\t'"direct\(jmp\)-->$FUNCTION\+0x0/0x[0-9a-f]+ \[kcare_1\]$"
is "all that is redirected" "$(redirected)" "$FUNCTION"
check_result ""

start_test "function tracer"
# The name alone means both.
echo $FUNCTION >"$TRACING/set_ftrace_filter"
is "both" "$(<"$TRACING/set_ftrace_filter")" "$FUNCTION
$FUNCTION [kcare_1]"
echo function >"$TRACING/current_tracer"
is "patched" "$(</proc/cmdline)" "$original kcare=1"
is "trace of both" "$(traced)" "$FUNCTION <-seq_read_iter
$FUNCTION <-seq_read_iter"
clear_tracing
echo "$FUNCTION:mod:kcare_1" >"$TRACING/set_ftrace_filter"
is "the new body" "$(<"$TRACING/set_ftrace_filter")" "$FUNCTION [kcare_1]"
echo function >"$TRACING/current_tracer"
is "patched" "$(</proc/cmdline)" "$original kcare=1"
is "trace of the new body" "$(traced)" "$FUNCTION <-seq_read_iter"
clear_tracing
check_result ""

start_test "function graph"
echo "$FUNCTION:mod:kcare_1" >"$TRACING/set_ftrace_filter"
echo function_graph >"$TRACING/current_tracer"
is "patched" "$(</proc/cmdline)" "$original kcare=1"
like "graph" "$(grep -v '^#' "$TRACING/trace")" "\|  +$FUNCTION \[kcare_1\]\(\);"
clear_tracing
check_result ""

start_test "kprobe events"
echo "p:original $FUNCTION" >"$TRACING/kprobe_events"
echo "p:new kcare_1:$FUNCTION" >>"$TRACING/kprobe_events"
echo 1 >"$TRACING/events/kprobes/enable"
is "patched" "$(</proc/cmdline)" "$original kcare=1"
like "hits" "$(traced)" "^original: \($FUNCTION\+0x[04]/0x[0-9a-f]+\)"$'\n'"new: \($FUNCTION\+0x[04]/0x[0-9a-f]+ \[kcare_1\]\)$"
clear_tracing
check_result ""

start_test "bpftrace: kprobes that come when the level is live"
# The instruction pointer is behind the probe; functions begin at multiples of 16.
trace "kprobe:$FUNCTION { printf(\"original %lx\\n\", reg(\"ip\") & 0xfffffffffffffff0) }
	kprobe:kcare_1:$FUNCTION { printf(\"new %lx\\n\", reg(\"ip\") & 0xfffffffffffffff0); printf(\"caller %s\\n\", kstack(2)) }"
retry hit original new
is "patched" "$(</proc/cmdline)" "$original kcare=1"
interrupt "$tracer"
is "hits" "$(grep -E '^(original|new) ' "$WORK/bpftrace" | sort -u)" "new $(address $FUNCTION kcare_1)
original $(address $FUNCTION)"
like "stack" "$(<"$WORK/bpftrace")" "$FUNCTION\+[0-9]+"$'\n +'"seq_read_iter\+[0-9]+"
check_result ""

start_test "bpftrace: fentry on what is redirected directly is refused"
# bpftrace keeps the reason to itself: an address that ftrace has in its table of direct calls is no valid one for
# another (update_ftrace_direct_add()).
fails 255 strace -f --seccomp-bpf -qq -e trace=bpf -o "$WORK/strace" bpftrace -e "fentry:vmlinux:$FUNCTION { exit() }"
is "bpftrace" "$(tail -n 1 <<<"$out")" "ERROR: Error attaching probe: fentry:vmlinux:$FUNCTION"
like "the kernel" "$(grep -E 'BPF_(LINK_CREATE|RAW_TRACEPOINT_OPEN)' "$WORK/strace" | tail -n 1)" ' = -1 EINVAL \('
is "patched" "$(</proc/cmdline)" "$original kcare=1"
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

cat >"$WORK/hot.py" <<'EOT'
import os, sys, time
# For so many seconds of CPU time.
while time.process_time() < float(sys.argv[1]):
    for _ in range(1000):
        os.getpid()
with open("/proc/self/comm", "w") as comm:
    comm.write("kcare-pid")
print(os.getpid())
EOT

# perf_names OPTION...: how perf calls most of the samples that lie in the level's memory, as "NAME (FILE)". It takes each
# module for one piece as large as all its parts, beginning with the code; so that of kcare reaches over the level's, and
# the very first sample can count as kcare's.
perf_names() {
	local start size
	start=$(sed -n 's/^kcare_1 .* 0x\([0-9a-f]*\)\( .*\)\?$/\1/p' /proc/modules)
	size=$(</sys/module/kcare_1/coresize)
	perf script -i "$WORK/perf.data" -F ip,sym,dso "$@" 2>"$WORK/perf.err" |
		awk -v start="$start" -v end="$(printf %x $((0x$start + size)))" \
			'$1 "" >= start "" && $1 "" < end "" { print $2, $3 }' | sort | uniq -c | sort -rn |
		sed -n '1s/^ *[0-9]* //p'
}

start_test "perf: samples of a hot function"
is "apply" "$(apply getpid)" $'ok\tok'
# An emulated CPU has no counter but the clock.
succeeds perf record -q -N -e cpu-clock:k -o "$WORK/perf.data" -- python3 "$WORK/hot.py" 3
is "getpid()" "$out" 4243
# With a vmlinux perf wants a file for each module, and has none for a level.
vmlinux=/usr/lib/debug/boot/vmlinux-$RELEASE
[[ -s $vmlinux ]] || fail "vmlinux" "$vmlinux" "a file"
is "with a vmlinux" "$(perf_names)" "[unknown] ([kcare_1])"
cp /proc/kallsyms "$WORK/kallsyms"
is "with a saved kallsyms" "$(perf_names --kallsyms "$WORK/kallsyms")" "__x64_sys_getpid ([kcare_1])"
succeeds perf report -i "$WORK/perf.data" --kallsyms "$WORK/kallsyms" --stdio -q --sort dso,sym
is "report" "$(awk '$2 == "[kcare_1]" { print $2, $3, $4 }' <<<"$out")" "[kcare_1] [k] __x64_sys_getpid"
# As on most machines. /proc/kcore makes one of vmlinux and modules then.
on_exit mv "$vmlinux.away" "$vmlinux"
mv "$vmlinux" "$vmlinux.away"
# perf has the last symbol of a module reach into the page behind it (symbols__fixup_end()), where a level may begin.
like "without a vmlinux" "$(perf_names)" '^(__x64_sys_getpid|__SCT__kcare_[a-z_]+) \(\[kernel\.kallsyms\]\)$'
check_result

start_test "perf trace and perf probe"
succeeds perf trace -e getpid -- python3 "$WORK/hot.py" 0
like "perf trace" "$out" 'getpid\(\) += 4243'
# As for each module without a file; kprobe events do it, as above.
fails 254 perf probe -m kcare_1 -a __x64_sys_getpid
like "perf probe" "$out" '^Failed to load symbols from kcare_1'
is "probes" "$(<"$TRACING/kprobe_events")" ""
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

start_test "the stack of a task that sleeps in patched code"
is "apply" "$(apply blocked-eventfd)" $'ok\tok'
evfd sleep >"$WORK/evfd" &
sleeper=$!
retry asleep_in "$sleeper" eventfd_read
like "stack" "$(<"/proc/$sleeper/stack")" \
	$'\n\[<0>\] eventfd_read\+0x[0-9a-f]+/0x[0-9a-f]+ \[kcare_1\]\n\[<0>\] vfs_read\+0x[0-9a-f]+/0x[0-9a-f]+\n'
kill "$sleeper"
wait "$sleeper"
is "value" "$(<"$WORK/evfd")" 1001
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result

start_test "bpftrace: fentry on what is redirected by IPMODIFY"
reload_kcare redirect=2
is "apply" "$(apply cmdline)" $'ok\tok'
like "redirect" "$(grep "^$FUNCTION " "$TRACING/enabled_functions")" "^$FUNCTION \(1\) +I +M .*ipmodify_handler\+0x0/0x[0-9a-f]+ \[kcare\]"
trace "fentry:vmlinux:$FUNCTION { printf(\"hit\\n\") }"
retry hit hit
is "patched" "$(</proc/cmdline)" "$original kcare=1"
interrupt "$tracer"
is "unload" "$(back unload)" $'ok\tok'
is "state" "$(state)" "$state"
check_result
