/* SPDX-License-Identifier: GPL-2.0 */
__attribute__((__cold__)) int printk(const char *text, ...);
#define printk_deferred printk
