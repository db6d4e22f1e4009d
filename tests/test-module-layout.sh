#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The builder knows where the kernel puts a module's sections: for stock modules with all kinds of them, every symbol
# that /proc/kallsyms has is where `kcare-build inspect --module` says, and there are no others.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

command -v kcare-build >/dev/null || die "kcare-build is not built"

# One unit; several; per-CPU variables; static calls; tracepoints and data that is read-only after init; large ones.
for module in dummy zram nf_tables dm_mod nfsd kvm xfs btrfs; do
	start_test "$module"
	succeeds modprobe "$module"
	succeeds modlayout "$module"
	printf '%s\n' "$out" | sed 's/^/# /'
	check_result
done
