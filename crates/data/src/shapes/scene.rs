//! One image: a textured background, a shape in random pose and colour, occlusion and noise.

use residual_preprocess::Image;
use residual_tensor::Stream;

use super::{Shapes, figure};

const SIDE: usize = Shapes::SIDE;

type Colour = [f32; 3];

/// Draws image `index` of a split. Values run from 0 to 255 while drawing.
pub(super) fn draw(label: usize, seed: u64, held_out: u64, index: u64) -> Image {
    let mut random = Stream::new(seed, &[SHAPES, held_out, index]);
    let (ground, ink) = colours(&mut random);
    let ground = Texture::new(ground, 40.0, &mut random);
    let ink = Texture::new(ink, 25.0, &mut random);
    let pose = Pose::new(&mut random);
    let clutter: Vec<Bar> = (0..2 + random.below(3)).map(|_| Bar::clutter(&mut random)).collect();
    let cover = random.chance(0.5).then(|| Bar::cover(&pose, &mut random));
    let noise = random.range(2.0, 16.0);

    let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let at = [x as f32, y as f32];
            let mut colour = ground.at(at);
            for bar in &clutter {
                let coverage = bar.coverage(at);
                if coverage > 0.0 {
                    colour = blend(colour, bar.colour, coverage);
                }
            }
            let coverage = pose.coverage(label, at);
            if coverage > 0.0 {
                colour = blend(colour, ink.at(at), coverage);
            }
            if let Some(bar) = &cover {
                colour = blend(colour, bar.colour, bar.coverage(at));
            }
            // Two uniform bytes per channel: triangular noise.
            let bits = random.next_u64().to_le_bytes();
            for (channel, value) in colour.into_iter().enumerate() {
                let sum = f32::from(bits[2 * channel]) + f32::from(bits[2 * channel + 1]);
                pixels.push((value + (sum / 255.0 - 1.0) * 2.0 * noise + 0.5).clamp(0.0, 255.0) as u8);
            }
        }
    }
    Image::new(SIDE, SIDE, 3, pixels).expect("as many values as were drawn")
}

/// Salt of these random numbers.
const SHAPES: u64 = u64::from_be_bytes(*b"shapes10");

fn blend(under: Colour, over: Colour, coverage: f32) -> Colour {
    let [r, g, b] = under;
    [r + (over[0] - r) * coverage, g + (over[1] - g) * coverage, b + (over[2] - b) * coverage]
}

fn colour(random: &mut Stream) -> Colour {
    std::array::from_fn(|_| random.range(20.0, 235.0))
}

/// A dark colour for the background and a light one for the shape.
fn colours(random: &mut Stream) -> (Colour, Colour) {
    let light = |[r, g, b]: Colour| 0.3 * r + 0.6 * g + 0.1 * b;
    loop {
        let (ground, ink) = (colour(random), colour(random));
        if light(ink) > light(ground) + 60.0 {
            return (ground, ink);
        }
    }
}

/// A colour that varies over the image: smooth noise, or stripes in some direction.
struct Texture {
    colour: Colour,
    other: Colour,
    lattice: [[f32; Texture::CELLS + 1]; Texture::CELLS + 1],
    stripes: Option<[f32; 3]>,
}

impl Texture {
    const CELLS: usize = 5;

    /// `colour` and another one that differs from it by up to `contrast` in each channel.
    fn new(colour: Colour, contrast: f32, random: &mut Stream) -> Self {
        let other = colour.map(|value| value + random.range(-contrast, contrast));
        let lattice = std::array::from_fn(|_| std::array::from_fn(|_| random.uniform()));
        let stripes = random.chance(0.4).then(|| {
            let [cos, sin] = direction(random);
            let per_pixel = 1.0 / random.range(4.0, 12.0);
            [cos * per_pixel, sin * per_pixel, random.uniform()]
        });
        Self { colour, other, lattice, stripes }
    }

