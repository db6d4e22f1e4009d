/* SPDX-License-Identifier: GPL-2.0 */
extern volatile unsigned long jiffies;
