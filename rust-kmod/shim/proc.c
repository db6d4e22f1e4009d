// SPDX-License-Identifier: GPL-2.0
/* /proc/kcare: text of any length; what it says, and of which fixes it tells, is Rust's business. */

#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#include "shim.h"

#define PAGE_SHOW(name)                                                                                                \
	static int show_##name(struct seq_file *m, void *v)                                                            \
	{                                                                                                              \
		kcare_proc_show(m->private, KCARE_PAGE_##name, m);                                                     \
		return 0;                                                                                              \
	}
KCARE_PAGES(PAGE_SHOW)

static const struct {
	const char *name;
	int (*show)(struct seq_file *m, void *v);
} pages[] = {
#define PAGE_ENTRY(name) { #name, show_##name },
	KCARE_PAGES(PAGE_ENTRY)
};

struct proc_dir_entry *kcare_proc_create(const void *data)
{
	struct proc_dir_entry *dir = proc_mkdir("kcare", NULL);
	unsigned int i;

	if (!dir)
		return NULL;
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		if (!proc_create_single_data(pages[i].name, kcare_fixes_mode, dir, pages[i].show, (void *)data)) {
			proc_remove(dir);
			return NULL;
		}
	}
	return dir;
}

void kcare_proc_remove(struct proc_dir_entry *dir)
{
	proc_remove(dir);
}

void kcare_seq_write(struct seq_file *m, const void *data, size_t size)
{
	/* What does not fit makes seq_read_iter() show the file once more, with twice the room. */
	seq_write(m, data, size);
}
