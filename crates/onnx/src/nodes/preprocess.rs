//! The preprocessing of images as nodes: what `residual-preprocess` does, step by step.

use super::{Layout, float, int, ints, text};
use crate::initializer::Data;
use crate::proto::{AttributeProto, TensorProto};
use crate::{IMAGES, INPUT};
use residual_preprocess::{CropMode, Interpolation, Preprocessing};

impl Layout<'_, '_> {
    /// N×H×W×C bytes become the network's input: resized, cropped or padded, and normalised.
    pub(super) fn preprocess(&mut self) {
        let model = self.model;
        let description = &model.preprocessing;
        let x = self.step("Transpose", "to_nchw", vec![IMAGES.into()], vec![ints("perm", [0, 3, 1, 2])]);
        let size = self.resized_size(description);
        let x = self.resize(x, size.clone(), description.interpolation);
        let crop = self.integers("preprocess/crop", &description.size);
        // Rows and columns that are too many, or if negative, too few.
        let margin = self.step("Sub", "margin", vec![size, crop.clone()], Vec::new());
        let x = match description.crop_mode {
            CropMode::Center | CropMode::Squash => {
                let x = self.crop(x, margin, crop);
                self.cast("floats", x, TensorProto::FLOAT)
            }
            CropMode::Border => self.letterbox(x, margin, crop, description),
        };
        self.normalize(x, description);
    }

    /// The height and width of the resized images.
    fn resized_size(&mut self, description: &Preprocessing) -> String {
        let [height, width] = description.uncropped_size();
        if description.crop_mode == CropMode::Squash {
            return self.integers("preprocess/size", &[height, width]);
        }
        let axes = vec![int("start", 1i32), int("end", 3i32)];
        let size = self.step("Shape", "image_size", vec![IMAGES.into()], axes);
        let keep = || vec![int("keepdims", 1i32)];
        if description.crop_mode == CropMode::Center && height == width {
            // The shorter side becomes `height`, the other one is rounded down.
            let side = self.integers("preprocess/shorter_side", &[height]);
            let product = self.step("Mul", "side_times_size", vec![size.clone(), side], Vec::new());
            let shorter = self.step("ReduceMin", "shorter", vec![size], keep());
            return self.step("Div", "size", vec![product, shorter], Vec::new());
        }
        let reduce = if description.crop_mode == CropMode::Border { "ReduceMax" } else { "ReduceMin" };
        let doubles = |values: &[usize]| Data::F64(values.iter().map(|&value| value as f64).collect());
        let target = self.constant("preprocess/target", &[2], doubles(&[height, width]));
        let one = self.constant("preprocess/one_pixel", &[1], doubles(&[1]));
        let size = self.cast("size_doubles", size, TensorProto::DOUBLE);
        let ratios = self.step("Div", "ratios", vec![size.clone(), target], Vec::new());
        let ratio = self.step(reduce, "ratio", vec![ratios], keep());
        let size = self.step("Div", "exact_size", vec![size, ratio], Vec::new());
        let size = self.step("Round", "rounded_size", vec![size], Vec::new());
        let size = self.step("Max", "positive_size", vec![size, one], Vec::new());
        self.cast("size", size, TensorProto::INT64)
    }

    /// N×C×H×W bytes with another height and width. Pillow's filters, which widen where an image shrinks and leave out what is
    /// outside the image.
    fn resize(&mut self, x: String, size: String, interpolation: Interpolation) -> String {
        // `Resize` could be told the two axes alone, but onnxruntime (1.32) does not move a `Transpose` past it then.
        let axes = vec![int("start", 0i32), int("end", 2i32)];
        let others = self.step("Shape", "batch_and_channels", vec![x.clone()], axes);
        let shape = self.step("Concat", "resized_shape", vec![others, size], vec![int("axis", 0i32)]);
        let mode = match interpolation {
            Interpolation::Bilinear => "linear",
            Interpolation::Bicubic => "cubic",
        };
        let attributes = vec![
            int("antialias", 1i32),
            text("coordinate_transformation_mode", "half_pixel"),
            float("cubic_coeff_a", -0.5),
            int("exclude_outside", 1i32),
            text("mode", mode),
        ];
        // Neither a region nor factors, but the size.
        self.step("Resize", "resized", vec![x, String::new(), String::new(), shape], attributes)
    }

