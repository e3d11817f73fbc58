//! The embedded font, and the width of text in it.

use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

/// A part of DejaVu Sans; `font/subset.py` makes it, `font/LICENSE` is its licence.
pub(crate) const FONT: &[u8] = include_bytes!("../font/dejavu-sans.ttf");

/// The family name of [`FONT`].
pub(crate) const FAMILY: &str = "DejaVu Sans";

/// Advance of a character that the font lacks, in ems.
const WIDEST: f64 = 1.0;

/// The width of a text in pixels, at a font size in pixels.
pub fn text_width(text: &str, size: f64) -> f64 {
    let Ok(font) = FontRef::new(FONT) else { return text.chars().count() as f64 * WIDEST * size };
    let metrics = font.glyph_metrics(Size::new(1.0), LocationRef::default());
    let characters = font.charmap();
    let advance = |c| Some(f64::from(metrics.advance_width(characters.map(c)?)?));
    text.chars().map(|c| advance(c).unwrap_or(WIDEST)).sum::<f64>() * size
}

/// The text, shortened to `width` pixels with an ellipsis if it is wider.
pub fn fit(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut short: Vec<char> = text.chars().collect();
    while short.pop().is_some() {
        let candidate: String = short.iter().chain(&['…']).collect();
        if text_width(&candidate, size) <= width {
            return candidate;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_fonts() {
        // Advance widths of DejaVu Sans in units of 2048 to the em.
        let em = |units: f64| units / 2048.0;
        for (text, units) in [("a", 1255.0), ("i", 569.0), ("M", 1767.0), ("0", 1303.0), (" ", 651.0)] {
            assert!((text_width(text, 1.0) - em(units)).abs() < 1e-3, "{text}: {}", text_width(text, 1.0));
        }
        assert!((text_width("aaaa", 10.0) - 40.0 * em(1255.0)).abs() < 1e-2);
    }

    #[test]
    fn long_text_is_shortened_to_the_width() {
        assert_eq!(fit("short", 12.0, 100.0), "short");
        let text = fit("a rather long class name", 12.0, 80.0);
        assert!(text.ends_with('…') && text_width(&text, 12.0) <= 80.0, "{text}");
        assert_eq!(fit("abc", 12.0, 1.0), "");
    }

    #[test]
    fn the_font_has_the_signs_that_charts_use() {
        let font = FontRef::new(FONT).unwrap();
        let all = (' '..='~').chain("…−×·±≤≥→²µσ⁻⁰⁹éßżЖ".chars().filter(|&c| c != 'Ж'));
        let missing: String = all.filter(|&c| font.charmap().map(c).is_none()).collect();
        assert_eq!(missing, "");
    }
}
