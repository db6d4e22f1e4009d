/* SPDX-License-Identifier: GPL-2.0 */
/* What the kernel's header of this name gives to patches, as far as the units here use it. */
#ifndef MINI_LIVEPATCH_HELPERS_H
#define MINI_LIVEPATCH_HELPERS_H

#include <linux/types.h>

struct klp_state {
	unsigned long id;
	unsigned int version;
	void *data;
};
struct kobject {
	struct kobject *parent;
};
struct klp_patch {
	struct klp_state *states;
	struct kobject kobj;
};
struct klp_object {
	const char *name;
	struct kobject kobj;
};
struct klp_state *klp_get_state(struct klp_patch *patch, unsigned long id);

/* The object's name is a macro in the kernel: it is what the pointer's name ends in. */
#define MINI_CALLBACK(when, result, function)                                                      \
	result (*__klp_##when##_callback_vmlinux)(struct klp_object *) __used                      \
		__section(".discard.klp_callback_ptrs") = function
#define KLP_PRE_PATCH_CALLBACK(function) MINI_CALLBACK(pre_patch, int, function)
#define KLP_POST_PATCH_CALLBACK(function) MINI_CALLBACK(post_patch, void, function)
#define KLP_PRE_UNPATCH_CALLBACK(function) MINI_CALLBACK(pre_unpatch, void, function)
#define KLP_POST_UNPATCH_CALLBACK(function) MINI_CALLBACK(post_unpatch, void, function)

#define KLP_STATIC_CALL(name) (name##_key.function)
#define KLP_SYSCALL_DEFINE1(name, type, argument) long sys_##name(type argument)

#endif
