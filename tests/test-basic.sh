#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The way of a fix into the kernel and out of it, with the programs that a user has.
#
# - nothing applied: what kcarectl says
# - a payload goes live: its effect, the log, what the programs and the kernel say about it
# - the same again is refused (test-levels.sh has the other levels)
# - unload: no trace is left
# - a payload with new data, with functions of two files, with fixes
# - requests that are refused: unknown flags and commands, no privilege, bad memory, bad files

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads cmdline new-data multi
load_kcare
original=$(</proc/cmdline)
state=$(state)

# delete_module NAME [FLAG]: what the system call says.
delete_module() {
	python3 -c '
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
flags = os.O_NONBLOCK | sum(getattr(os, flag) for flag in sys.argv[2:])
if libc.syscall(176, sys.argv[1].encode(), flags):
    print(errno.errorcode[ctypes.get_errno()])' "$@"
}

start_test "whose payloads are taken"
# The certificate is that of a development key, which is not to be overlooked.
trusted=$(<"$VIEWS/certificates")
like "sysfs" "$trusted" '^CN=kcare development key,O=kcare, sha256 [0-9a-f]{64}$'
is "the module's own word" "$(tr '\0' '\n' <"$KO" | sed -n 's/^kcare_cert=//p' | sort -u)" "$trusted"
is "log" "$(dmesg --notime --color=never | sed -n 's/^kcare: payloads may be signed by //p')" "$trusted"
is "warning in the log" "$(dmesg --level warn --notime --color=never | grep -c '^kcare: this module trusts a development key: ')" 1
run kcarectl --doctor
like "kcarectl --doctor" "$out" "note   keys      payloads may be signed by $trusted: a development key"
check_result

start_test "nothing applied"
fails 1 kcarectl --info
is "info" "$out" "kpatch-state: no patch applied"
fails 1 kcarectl --status
fails 4 kcarectl --unload
like "unload" "$out" '^kcarectl: cannot unload: nothing is applied\.'
is "read of the device" "$(head -2 /dev/kcare)" $'state: none\nlevel: 0'
check_result "unload refused (nothing-applied): nothing is applied"

start_test "a payload goes live"
succeeds kcare-push "$(payload cmdline)"
is "kcare-push" "$out" $'Patch Level 1 applied\nKernel is safe'
is "/proc/cmdline" "$(</proc/cmdline)" "$original kcare=1"
check_result "$(applied_log 1 1 1 0)"

start_test "what is told about it"
succeeds kcarectl --info
is "lines" "$(wc -l <<<"$out")" 4
is "state" "$(sed -n 1p <<<"$out")" "kpatch-state: patch is applied"
is "kernel" "$(sed -n 2p <<<"$out")" "kpatch-for: $(</proc/version)"
like "build time" "$(sed -n 3p <<<"$out")" '^kpatch-build-time: [A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} 20[0-9]{2}$'
is "description" "$(sed -n 4p <<<"$out")" "kpatch-description: 1;test"
succeeds kcarectl --status
like "status" "$out" '^Protected: patch level 1 is applied'
succeeds kcarectl --patch-info
like "name of the fix" "$out" 'kpatch-name: a test shows itself in /proc/cmdline'
like "its number" "$out" 'kpatch-cve: CVE-2026-4243'
package=$(sed -n 's/.* Debian \([^ ]*\) (.*/\1/p' /proc/version)
if [[ -n $package ]]; then
	is "the kernel's package" "$(sed -n 2p <<<"$out")" "kernel: linux-$package"
else
	# A kernel of our own does not say of which package its source is.
	like "the kernel's package" "$(sed -n 2p <<<"$out")" '^kernel: linux-[0-9]'
fi
is "level" "$(grep -E '^(state|level|functions|fixes|failures) ' <<<"$(kpush info)" | xargs)" \
	"state 1 level 1 functions 1 fixes 1 failures 1"
is "build-id" "$(kpush info | sed -n 's/^build-id //p')" \
	"$(od -An -v -tx1 /sys/kernel/notes | tr -d ' \n' | grep -oP '040000001400000003000000474e5500\K.{40}')"
check_result ""

start_test "what monitoring reads"
values() {
	(cd "$VIEWS" && grep -H . state level previous_level description cves failures) | sed 's/:/ /' | xargs
}
is "rights" "$(cd "$VIEWS" && stat -c '%A %U %n' state level previous_level description cves failures oopses stop_last_ns stop_max_ns certificates |
	sed 's/ [^ ]*$//' | uniq -c | xargs)" "10 -r--r--r-- root"
