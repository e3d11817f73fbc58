//! Masks as bits.

/// Packs eight bits into a byte, the first one into the least significant place, as numpy's `packbits` with `bitorder="little"`. The
/// last byte is filled up with zeros.
pub fn pack_bits(bits: impl IntoIterator<Item = bool>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, bit) in bits.into_iter().enumerate() {
        if index % 8 == 0 {
            bytes.push(0);
        }
        if bit {
            *bytes.last_mut().expect("a byte was pushed") |= 1 << (index % 8);
        }
    }
    bytes
}

/// The bits of [`pack_bits`], with those that fill up the last byte.
pub fn unpack_bits(bytes: &[u8]) -> impl Iterator<Item = bool> {
    bytes.iter().flat_map(|byte| (0..8).map(move |place| byte >> place & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.packbits([0, 1, 1, 0, 0, 0, 0, 1, 1], bitorder="little")`
    #[test]
    fn bits_are_packed_as_numpy_does() {
        let bits = [0, 1, 1, 0, 0, 0, 0, 1, 1].map(|bit| bit == 1);
        assert_eq!(pack_bits(bits), [134, 1]);
        assert!(unpack_bits(&[134, 1]).eq(bits.into_iter().chain([false; 7])));
        assert!(pack_bits([]).is_empty());
    }
}
