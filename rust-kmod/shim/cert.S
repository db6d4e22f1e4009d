/* SPDX-License-Identifier: GPL-2.0 */
/* The certificates that payloads are checked against, as the kernel's certs/system_certificates.S has them. */

#include <linux/linkage.h>

	.section .rodata, "a"
	.balign 8
	.globl kcare_cert_start
	.globl kcare_cert_end
kcare_cert_start:
	.incbin KCARE_CERT_DER
kcare_cert_end:
	.byte 0