is "rights of what can be written" "$(cd "$VIEWS" && stat -c '%A %U %n' redirect)" "-rw-r--r-- root redirect"
is "values" "$(values)" "state applied level 1 previous_level 0 description 1;test cves CVE-2026-4243 failures 1"
is "to nobody" "$(setpriv --reuid nobody --clear-groups cat "$VIEWS/level")" 1
like "stop" "$(cat "$VIEWS"/stop_{last,max}_ns | uniq)" '^[1-9][0-9]*$'
is "rights of /proc/kcare" "$(stat -c '%A %U %n' /proc/kcare/* | xargs)" \
	"-r--r--r-- root /proc/kcare/cvelist -r--r--r-- root /proc/kcare/effective_version -r--r--r-- root /proc/kcare/status"
is "CVEs" "$(setpriv --reuid nobody --clear-groups cat /proc/kcare/cvelist)" CVE-2026-4243
is "effective version" "$(</proc/kcare/effective_version)" test
is "scanners" "$(setpriv --reuid nobody --clear-groups kcarectl --uname)" test
is "the same" "$(kcare-uname -r)" test
is "status" "$(tail -n +2 /proc/kcare/status)" "$(</dev/kcare)"
is "/dev/kcare says the same" "$(sed -n 's/^stop-max-ns: //p' /dev/kcare)" "$(<"$VIEWS/stop_max_ns")"
check_result ""

start_test "the kernel knows the patch as a module"
like "in /proc/modules" "$(grep '^kcare_1 ' /proc/modules)" '^kcare_1 [0-9]+ 1 kcare, Live '
is "in /proc/kallsyms" "$(grep -c ' cmdline_proc_show.*\[kcare_1\]' /proc/kallsyms)" 1
is "redirected" "$(redirected)" "cmdline_proc_show"
succeeds lsmod
is "lsmod" "$(awk '$1 ~ /^kcare/ { print $1, $3, $4 }' <<<"$out" | sort | xargs)" "kcare 1 kcare_1 kcare_1 1 kcare"
unlike "errors of lsmod" "$out" 'ERROR|-[0-9]'
is "/sys/module/kcare_1" "$(cd /sys/module/kcare_1 && grep -H . initsize initstate refcnt taint | xargs)" \
	"initsize:0 initstate:live refcnt:1 taint:OEK"
is "its size" "$(</sys/module/kcare_1/coresize)" "$(awk '$1 == "kcare_1" { print $2 }' /proc/modules)"
is "holders" "$(cd /sys/module && echo kcare_1/holders/* kcare/holders/*)" "kcare_1/holders/kcare kcare/holders/kcare_1"
fails 1 rmmod kcare_1
like "rmmod kcare_1" "$out" "in use"
is "delete_module" "$(delete_module kcare_1)" EAGAIN
is "delete_module, by force" "$(delete_module kcare_1 O_TRUNC)" EAGAIN
is "delete_module of kcare, by force" "$(delete_module kcare O_TRUNC)" EAGAIN
fails 1 rmmod kcare
like "rmmod kcare" "$out" "in use"
is "still patched" "$(</proc/cmdline)" "$original kcare=1"
check_result ""

start_test "the same payload again is refused"
fails 4 kcare-push "$(payload cmdline)"
like "kcare-push" "$out" 'this patch level is live already'
check_result "verifying patch...
verified successfully
patch refused (already-live): patch level 1 cannot be applied over level 1: it is live already"

start_test "unload"
succeeds kcarectl --unload
is "kcarectl" "$out" "KernelCare protection disabled, kernel might not be safe"
is "state" "$(state)" "$state"
is "/proc/cmdline" "$(</proc/cmdline)" "$original"
is "info" "$(kcarectl --info)" "kpatch-state: no patch applied"
is "ftrace's records of the patch" "$(grep -c 'kcare_1' "$TRACING/touched_functions")" 0
check_result "$(unloaded_log 1 1)"

start_test "new data: constants, a lock, a counter that starts at 0"
version=$(</proc/version)
for round in 1 2; do
	# Not with kcare-push, which reads /proc/version itself.
	is "apply" "$(kpush apply "$(payload new-data)" | cut -f2,3)" $'ok\tok'
	is "round $round" "$(for ((i = 0; i < 5; i++)); do grep -o 'kcare reads: [a-z]* ([0-9]*)' /proc/version; done | xargs)" \
		"kcare reads: zero (0) kcare reads: one (1) kcare reads: two (2) kcare reads: many (3) kcare reads: many (4)"
	is "the rest" "$(grep -o 'Linux version .*' /proc/version)" "$version"
	is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
done
is "/proc/version" "$(</proc/version)" "$version"
check_result "$(for round in 1 2; do
	applied_log 1 1 1 0
	unloaded_log 1 1
done)"

