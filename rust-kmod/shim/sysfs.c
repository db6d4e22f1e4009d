// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/class/misc/kcare: one value per file, readable by everybody but for the list of fixes if the administrator wants
 * it so; what they say is Rust's business.
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

#define VIEW(name) static struct view view_##name = { __ATTR(name, 0444, show, NULL), KCARE_VIEW_##name };
KCARE_VIEWS(VIEW)

#define VIEW_ATTR(name) &view_##name.attr.attr,
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
