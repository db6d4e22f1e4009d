// SPDX-License-Identifier: GPL-2.0
/*
 * The functions of a level that are called around a switch. They are written for the kernel's own livepatch and get
 * what that would give them (include/linux/livepatch.h), as far as it means something here.
 */

#include <linux/livepatch.h>
#include <linux/slab.h>

#include "shim.h"

/* What callbacks see of a level; the header kcare.h of the builder knows this layout. */
struct kcare_patch {
	struct klp_patch klp;
	/* The level that is being replaced, while it is. */
	struct klp_patch *previous;
	size_t nr_states;
	/* One more than there are, which ends the list. */
	struct klp_state states[];
};

struct kcare_patch *kcare_patch_new(size_t nr_states)
{
	struct kcare_patch *patch;

	patch = kvzalloc(struct_size(patch, states, nr_states + 1), GFP_KERNEL);
	if (!patch)
		return NULL;
	patch->nr_states = nr_states;
	patch->klp.replace = true;
	patch->klp.mod = THIS_MODULE;
	patch->klp.states = patch->states;
	INIT_LIST_HEAD(&patch->klp.list);
	INIT_LIST_HEAD(&patch->klp.obj_list);
	return patch;
}

void kcare_patch_free(struct kcare_patch *patch)
{
	kvfree(patch);
}

void kcare_patch_set_state(struct kcare_patch *patch, size_t index, u64 id, u32 version)
{
	if (index < patch->nr_states) {
		patch->states[index].id = id;
		patch->states[index].version = version;
	}
}

void kcare_patch_set_previous(struct kcare_patch *patch, struct kcare_patch *previous)
{
	patch->previous = previous ? &previous->klp : NULL;
}

int kcare_patch_call(struct kcare_patch *patch, u64 callback, enum kcare_callback kind, struct module *mod)
{
	struct klp_object object = { .name = mod ? mod->name : NULL, .mod = mod };

	/* The way from an object to its patch is that of the kobjects, as klp_init_object() makes it. */
	object.kobj.parent = &patch->klp.kobj;
	if (kind == KCARE_PRE_PATCH)
		return ((klp_pre_patch_t)(unsigned long)callback)(&object);
	((klp_post_patch_t)(unsigned long)callback)(&object);
	return 0;
}
