//! Random images for measurements.

use crate::failure::Failure;
use crate::output::bytes;
use residual::tensor::Stream;

/// `len` normally distributed values; an error if there is not enough memory.
pub(crate) fn noise(random: &mut Stream, len: usize) -> Result<Vec<f32>, Failure> {
    let mut values = Vec::new();
    let reserved = values.try_reserve_exact(len);
    reserved
        .map_err(|_| Failure::new(format!("memory: expected {} for the images, got less", bytes(4 * len as u64))))?;
    values.extend((0..len).map(|_| random.normal()));
    Ok(values)
}
