/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The names by which fixes written for kpatch-build ask for callbacks and exceptions.
 *
 * Fixes use them with and without a semicolon, so each declaration brings its own.
 */
#ifndef _KPATCH_MACROS_H
#define _KPATCH_MACROS_H

#include <linux/jiffies.h>
#include <linux/livepatch_helpers.h>
#include <linux/printk.h>
#include <linux/version.h>
#include "kcare.h"
#include "kpatch-syscall.h"

typedef struct klp_object patch_object;

#define KPATCH_PRE_PATCH_CALLBACK(_fn)		KLP_PRE_PATCH_CALLBACK(_fn);
#define KPATCH_POST_PATCH_CALLBACK(_fn)		KLP_POST_PATCH_CALLBACK(_fn);
#define KPATCH_PRE_UNPATCH_CALLBACK(_fn)	KLP_PRE_UNPATCH_CALLBACK(_fn);
#define KPATCH_POST_UNPATCH_CALLBACK(_fn)	KLP_POST_UNPATCH_CALLBACK(_fn);

/* Of kpatch before 0.6. */
#define KPATCH_LOAD_HOOK(_fn)	_Static_assert(0, "no load hooks: make " #_fn " a KPATCH_PRE_PATCH_CALLBACK");
#define KPATCH_UNLOAD_HOOK(_fn)	_Static_assert(0, "no unload hooks: make " #_fn " a KPATCH_POST_UNPATCH_CALLBACK");

#define KPATCH_IGNORE_FUNCTION(_fn)		__KCARE_FUNCTION("ignored_functions", _fn);
#define KPATCH_IGNORE_SECTION(_sec)		__KCARE_SECTION("ignored_sections", _sec);
/* kcare has no switch without a look at the stacks; the builder says so. */
#define KPATCH_FORCE_UNSAFE(_fn)		__KCARE_FUNCTION("forced_functions", _fn);

#define KPATCH_STATIC_CALL(_name)		KLP_STATIC_CALL(_name)

/* A condition that always holds keeps printk()'s __cold away from the code around it. */
#define __KPATCH_NOT_COLD(_call)		({ if (likely(jiffies)) _call; })
#define KPATCH_PRINTK(_fmt, ...)		__KPATCH_NOT_COLD(printk(_fmt, ##__VA_ARGS__))
#define KPATCH_PRINTK_DEFERRED(_fmt, ...)	__KPATCH_NOT_COLD(printk_deferred(_fmt, ##__VA_ARGS__))

#endif /* _KPATCH_MACROS_H */
