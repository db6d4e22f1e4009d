// SPDX-License-Identifier: GPL-2.0
/* What the kernel asks and records when code is to run in it. */

#include <linux/audit.h>
#include <linux/kernel_read_file.h>
#include <linux/security.h>

#include "ksyms.h"
#include "shim.h"

bool kcare_modules_disabled(void)
{
	return READ_ONCE(*kcare_ksym_vars.modules_disabled);
}

int kcare_security_load(void *data, size_t size)
{
	static char name[] = "kcare";
	int err = security_kernel_load_data(LOADING_MODULE, true);

	return err ?: security_kernel_post_load_data(data, size, LOADING_MODULE, name);
}

void kcare_audit(const char *what, size_t len, unsigned int before, unsigned int level, bool done)
{
	audit_log(audit_context(), GFP_KERNEL, AUDIT_KERN_MODULE, "op=kcare-%.*s name=kcare_%u old=%u res=%d", (int)len,
		  what, level, before, done);
}

void kcare_audit_revoked(const u8 hash[32])
{
	audit_log(audit_context(), GFP_KERNEL, AUDIT_KERN_MODULE, "op=kcare-revoke sha256=%32phN res=1", hash);
}