    /// `crop` rows and columns in the middle of an image that has `margin` more. Half a pixel is rounded to an even number.
    fn crop(&mut self, x: String, margin: String, crop: String) -> String {
        let half = self.scalar("half", 0.5);
        let margin = self.cast("margin_floats", margin, TensorProto::FLOAT);
        let start = self.step("Mul", "half_margin", vec![margin, half], Vec::new());
        let start = self.step("Round", "rounded_margin", vec![start], Vec::new());
        let starts = self.cast("starts", start, TensorProto::INT64);
        let ends = self.step("Add", "ends", vec![starts.clone(), crop], Vec::new());
        let axes = self.pixel_axes();
        self.step("Slice", "cropped", vec![x, starts, ends, axes], Vec::new())
    }

    /// `crop` rows and columns in the middle of an image as floats, with the mean colour around it where `margin` is negative.
    fn letterbox(&mut self, x: String, margin: String, crop: String, description: &Preprocessing) -> String {
        let [none, two] =
            [("none", 0), ("two", 2)].map(|(name, value)| self.integers(&format!("preprocess/{name}"), &[value]));
        let excess = self.step("Max", "excess", vec![margin.clone(), none], Vec::new());
        let x = self.crop(x, excess.clone(), crop);
        let missing = self.step("Sub", "missing", vec![excess, margin], Vec::new());
        let before = self.step("Div", "before", vec![missing.clone(), two], Vec::new());
        let after = self.step("Sub", "after", vec![missing, before.clone()], Vec::new());
        let pads = self.step("Concat", "pads", vec![before, after], vec![int("axis", 0i32)]);
        // `Pad` has one value for all channels: it adds zeros where the mean colour is zero.
        let color: Vec<f32> = description.mean_color().into_iter().map(f32::from).collect();
        let color = self.channels("mean_color", &color);
        let x = self.cast("floats", x, TensorProto::FLOAT);
        let x = self.step("Sub", "from_mean_color", vec![x, color.clone()], Vec::new());
        let axes = self.pixel_axes();
        let x = self.step("Pad", "padded", vec![x, pads, String::new(), axes], Vec::new());
        self.step("Add", "letterboxed", vec![x, color], Vec::new())
    }

    /// The network's input, in the steps of torchvision's `ToTensor` and `Normalize`, which give the same bits.
    fn normalize(&mut self, x: String, description: &Preprocessing) {
        let largest = self.scalar("255", 255.0);
        let [mean, std] =
            [("mean", &description.mean), ("std", &description.std)].map(|(name, v)| self.channels(name, v));
        let x = self.step("Div", "scaled", vec![x, largest], Vec::new());
        let x = self.step("Sub", "centred", vec![x, mean], Vec::new());
        self.push("Div", "preprocess/normalized", vec![x, std], INPUT, Vec::new());
    }

    /// Height and width among the axes of N×C×H×W.
    fn pixel_axes(&mut self) -> String {
        self.shared("height_and_width", &[2], Data::I64(vec![2, 3]))
    }

    /// A constant for each channel.
    fn channels(&mut self, name: &str, values: &[f32]) -> String {
        self.constant(&format!("preprocess/{name}"), &[values.len(), 1, 1], Data::F32(values.to_vec().into()))
    }

    fn cast(&mut self, name: &str, x: String, to: i32) -> String {
        self.step("Cast", name, vec![x], vec![int("to", to)])
    }

    /// Appends a node of the preprocessing; the name of its value.
    fn step(&mut self, op: &str, name: &str, inputs: Vec<String>, attributes: Vec<AttributeProto>) -> String {
        self.helper(op, &format!("preprocess/{name}"), inputs, attributes)
    }
}
