/* SPDX-License-Identifier: GPL-2.0 */
#ifndef MINI_TYPES_H
#define MINI_TYPES_H

#define NULL ((void *)0)

typedef unsigned int u32;
typedef unsigned long u64;

#define __used __attribute__((__used__))
#define __section(name) __attribute__((__section__(name)))
#define MINI_JOIN(a, b) a##b
#define MINI_UNIQUE(a, b) MINI_JOIN(a, b)
#define __UNIQUE_ID(name) MINI_UNIQUE(__UNIQUE_ID_##name##_, __COUNTER__)
#define likely(condition) __builtin_expect(!!(condition), 1)

#endif
