#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#@ reboots: 20
#@ timeout: 1800
#
# The power is cut twenty times, at random moments of downloads, updates and unloads. After each the machine comes up, its
# files are whole, and the next update ends well. Not part of the usual run (`make test-all`).

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly TREE=$PAYLOADS/tree BOOT=${KCARE_VM_BOOT:-0} CUTS=20
readonly CACHE=/var/cache/kcare STATE=/var/lib/kcare
[[ -e $TREE/made ]] || die "there is no tree for $RELEASE"
kernel=$(ls "$TREE/two")

level() {
	cat "$VIEWS/level"
}

# whole FILE...: JSON that can be read.
whole() {
	python3 -c 'import json, sys; [json.load(open(name)) for name in sys.argv[1:]]' "$@"
}

# payloads FOLDER: those in it whose content is none of the tree's.
payloads() {
	find "$1" -name '*.kpatch' -exec sha256sum {} + 2>/dev/null | while read -r sum _; do
		[[ -n $(find "$TREE/two/$kernel/t" -name "$sum.*") ]] || echo "$sum"
	done
}

# busy: changes everything that there is to change, for ever.
busy() {
	local i
	for ((i = 0; ; i++)); do
		case $((RANDOM % 5)) in
		0) kcarectl --unload ;;
		1)
			rm -rf "$STATE/levels"
			kcarectl --update --force
			;;
		2)
			rm -rf "$CACHE/tree"
			kcarectl --fetch
			;;
		3) kcarectl --apply-cached --force ;;
		4)
			kcarectl --unload
			rm -rf "$STATE/tuf"
			kcarectl --apply-cached --force
			;;
		esac
	done >/dev/null 2>&1
}

insmod "$KO" || die "kcare.ko cannot be loaded"
if [[ $BOOT -eq 0 ]]; then
	mkdir -p /etc/sysconfig/kcare /usr/share/kcare
	cp "$TREE/keys/1.root.json" /usr/share/kcare/root.json
	echo "PATCH_SERVER=file://$TREE/two" >/etc/sysconfig/kcare/kcare.conf
	sync
else
	start_test "after power cut $BOOT"
	for file in "$STATE"/{trial,held}.json "$CACHE/tree/$kernel"/*.json "$STATE/tuf/default/$kernel"/*.json; do
		[[ ! -e $file ]] || succeeds whole "$file"
	done
	is "payloads are whole" "$(payloads "$STATE"; payloads "$CACHE")" ""
	run kcarectl --status
	like "the status can be told" "$status" '^[0-3]$'
	run kcarectl --apply-cached
	like "the boot goes on" "$status" '^[01]$'
	[[ $status -ne 1 ]] || like "a level that is not applied is held, or is not there" "$out" 'went down|The cache has no patch level'
	succeeds kcarectl --fetch
	succeeds kcarectl --update --force
	is "level" "$(level)" 2
	succeeds kcarectl --history
	check_result
fi
[[ $BOOT -lt $CUTS ]] || exit
busy &
sleep "$((RANDOM % 3)).$((RANDOM % 10))$((RANDOM % 10))"
trap - EXIT
rm -rf "$WORK"
echo b >/proc/sysrq-trigger
sleep 1000
