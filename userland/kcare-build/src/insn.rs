// SPDX-License-Identifier: GPL-2.0

//! The little that the builder needs to know of x86-64 instructions.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

/// What an instruction does with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// A direct call.
    Call,
    /// A direct jump, conditional or not.
    Jump,
    /// Anything else.
    Other,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Offset in its section.
    pub off: u64,
    /// Size in bytes.
    pub len: u8,
    /// What it does.
    pub flow: Flow,
    /// Of a direct near branch: the offset of its displacement and the offset it goes to.
    pub branch: Option<(u64, i64)>,
    /// Whether a memory operand has an index register.
    pub indexed: bool,
    /// Of a memory operand that is read or written: the offset of its displacement.
    pub access: Option<u64>,
    /// Of a memory operand that counts from the next instruction: the offset of its displacement and the offset it means
    /// where nothing relocates that.
    pub relative: Option<(u64, u64)>,
    /// Whether nothing behind it runs after it: an unconditional jump.
    pub leaves: bool,
    /// Whether it does nothing, of whatever length.
    pub nop: bool,
}

impl Insn {
    /// Offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.off + u64::from(self.len)
    }
}

/// `endbr64`, at the start of a function that may be called through a pointer.
pub const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Decodes code whose first byte has the offset `start`.
pub fn decode(code: &[u8], start: u64) -> Vec<Insn> {
    let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let mut out = Vec::new();
    let mut raw = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut raw);
        let offsets = decoder.get_constant_offsets(&raw);
        let near = raw.op_count() == 1
            && matches!(raw.op0_kind(), OpKind::NearBranch64 | OpKind::NearBranch32);
        let flow = match raw.flow_control() {
            FlowControl::Call if near => Flow::Call,
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch if near => Flow::Jump,
            _ => Flow::Other,
        };
        let branch = near.then(|| {
            (
                raw.ip() + offsets.immediate_offset() as u64,
                raw.near_branch_target() as i64,
            )
        });
        let access = offsets.has_displacement()
            && !near
            && !matches!(raw.mnemonic(), Mnemonic::Lea | Mnemonic::Nop);
        out.push(Insn {
            off: raw.ip(),
            // An invalid instruction has length 1 or more, so the loop ends.
            len: if raw.code() == Code::INVALID {
                1
            } else {
                raw.len() as u8
            },
            flow,
            branch,
            indexed: raw.memory_index() != iced_x86::Register::None,
            access: access.then(|| raw.ip() + offsets.displacement_offset() as u64),
            relative: raw.is_ip_rel_memory_operand().then(|| {
                (
                    raw.ip() + offsets.displacement_offset() as u64,
                    raw.ip_rel_memory_address(),
                )
            }),
            leaves: near && raw.flow_control() == FlowControl::UnconditionalBranch,
            nop: raw.mnemonic() == Mnemonic::Nop,
        });
        if raw.code() == Code::INVALID {
            let next = (raw.ip() - start) as usize + 1;
            if decoder.set_position(next).is_err() {
                break;
            }
            decoder.set_ip(start + next as u64);
        }
    }
    out
}

/// Length of the instruction at the start of `code`, or `None` if it is not one.
pub fn length(code: &[u8]) -> Option<usize> {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let raw = decoder.decode();
    (raw.code() != Code::INVALID).then(|| raw.len())
}
