//! PNG files of pictures.

use crate::font::{FAMILY, FONT};
use crate::paint::light_css;
use crate::{ReportError, Svg};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use std::sync::{Arc, OnceLock};

/// The largest number of pixels: 256 MB in memory.
const LIMIT: u64 = 64 << 20;

impl Svg {
    /// The picture as a PNG file in the light theme, `scale` pixels for each of the picture's.
    ///
    /// # Errors
    /// If it has more than 64 million pixels, or cannot be rendered.
    pub fn to_png(&self, scale: f32) -> Result<Vec<u8>, ReportError> {
        let fail = |message: &dyn std::fmt::Display| ReportError::Render {
            title: self.title().to_owned(),
            message: message.to_string(),
        };
        let options = Options { fontdb: Arc::clone(fonts()), font_family: FAMILY.to_owned(), ..Options::default() };
        let tree = Tree::from_str(&self.document(&light_css()), &options).map_err(|error| fail(&error))?;
        let size = tree.size().to_int_size().scale_by(scale).ok_or_else(|| fail(&"its size is zero"))?;
        let (width, height) = (size.width(), size.height());
        if u64::from(width) * u64::from(height) > LIMIT {
            return Err(ReportError::TooLarge { width, height, limit: LIMIT });
        }
        let mut pixels = Pixmap::new(width, height).ok_or_else(|| fail(&"out of memory"))?;
        resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| fail(&error))
    }
}

fn fonts() -> &'static Arc<fontdb::Database> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    FONTS.get_or_init(|| {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(FONT.to_vec());
        fonts.set_sans_serif_family(FAMILY);
        Arc::new(fonts)
    })
}

#[cfg(test)]
mod tests {
    use crate::{Label, Mark, Paint, Picture, Svg};

    fn decoded(svg: &Svg, scale: f32) -> image::RgbImage {
        image::load_from_memory(&svg.to_png(scale).unwrap()).unwrap().to_rgb8()
    }

    #[test]
    fn shapes_text_and_images_are_rendered() {
        let mut svg = Svg::new(60.0, 40.0, "test");
        svg.rect([0.0, 0.0, 10.0, 10.0], &Mark::fill(Paint::Rgb([200, 10, 20])));
        svg.rect([10.0, 0.0, 10.0, 10.0], &Mark::fill(Paint::Series(0)));
        let picture = Picture::new(2, 1, vec![0, 255, 0, 0, 0, 255]).unwrap();
        svg.image([20.0, 0.0, 20.0, 10.0], &picture, "");
        let empty = decoded(&svg, 2.0);
        assert_eq!(empty.dimensions(), (120, 80));
        assert_eq!(empty.get_pixel(5, 5).0, [200, 10, 20]);
        assert_eq!(empty.get_pixel(30, 10).0, [0, 0x72, 0xb2], "the colour of a class");
        assert_eq!(empty.get_pixel(45, 10).0, [0, 255, 0], "an enlarged pixel keeps its edge");
        assert_eq!(empty.get_pixel(75, 10).0, [0, 0, 255]);
        assert_eq!(empty.get_pixel(100, 60).0, [255, 255, 255], "the background");
        svg.text((5.0, 32.0), "Text", Label::new(16.0));
        assert!(decoded(&svg, 2.0) != empty, "the text leaves pixels");
    }

    #[test]
    fn a_picture_that_is_too_large_is_refused() {
        let error = Svg::new(20_000.0, 20_000.0, "large").to_png(1.0).unwrap_err();
        assert_eq!(error.to_string(), "PNG file: expected at most 67108864 pixels, got 20000x20000");
    }
}
