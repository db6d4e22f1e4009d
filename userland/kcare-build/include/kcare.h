/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the author of a fix can tell kcare beside code.
 *
 * Callbacks and system calls are written with the kernel's own <linux/livepatch_helpers.h>; this header adds
 * states. The builder reads what the macros leave in .discard sections, and nothing of it reaches the kernel.
 */
#ifndef _KCARE_H
#define _KCARE_H

#include <linux/container_of.h>
#include <linux/livepatch_helpers.h>
#include <linux/types.h>

/**
 * struct kcare_patch - the level that a callback belongs to
 * @klp: its states are those of KCARE_STATE()
 * @previous: the level that is replaced or gone back from, or NULL
 *
 * Levels are not registered with the kernel's own live patching: of a level only this is set, and of a callback's
 * argument the object's name (NULL for vmlinux), its module, and the level as the parent of its kobject.
 */
struct kcare_patch {
	struct klp_patch klp;
	struct klp_patch *previous;
};

/* The level that a callback's argument belongs to. */
static inline struct kcare_patch *kcare_patch(struct klp_object *obj)
{
	return container_of(obj->kobj.parent, struct kcare_patch, klp.kobj);
}

/**
 * kcare_state() - a state that this level declares
 * @obj: the callback's argument
 * @id: number of the state
 *
 * Return: the state, whose data field is the author's to use, or NULL.
 */
static inline struct klp_state *kcare_state(struct klp_object *obj, unsigned long id)
{
	return klp_get_state(&kcare_patch(obj)->klp, id);
}

/**
 * kcare_previous_state() - the same state of the level that is replaced
 * @obj: the callback's argument
 * @id: number of the state
 *
 * Return: the state, or NULL if no level is replaced or that one does not have it.
 */
static inline struct klp_state *kcare_previous_state(struct klp_object *obj, unsigned long id)
{
	struct klp_patch *previous = kcare_patch(obj)->previous;

	return previous ? klp_get_state(previous, id) : NULL;
}

/* One entry of the section that KCARE_STATE() fills. */
struct kcare_declared_state {
	u64 id;
	u32 version;
	u32 reserved;
};

/**
 * KCARE_STATE() - declare that the fix changes a state of the system
 * @_id: its number, not 0; constant
 * @_version: version of the change; constant
 *
 * A level replaces one with states only if it declares each of them with the same or a higher version.
 */
#define KCARE_STATE(_id, _version)						\
	static const struct kcare_declared_state __used				\
		__section(".discard.kcare.states")				\
		__UNIQUE_ID(kcare_state) = { (_id), (_version), 0 }

/* Leaves the name of a section for the builder. */
#define __KCARE_SECTION(_kind, _name)						\
	static const char __used __section(".discard.kcare." _kind)		\
		__UNIQUE_ID(kcare_name)[] = _name

/* Leaves the name of a function: to take its address could change its code. Its type shows that it exists. */
#define __KCARE_FUNCTION(_kind, _fn)						\
	static const char __used __section(".discard.kcare." _kind)		\
		__UNIQUE_ID(kcare_name)[sizeof(#_fn) + 0 * sizeof(typeof(_fn) *)] = #_fn

#endif /* _KCARE_H */
