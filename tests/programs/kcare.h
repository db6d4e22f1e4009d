/* SPDX-License-Identifier: GPL-2.0 */
/* The requests of /dev/kcare, as in rust-kmod/payload/uapi.rs. */
#include <stdint.h>
#include <sys/ioctl.h>

struct apply {
	uint64_t data, size;
	uint32_t flags, reason;
	uint64_t place, text;
	uint32_t text_size, text_len;
};

struct unload {
	uint32_t flags, reason;
	uint64_t place, text;
	uint32_t text_size, text_len;
};

struct info {
	uint32_t abi, state, level, nr_funcs, nr_fixes, previous;
	uint64_t build_time, applied_time, stop_last, stop_max, memory, failures;
	uint8_t build_id[20], pad[4];
	char release[64], description[256];
};

struct history {
	uint64_t events;
	uint32_t count, reserved;
	uint64_t total;
};

_Static_assert(sizeof(struct apply) == 48 && sizeof(struct unload) == 32 && sizeof(struct info) == 416 &&
	       sizeof(struct history) == 24, "as in uapi.rs");

#define APPLY _IOWR('k', 0, struct apply)
#define UNLOAD _IOWR('k', 1, struct unload)
#define INFO _IOWR('k', 2, struct info)
#define ROLLBACK _IOWR('k', 3, struct unload)
#define HISTORY _IOWR('k', 4, struct history)
#define DRY_RUN 2
