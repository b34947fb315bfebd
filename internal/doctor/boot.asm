# A boot sector that does what a guest's kernel does first: it goes from real mode
# to long mode with page tables of its own, says "begin" on the serial port, writes
# 1 MiB of memory through the page tables, goes through a loop a million times, and
# says "end". Assembled into boot.bin:
#
#	as -o boot.o boot.asm && ld -Ttext 0x7c00 --oformat binary -o boot.bin boot.o

	.code16
	.globl	_start
_start:
	cli
	cld
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x7c00, %sp

	# Page tables at 0x1000: the first GiB, by pages of 2 MiB, where it is.
	mov	$0x1000, %di
	mov	$0x1800, %cx
	rep stosw
	movw	$0x2003, 0x1000
	movw	$0x3003, 0x2000
	mov	$0x3000, %di
	mov	$0x83, %eax
	mov	$512, %cx
1:	mov	%eax, (%di)
	add	$0x200000, %eax
	add	$8, %di
	loop	1b

	mov	$0x1000, %eax
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$0x20, %eax		# PAE
	mov	%eax, %cr4
	mov	$0xc0000080, %ecx	# EFER
	rdmsr
	or	$0x100, %eax		# LME
	wrmsr
	lgdt	gdtr
	mov	%cr0, %eax
	or	$0x80000001, %eax	# paging, protection
	mov	%eax, %cr0
	ljmp	$0x08, $long

	.code64
long:
	mov	$0x10, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	$begin, %esi
	call	say
	mov	$0x1000000, %edi
	mov	$0x20000, %ecx
	rep stosq
	mov	$1000000, %ecx
2:	dec	%ecx
	jnz	2b
	mov	$end, %esi
	call	say
3:	hlt
	jmp	3b

say:	mov	$0x3f8, %dx
4:	lodsb
	test	%al, %al
	jz	5f
	out	%al, %dx
	jmp	4b
5:	ret

begin:	.asciz	"\r\nqnet doctor: begin\r\n"
end:	.asciz	"qnet doctor: end\r\n"

	.balign	8
gdt:	.quad	0
	.quad	0x00209a0000000000	# 64-bit code
	.quad	0x0000920000000000	# data
gdtr:	.word	gdtr - gdt - 1
	.long	gdt

	.org	510
	.word	0xaa55
