// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/class/misc/kcare: one value per file, readable by everybody but for the list of fixes if the administrator wants
 * it so; what they say, and what is written to the one that can be, is Rust's business.
 */

#include <linux/device.h>
#include <linux/miscdevice.h>
#include <linux/sysfs.h>

#include "shim.h"

struct view {
	struct device_attribute attr;
	unsigned int number;
};

static ssize_t show(struct device *dev, struct device_attribute *attr, char *buf)
{
	/* misc_register() makes the miscdevice its device's driver data. */
	struct miscdevice *misc = dev_get_drvdata(dev);

	return kcare_sysfs_show(misc, container_of(attr, struct view, attr)->number, buf, PAGE_SIZE);
}

static ssize_t store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	int err = kcare_sysfs_redirect(dev_get_drvdata(dev), buf, count);

	return err ? err : count;
}

#define VIEW(name, mode)                                                                                \
	static struct view view_##name = { __ATTR(name, mode, show, (mode) & 0200 ? store : NULL), \
					   KCARE_VIEW_##name };
KCARE_VIEWS(VIEW)

#define VIEW_ATTR(name, mode) &view_##name.attr.attr,
static struct attribute *attrs[] = { KCARE_VIEWS(VIEW_ATTR) NULL };

umode_t kcare_fixes_mode = 0444;

void kcare_hide_fixes(void)
{
	kcare_fixes_mode = 0400;
}

static umode_t mode_of(struct kobject *kobj, struct attribute *attr, int number)
{
	return number == KCARE_VIEW_cves ? kcare_fixes_mode : attr->mode;
}

static const struct attribute_group group = { .attrs = attrs, .is_visible = mode_of };
const struct attribute_group *kcare_sysfs_groups[] = { &group, NULL };
