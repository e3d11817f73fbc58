//! The views of an image that test-time augmentation averages over.

use crate::Window;

/// Which crops of the resized image a network sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Views {
    /// The centre crop alone.
    #[default]
    Single,
    /// The centre crop and its mirror image.
    Flip,
    /// The four corners and the centre: torchvision's `FiveCrop`.
    FiveCrop,
    /// These of the image and of its mirror image: torchvision's `TenCrop`.
    TenCrop,
}

impl Views {
    /// The views by the name that a user gives: `none`, `flip`, `five-crop`, `ten-crop`.
    pub const NAMES: [(&'static str, Self); 4] =
        [("none", Self::Single), ("flip", Self::Flip), ("five-crop", Self::FiveCrop), ("ten-crop", Self::TenCrop)];

    /// The number of views.
    pub fn count(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Flip => 2,
            Self::FiveCrop => 5,
            Self::TenCrop => 10,
        }
    }

    /// The windows of `size` in an image of `height` × `width` whose centre crop is `centre`, in the order of torchvision. Along
    /// a side that is too short for corners, every window is centred.
    pub(crate) fn windows(
        self,
        centre: Window,
        [height, width]: [usize; 2],
        size: [usize; 2],
    ) -> impl Iterator<Item = Window> {
        let last = |side: usize, size: usize, centre: isize| match side.checked_sub(size) {
            Some(last) => [0, last as isize],
            None => [centre; 2],
        };
        let [top, bottom] = last(height, size[0], centre.top);
        let [left, right] = last(width, size[1], centre.left);
        let corners = [(top, left), (top, right), (bottom, left), (bottom, right)];
        let five = corners.map(|(top, left)| Window { top, left, ..centre });
        let five = five.into_iter().chain([centre]);
        // A window of the mirrored image is a flipped one of the image.
        let mirrored = move |window: Window| {
            let left = width as isize - size[1] as isize - window.left;
            Window { left, flip: !window.flip, ..window }
        };
        let windows: Vec<Window> = match self {
            Self::Single => vec![centre],
            Self::Flip => vec![centre, Window { flip: !centre.flip, ..centre }],
            Self::FiveCrop => five.collect(),
            Self::TenCrop => five.clone().chain(five.map(mirrored)).collect(),
        };
        windows.into_iter()
    }
}
