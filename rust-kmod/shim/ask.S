/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where trampolines call while a transition is open (payload/trampoline.rs). It leaves to the body that the current task
 * sees, with the registers and the stack of a function's first instruction: the return address into the trampoline, which
 * says which one it is, becomes the body's address, and the way there is a return, as ftrace's is.
 */

#include <linux/linkage.h>
#include <linux/objtool.h>

	.text
SYM_FUNC_START(kcare_ask)
	/* It is called directly. */
	ANNOTATE_NOENDBR
	/* What a caller expects kept: registers of arguments, the number of vector registers, the static chain. */
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	movq	72(%rsp), %rdi
	call	kcare_body_of
	movq	%rax, 72(%rsp)
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	RET
SYM_INNER_LABEL(kcare_ask_end, SYM_L_GLOBAL)
SYM_FUNC_END(kcare_ask)
