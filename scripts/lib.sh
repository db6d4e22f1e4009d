# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts of this folder share: messages, timing, host packages. To be sourced.

readonly SELF=${0##*/}

# die MESSAGE [HINT]: one clear message, and the next step on a line of its own.
die() {
	die_with 1 "$@"
}

# die_with STATUS MESSAGE [HINT]
die_with() {
	local status=$1
	shift
	printf '%s: %s\n' "$SELF" "$1" >&2
	[[ $# -lt 2 ]] || printf 'Hint: %s\n' "$2" >&2
	exit "$status"
}

# progress MESSAGE: progress goes to stderr, stdout carries only what was asked for.
progress() {
	printf '%s: %s\n' "$SELF" "$*" >&2
}

# now: the time in milliseconds, without a fork.
now() {
	local t=${EPOCHREALTIME/[.,]/}
	printf -v "$1" '%d' "$((t / 1000))"
}

# step LABEL COMMAND...: run it and report how long it took, and the size of $STEP_SIZE_OF if that is set.
step() {
	local label=$1 start end size='' status
	shift
	now start
	# No `||` here: that would switch errexit off inside of the command.
	"$@"
	status=$?
	[[ $status -eq 0 ]] || return "$status"
	now end
	if [[ -n ${STEP_SIZE_OF-} && -e $STEP_SIZE_OF ]]; then
		size=", $(du -sh --apparent-size "$STEP_SIZE_OF" | cut -f1)"
	fi
	progress "$(printf '%s: %d.%d s%s' "$label" $(((end - start) / 1000)) $(((end - start) % 1000 / 100)) "$size")"
}

# need_packages PACKAGE...: install what is missing of these Debian packages, so that a bare machine will do.
need_packages() {
	local missing=() package
	for package in "$@"; do
		[[ -e /var/lib/dpkg/info/$package.list || -e /var/lib/dpkg/info/$package:amd64.list ]] ||
			missing+=("$package")
	done
	[[ ${#missing[@]} -gt 0 ]] || return 0
	command -v apt-get >/dev/null ||
		die "this machine lacks ${missing[*]} and has no apt-get" "run it on a Debian machine"
	[[ $EUID -eq 0 ]] ||
		die "this machine lacks the packages ${missing[*]}" "run \`sudo apt-get install ${missing[*]}\`"
	step "installed ${missing[*]}" install_packages "${missing[@]}"
}

install_packages() {
	local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq
		-o Acquire::Retries=3 -o DPkg::Lock::Timeout=300) log
	log=$(mktemp)
	# The usual reason for a failure is a package index that is missing or stale.
	if ! "${apt[@]}" install -y --no-install-recommends "$@" >"$log" 2>&1 </dev/null &&
		! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "cannot install the packages $*" "see apt's message above"
	fi
	rm -f "$log"
}
