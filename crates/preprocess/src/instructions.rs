//! The instruction set of the kernels for images: one for the whole process. It changes no result.

use std::sync::OnceLock;

use residual_kernels::Isa;

static PROCESS: OnceLock<Isa> = OnceLock::new();

/// The set of the process, detected unless it was chosen.
pub(crate) fn isa() -> Isa {
    *PROCESS.get_or_init(Isa::detect)
}

/// Chooses the instruction set with which the process decodes and resizes images; without it, the widest of the machine. Returns
/// whether it is this one: the first call, or the first image, decides.
pub fn use_instructions(isa: Isa) -> bool {
    PROCESS.set(isa).is_ok() || self::isa() == isa
}
