//! Products of extents that callers choose freely, without overflow.

/// Most elements of a tensor: lengths derived from it, which are small multiples, do not overflow.
const MAX_ELEMENTS: usize = isize::MAX as usize / 64;

/// The product of `extents`.
///
/// # Panics
/// If they are more elements than memory can hold.
pub(crate) fn elements(extents: &[usize]) -> usize {
    let product = extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let elements = product.filter(|&product| product <= MAX_ELEMENTS);
    elements.unwrap_or_else(|| panic!("extents {extents:?}: more elements than memory can hold"))
}

/// Whether `len` is the product of `extents`, which may overflow.
pub(crate) fn is_product(len: usize, extents: &[usize]) -> bool {
    extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent)) == Some(len)
}

/// Whether `len` is the length of `images` images.
pub(crate) fn is_batch(len: usize, images: usize, [height, width]: [usize; 2], channels: usize) -> bool {
    is_product(len, &[images, height, width, channels])
}

/// The number of pixels that a window of `reach` pixels can move along `size` pixels with `padding` on either side.
///
/// # Panics
/// If it does not fit.
pub(crate) fn travel(size: usize, padding: usize, reach: usize) -> usize {
    let padded = padding.checked_mul(2).and_then(|padding| padding.checked_add(size));
    let travel = padded.and_then(|padded| padded.checked_sub(reach));
    travel.unwrap_or_else(|| panic!("a window of {reach} pixels on {size} with a padding of {padding} does not fit"))
}
