/* SPDX-License-Identifier: GPL-2.0 */
/* The names by which fixes written for kpatch-build define system calls: those of the kernel do the same. */
#ifndef _KPATCH_SYSCALL_H
#define _KPATCH_SYSCALL_H

#include <linux/livepatch_helpers.h>
#include "kpatch-macros.h"

#define KPATCH_SYSCALL_DEFINE1	KLP_SYSCALL_DEFINE1
#define KPATCH_SYSCALL_DEFINE2	KLP_SYSCALL_DEFINE2
#define KPATCH_SYSCALL_DEFINE3	KLP_SYSCALL_DEFINE3
#define KPATCH_SYSCALL_DEFINE4	KLP_SYSCALL_DEFINE4
#define KPATCH_SYSCALL_DEFINE5	KLP_SYSCALL_DEFINE5
#define KPATCH_SYSCALL_DEFINE6	KLP_SYSCALL_DEFINE6
#define KPATCH_SYSCALL_DEFINEx	KLP_SYSCALL_DEFINEx

#endif /* _KPATCH_SYSCALL_H */
