/* SPDX-License-Identifier: GPL-2.0 */
#define container_of(part, whole, member)                                                          \
	((whole *)((char *)(part) - __builtin_offsetof(whole, member)))
