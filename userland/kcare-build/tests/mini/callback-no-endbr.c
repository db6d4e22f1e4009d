// SPDX-License-Identifier: GPL-2.0
//#Refused: begin: is a callback, and has no ENDBR
#include "mini.h"
#include <linux/livepatch_helpers.h>

int answer(int x)
{
	return x;
}

#ifdef PATCHED
static __attribute__((nocf_check)) int begin(struct klp_object *object)
{
	return answer(3);
}
/* The attribute is part of the pointer's type. */
int (*__klp_pre_patch_callback_vmlinux)(struct klp_object *) __attribute__((nocf_check)) __used
	__section(".discard.klp_callback_ptrs") = begin;
#endif
