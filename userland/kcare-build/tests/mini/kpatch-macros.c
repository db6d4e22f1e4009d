// SPDX-License-Identifier: GPL-2.0
//#Func: answer sys_answer
//#Callback: pre_patch=may_start post_patch=started pre_unpatch=ends post_unpatch=ended
//#Extern: printk jiffies route_key
//#Same: other
//#Note: KPATCH_FORCE_UNSAFE of `answer` has no effect
//#Note: KPATCH_IGNORE_FUNCTION of `other` is needless
//#Note: KPATCH_IGNORE_SECTION of `rules` is needless
#include "mini.h"

ORC(answer);
ORC(sys_answer);

struct route {
	int (*function)(int);
} route_key;

int other(int x)
{
	return x * 7;
}

#ifdef PATCHED
#include "kpatch-macros.h"

/* With a semicolon, as kpatch's guide has it, and without one. */
static int may_start(patch_object *object)
{
	KPATCH_PRINTK("start %d\n", 1);
	return 0;
}
KPATCH_PRE_PATCH_CALLBACK(may_start);

static void started(patch_object *object)
{
	KPATCH_PRINTK_DEFERRED("started\n");
}
KPATCH_POST_PATCH_CALLBACK(started)

static void ends(patch_object *object)
{
	give(object);
}
KPATCH_PRE_UNPATCH_CALLBACK(ends);

static void ended(patch_object *object)
{
	give(0);
}
KPATCH_POST_UNPATCH_CALLBACK(ended)

#define SYSCALL_DEFINE1 KPATCH_SYSCALL_DEFINE1
#else
#define SYSCALL_DEFINE1(name, type, argument) long sys_##name(type argument)
#endif

SYSCALL_DEFINE1(answer, long, x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;
#endif
	return x / 3;
}

int answer(int x)
{
#ifdef PATCHED
	return KPATCH_STATIC_CALL(route)(x + 1);
#else
	return route_key.function(x);
#endif
}

#ifdef PATCHED
KPATCH_FORCE_UNSAFE(answer);
KPATCH_IGNORE_FUNCTION(other)
KPATCH_IGNORE_SECTION("rules");
#endif
