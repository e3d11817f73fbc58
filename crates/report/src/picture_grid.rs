//! Grids of images with captions.

use crate::chart::heading;
use crate::font::fit;
use crate::{Label, Mark, Paint, Picture, Svg};

/// Font size of captions in pixels.
const CAPTION: f64 = 9.5;
/// Height of a line of a caption.
const LINE: f64 = 12.0;
/// Distance between images.
const GAP: f64 = 8.0;

/// An image with a caption.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// The image.
    pub picture: Picture,
    /// Lines below it, with their colours.
    pub caption: Vec<(String, Paint)>,
    /// What hovering shows.
    pub title: String,
}

/// Images side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureGrid {
    /// The title.
    pub title: String,
    /// The images, row by row.
    pub tiles: Vec<Tile>,
    /// Images in a row.
    pub columns: usize,
    /// Width and height of each image in pixels; it keeps its shape inside.
    pub size: f64,
}

impl PictureGrid {
    /// Draws the grid.
    pub fn draw(&self) -> Svg {
        let columns = self.columns.clamp(1, self.tiles.len().max(1));
        let lines = self.tiles.iter().map(|tile| tile.caption.len()).max().unwrap_or(0);
        let row = self.size + lines as f64 * LINE + GAP;
        let title_height = if self.title.is_empty() { 4.0 } else { 30.0 };
        let width = 24.0 + columns as f64 * (self.size + GAP) - GAP;
        let height = title_height + self.tiles.len().div_ceil(columns) as f64 * row + 4.0;
        let mut svg = Svg::new(width, height, &self.title);
        let top = heading(&mut svg, &self.title);
        for (index, tile) in self.tiles.iter().enumerate() {
            let x = 12.0 + (index % columns) as f64 * (self.size + GAP);
            let y = top + (index / columns) as f64 * row;
            let (width, height) = (tile.picture.width() as f64, tile.picture.height() as f64);
            let scale = self.size / width.max(height);
            let (width, height) = (width * scale, height * scale);
            let area = [x + (self.size - width) / 2.0, y + (self.size - height) / 2.0, width, height];
            svg.image(area, &tile.picture, &tile.title);
            svg.rect(area, &Mark::stroke(Paint::Grid, 1.0));
            for (line, (text, paint)) in tile.caption.iter().enumerate() {
                let y = y + self.size + (line + 1) as f64 * LINE - 1.0;
                svg.text((x, y), &fit(text, CAPTION, self.size + GAP / 2.0), Label::new(CAPTION).paint(*paint));
            }
        }
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_keep_their_shape() {
        let tile = |width, height| Tile {
            picture: Picture::new(width, height, vec![9; width * height * 3]).unwrap(),
            caption: vec![("a caption that is much too long for its image".into(), Paint::Ink)],
            title: "an image".into(),
        };
        let tiles = vec![tile(4, 2), tile(2, 4), tile(3, 3)];
        let svg = PictureGrid { title: "Images".into(), tiles, columns: 2, size: 80.0 }.draw();
        let text = svg.to_svg();
        assert_eq!(text.matches("<image").count(), 3);
        assert!(text.contains("width=\"80\" height=\"40\"") && text.contains("width=\"40\" height=\"80\""));
        assert!(text.contains('…'));
        assert_eq!(svg.width(), 24.0 + 2.0 * 80.0 + 8.0);
    }
}