start_test "functions of two files"
succeeds kcare-push "$(payload multi)"
is "/proc/cmdline" "$(</proc/cmdline)" "$original kcare.multi=1"
is "/proc/meminfo" "$(sed -n 3p /proc/meminfo)" "KcareMulti:        16972 kB"
is "redirected" "$(redirected)" "cmdline_proc_show meminfo_proc_show"
succeeds kcarectl --unload
is "state" "$(state)" "$state"
like "/proc/meminfo" "$(sed -n 3p /proc/meminfo)" '^MemAvailable:'
check_result "$(applied_log 1 2 2 0)
$(unloaded_log 1 2)"

start_test "unknown flags and commands are refused"
is "apply" "$(kpush apply -f 8 "$(payload cmdline)" | cut -f2,3)" $'EOPNOTSUPP\tunknown-flags'
is "apply, the highest flag" "$(kpush apply -f 0x80000000 "$(payload cmdline)" | cut -f2,3)" $'EOPNOTSUPP\tunknown-flags'
is "unload" "$(kpush unload -f 2 | cut -f2,3)" $'EOPNOTSUPP\tunknown-flags'
is "a command that there is not" "$(kpush command 0x6b05 | cut -f2)" ENOTTY
# The number of apply with another size of its argument.
is "another size" "$(kpush command 0xc0286b00 | cut -f2)" ENOTTY
is "state" "$(state)" "$state"
check_result "patch refused (unknown-flags): the request has unknown flags
patch refused (unknown-flags): the request has unknown flags
unload refused (unknown-flags): the request has unknown flags"

start_test "memory that is not there"
is "payload" "$(kpush null 4096 | cut -f2,3)" $'EFAULT\tuser-memory'
is "nothing" "$(kpush null 0 | cut -f2,3)" $'ENOEXEC\ttoo-small'
is "more than 64 MiB" "$(kpush null $(((64 << 20) + 1)) | cut -f2,3)" $'EFBIG\ttoo-large'
is "all of the address space" "$(kpush null 0xffffffffffffffff | cut -f2,3)" $'EFBIG\ttoo-large'
is "argument" "$(kpush command 0xc0306b00 | cut -f2)" EFAULT
check_result "patch refused (user-memory): the caller's memory cannot be read or written
patch refused (too-small): the payload is shorter than an ELF header
patch refused (too-large): the payload is larger than 64 MiB
patch refused (too-large): the payload is larger than 64 MiB"

start_test "no privilege, no patch"
fails 4 setpriv --reuid=1 --clear-groups -- kcare-push "$(payload cmdline)"
like "another user" "$out" '^kcare-push: .*root'
fails 4 setpriv --reuid=1 --clear-groups -- kcarectl --unload
succeeds setpriv --reuid=1 --clear-groups -- kcarectl --patch-info
# The device's mode lets root in; CAP_SYS_MODULE is still asked for.
without=(setpriv --bounding-set=-sys_module --inh-caps=-sys_module -- kpush)
is "apply" "$("${without[@]}" apply "$(payload cmdline)" | cut -f2)" EPERM
is "unload" "$("${without[@]}" unload | cut -f2)" EPERM
fails 2 "${without[@]}" info
like "info" "$out" 'Operation not permitted'
is "state" "$(state)" "$state"
check_result ""

start_test "files that are no payloads"
fails 4 kcare-push "$WORK/absent.kpatch"
like "absent" "$out" 'there is no such file'
: >"$WORK/empty.kpatch"
fails 4 kcare-push "$WORK/empty.kpatch"
like "empty" "$out" 'it is empty'
head -c 10 "$(payload cmdline)" >"$WORK/short.kpatch"
fails 6 kcare-push "$WORK/short.kpatch"
like "short" "$out" 'signature'
head -c 2000 "$(payload cmdline)" >"$WORK/cut.kpatch"
is "cut off" "$(kpush apply "$WORK/cut.kpatch" | cut -f2,3)" $'EKEYREJECTED\tsignature-missing'
is "state" "$(state)" "$state"
check_result "verifying patch...
patch refused (signature-missing): the payload carries no signature
verifying patch...
patch refused (signature-missing): the payload carries no signature"

start_test "failures are counted"
is "failures" "$(kpush info | sed -n 's/^failures //p')" 11
check_result ""

start_test "the history"
kcarectl --history >"$WORK/history"
is "the first that went well" "$(grep -m 1 " ok$" "$WORK/history" | sed 's/^.* UTC  //; s/ \+/ /g')" "apply none -> 1 ok"
is "those that failed" "$(grep -vc ' ok$' "$WORK/history")" 11
is "in /dev/kcare" "$(grep -c '^event: ' /dev/kcare)" "$(wc -l <"$WORK/history")"
is "as JSON" "$(kcarectl --history --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["history"]))')" \
	"$(wc -l <"$WORK/history")"
check_result ""
