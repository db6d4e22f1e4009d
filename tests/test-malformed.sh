#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Payloads that are malformed and signed with the right key: each is refused for the expected reason at the expected
# place, and none leaves anything behind.
#
# - all of malform's variants of a real payload
# - the memory in use is the same after many rounds of them

#@ append: slab_debug=FZPU,kmalloc-*

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

# Each is pushed so often for the count of objects.
readonly ROUNDS=3

malformed=$PAYLOADS/malformed
need_payloads cmdline
[[ -s $malformed/index.tsv ]] || die "there are no malformed payloads for $RELEASE"
mapfile -t files < <(cut -f1 "$malformed/index.tsv" | sed "s|^|$malformed/|")
load_kcare
state=$(state)
# The good payload fills what the kernel keeps: its cache of executable memory, ftrace's pages.
kpush apply "$(payload cmdline)" >/dev/null
kpush unload >/dev/null
# 15 000 lines are not of interest on the console; warnings are.
dmesg -n 5

start_test "each is refused for its reason, at its place"
kpush apply "${files[@]}" >"$WORK/answers"
is "pushed" "$(wc -l <"$WORK/answers")" "${#files[@]}"
[[ ${#files[@]} -ge 50 ]] || fail "malformed payloads" "${#files[@]}" "50 or more"
# index.tsv: file, reason or REASON|SOONER, place as a word, place in words. The place is the first reason's.
join -t $'\t' <(sort "$malformed/index.tsv") <(sort "$WORK/answers") | awk -F'\t' '
	{ split($2, reasons, "|") }
	$6 == reasons[1] && $7 == $4 { right++; next }
	reasons[2] != "" && $6 == reasons[2] { right++; next }
	{ printf "%s: %s at %s, not %s at %s\n", $1, $6, $7, $2, $4 }
	END { print right + 0, "right" }' >"$WORK/verdict"
is "verdict" "$(<"$WORK/verdict")" "${#files[@]} right"
is "with the error number of success" "$(cut -f2 "$WORK/answers" | grep -c '^ok$')" 0
is "failures" "$(kpush info | sed -n 's/^failures //p')" "${#files[@]}"
is "state" "$(state)" "$state"
printf '# %d payloads, %d reasons\n' "${#files[@]}" "$(cut -f3 "$WORK/answers" | sort -u | wc -l)"
check_result

start_test "no memory is lost"
push_all() {
	kpush apply -n "$ROUNDS" "${files[@]}" >"$WORK/again"
	is "pushed" "$(wc -l <"$WORK/again")" $((${#files[@]} * ROUNDS))
	is "the same answers" "$(cut -f1-4 "$WORK/again" | uniq)" "$(cut -f1-4 "$WORK/answers")"
}
lost push_all >"$WORK/lost"
is "lost" "$(<"$WORK/lost")" ""
is "state" "$(state)" "$state"
check_result

start_test "the good payload goes live after all that"
is "answer" "$(kpush apply "$(payload cmdline)" | cut -f2,3)" $'ok\tok'
like "/proc/cmdline" "$(</proc/cmdline)" ' kcare=1$'
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
is "state" "$(state)" "$state"
check_result "$(applied_log 1 1 1 0)
$(unloaded_log 1 1)"
