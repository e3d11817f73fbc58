//! Colour maps of numbers.

/// Matplotlib's viridis at 33 places; between them it is linear within two levels.
const VIRIDIS: [[u8; 3]; 33] = [
    [68, 1, 84],
    [71, 13, 96],
    [72, 24, 106],
    [72, 35, 116],
    [71, 45, 123],
    [69, 54, 129],
    [66, 64, 134],
    [63, 73, 137],
    [59, 82, 139],
    [55, 90, 141],
    [51, 99, 141],
    [47, 106, 142],
    [44, 114, 142],
    [41, 122, 142],
    [38, 129, 142],
    [35, 137, 142],
    [33, 144, 140],
    [31, 152, 139],
    [31, 159, 136],
    [33, 166, 133],
    [40, 174, 128],
    [49, 181, 123],
    [62, 188, 116],
    [76, 194, 108],
    [93, 201, 99],
    [110, 206, 88],
    [130, 211, 76],
    [150, 216, 63],
    [171, 220, 50],
    [192, 223, 36],
    [213, 226, 26],
    [234, 229, 26],
    [253, 231, 37],
];

/// The colour of `value`, from 0 to 1, on matplotlib's map viridis: dark blue, green, yellow. Not a number is grey.
pub fn viridis(value: f32) -> [u8; 3] {
    if value.is_nan() {
        return [128; 3];
    }
    let place = value.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f32;
    let below = (place as usize).min(VIRIDIS.len() - 2);
    let share = place - below as f32;
    let mix = |channel: usize| {
        let [low, high] = [below, below + 1].map(|index| f32::from(VIRIDIS[index][channel]));
        (low + share * (high - low)).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_matplotlibs() {
        // matplotlib.colormaps["viridis"](i, bytes=True) for i of 255.
        let golden = [
            (0, [68, 1, 84]),
            (37, [70, 51, 127]),
            (100, [42, 118, 142]),
            (200, [112, 207, 87]),
            (255, [253, 231, 37]),
        ];
        for (index, colour) in golden {
            let ours = viridis(index as f32 / 255.0);
            let off = ours.iter().zip(colour).map(|(&a, b)| (i32::from(a) - b).abs()).max();
            assert!(off <= Some(2), "{index}: {ours:?}, expected {colour:?}");
        }
        assert_eq!((viridis(-1.0), viridis(2.0), viridis(f32::NAN)), (viridis(0.0), viridis(1.0), [128; 3]));
    }
}
