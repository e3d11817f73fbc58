//! Lengths as products of extents, which may be anything that a caller chose.

/// Most elements of a tensor: what derived lengths are multiplied by leaves them below the largest number.
const MAX_ELEMENTS: usize = isize::MAX as usize / 64;

/// The product of `extents`.
///
/// # Panics
/// If no memory holds so many elements.
pub(crate) fn elements(extents: &[usize]) -> usize {
    let product = extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let elements = product.filter(|&product| product <= MAX_ELEMENTS);
    elements.unwrap_or_else(|| panic!("extents {extents:?}: more elements than memory can hold"))
}

/// Whether `len` is the product of `extents`, be that larger than any length.
pub(crate) fn is_product(len: usize, extents: &[usize]) -> bool {
    extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent)) == Some(len)
}

/// How far a window that reaches over `reach` pixels can move along `size` pixels with `padding` on either side.
///
/// # Panics
/// If it does not fit.
pub(crate) fn travel(size: usize, padding: usize, reach: usize) -> usize {
    let padded = padding.checked_mul(2).and_then(|padding| padding.checked_add(size));
    let travel = padded.and_then(|padded| padded.checked_sub(reach));
    travel.unwrap_or_else(|| panic!("a window of {reach} pixels on {size} with a padding of {padding} does not fit"))
}