    fn at(&self, [x, y]: [f32; 2]) -> Colour {
        let share = match self.stripes {
            Some([across, down, phase]) => {
                let turn = x * across + y * down + phase;
                let turn = turn - turn.floor();
                (turn - 0.5).abs() * 2.0
            }
            None => {
                let scale = Self::CELLS as f32 / SIDE as f32;
                let (column, row) = ((x * scale) as usize, (y * scale) as usize);
                let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
                let (u, v) = (smooth(x * scale - column as f32), smooth(y * scale - row as f32));
                let along = |row: &[f32]| row[column] + (row[column + 1] - row[column]) * u;
                let (above, below) = (along(&self.lattice[row]), along(&self.lattice[row + 1]));
                above + (below - above) * v
            }
        };
        blend(self.colour, self.other, share)
    }
}

/// A uniformly drawn direction, without trigonometry.
fn direction(random: &mut Stream) -> [f32; 2] {
    loop {
        let (x, y) = (random.range(-1.0, 1.0), random.range(-1.0, 1.0));
        let square = x * x + y * y;
        if (0.01..=1.0).contains(&square) {
            let length = square.sqrt();
            return [x / length, y / length];
        }
    }
}

/// Position, size and rotation of the shape.
struct Pose {
    centre: [f32; 2],
    radius: f32,
    /// From pixels off the centre to the shape's own square.
    matrix: [f32; 4],
}

impl Pose {
    fn new(random: &mut Stream) -> Self {
        let radius = random.range(7.5, 13.0);
        let slack = (SIDE as f32 / 2.0 - radius).max(2.0);
        let centre = [0; 2].map(|_| SIDE as f32 / 2.0 - 0.5 + random.range(-slack, slack));
        // tan(θ/2) up to 0.3: rotated by at most 33°, and mirrored half the time.
        let half = random.range(-0.3, 0.3);
        let (cos, sin) = ((1.0 - half * half) / (1.0 + half * half), 2.0 * half / (1.0 + half * half));
        let mirror = if random.chance(0.5) { -1.0 } else { 1.0 };
        let stretch = random.range(0.85, 1.18);
        let (across, down) = (mirror / (radius * stretch), stretch / radius);
        Self { centre, radius, matrix: [cos * across, sin * across, -sin * down, cos * down] }
    }

    /// Coverage of the pixel at `at` by the shape, 0 to 1.
    fn coverage(&self, label: usize, at: [f32; 2]) -> f32 {
        let (x, y) = (at[0] - self.centre[0], at[1] - self.centre[1]);
        let [a, b, c, d] = self.matrix;
        let point = [a * x + b * y, c * x + d * y];
        if point[0] * point[0] + point[1] * point[1] > 1.6 {
            return 0.0;
        }
        (0.5 - figure::distance(label, point) * self.radius).clamp(0.0, 1.0)
    }
}

/// A rotated rectangle of one colour.
struct Bar {
    colour: Colour,
    centre: [f32; 2],
    direction: [f32; 2],
    half: [f32; 2],
}

impl Bar {
    /// Clutter: a dot or short dash at a random position.
    fn clutter(random: &mut Stream) -> Self {
        Self {
            colour: colour(random),
            centre: [0; 2].map(|_| random.range(0.0, SIDE as f32)),
            direction: direction(random),
            half: [random.range(1.0, 5.0), random.range(0.6, 1.6)],
        }
    }

    /// Occlusion: a bar that covers a part of the shape.
    fn cover(pose: &Pose, random: &mut Stream) -> Self {
        Self {
            colour: colour(random),
            centre: pose.centre.map(|middle| middle + random.range(-0.7, 0.7) * pose.radius),
            direction: direction(random),
            half: [random.range(3.0, 8.0), random.range(0.8, 1.8)],
        }
    }

    /// Coverage of the pixel at `at` by the bar, 0 to 1.
    fn coverage(&self, at: [f32; 2]) -> f32 {
        let ([cos, sin], x, y) = (self.direction, at[0] - self.centre[0], at[1] - self.centre[1]);
        let (along, across) = ((cos * x + sin * y).abs() - self.half[0], (cos * y - sin * x).abs() - self.half[1]);
        (0.5 - along.max(across)).clamp(0.0, 1.0)
    }
}
