// SPDX-License-Identifier: GPL-2.0
//#Func: reply
//#Callback: post_patch=restarted
#include "mini.h"

ORC(reply);

#ifdef PATCHED
#include <linux/livepatch_helpers.h>

static void restarted(struct klp_object *object)
{
	say("again");
}
KLP_POST_PATCH_CALLBACK(restarted);
#endif

int reply(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;
#endif
	return x / 3;
}
