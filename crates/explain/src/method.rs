//! Maps by the name of their method.

use crate::attribution::{channel_max, channel_sum, input_gradients, integrated_gradients, smooth_gradient};
use crate::cam::{CamMethod, class_activation, combined};
use crate::occlusion::{Occlusion, occlusion};
use crate::{ExplainError, Layer, Map, Network, Target, default_layer};
use residual_engine::Options;
use residual_model::Model;
use residual_tensor::NamedTensors;

/// A method that says which pixels of an image speak for a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A class activation map of one or more layers.
    Cam(CamMethod),
    /// The magnitude of the gradient with respect to the image, the largest of its channels.
    Saliency,
    /// The same of the mean gradient of noisy copies.
    SmoothGrad,
    /// Integrated gradients, summed over the channels.
    IntegratedGradients,
    /// The drop of the score where a window is covered.
    Occlusion,
}

impl Method {
    /// Every method with its name.
    pub const NAMES: [(&'static str, Self); 9] = [
        ("grad-cam", Self::Cam(CamMethod::GradCam)),
        ("grad-cam++", Self::Cam(CamMethod::GradCamPlusPlus)),
        ("layer-cam", Self::Cam(CamMethod::LayerCam)),
        ("hires-cam", Self::Cam(CamMethod::HiResCam)),
        ("eigen-cam", Self::Cam(CamMethod::EigenCam)),
        ("saliency", Self::Saliency),
        ("smooth-grad", Self::SmoothGrad),
        ("integrated-gradients", Self::IntegratedGradients),
        ("occlusion", Self::Occlusion),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, method)| *method == self).expect("every method has a name").0
    }

    /// The method of this name; hyphens are optional, `ig` is integrated gradients.
    pub fn from_name(name: &str) -> Option<Self> {
        let plain = |text: &str| text.replace('-', "").to_lowercase();
        let wanted = match plain(name).as_str() {
            "ig" => "integratedgradients".to_owned(),
            plain => plain.to_owned(),
        };
        Self::NAMES.iter().find(|(name, _)| plain(name) == wanted).map(|(_, method)| *method)
    }

    /// Whether values below zero speak against the class, rather than for nothing.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::IntegratedGradients | Self::Occlusion)
    }

    /// Whether the method explains layers rather than the image.
    pub fn has_layers(self) -> bool {
        matches!(self, Self::Cam(_))
    }
}

/// The settings of the methods.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MethodOptions {
    /// Points on the path of integrated gradients.
    pub steps: usize,
    /// Noisy copies of SmoothGrad.
    pub samples: usize,
    /// The standard deviation of their noise, as a share of the image's range of values.
    pub noise: f32,
    /// The window of occlusion; by default that of [`Occlusion::for_image`].
    pub occlusion: Option<Occlusion>,
    /// The seed of the noise.
    pub seed: u64,
}

impl Default for MethodOptions {
    fn default() -> Self {
        Self { steps: 50, samples: 25, noise: 0.15, occlusion: None, seed: 0 }
    }
}

/// A model compiled for one method.
///
/// ```
/// use residual_engine::Options;
/// use residual_explain::{Explainer, Method, MethodOptions, Target};
/// use {residual_model as model, residual_preprocess as preprocess, residual_zoo as zoo};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let graph = zoo::build("resnet20", 3)?;
/// # let tensors = model::initialise(&graph, model::Initialisation::Torch, 0);
/// # let preprocessing = preprocess::Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]);
/// # let model = model::Model::new(graph, tensors, preprocessing, Vec::new())?;
/// let method = Method::from_name("grad-cam").unwrap();
/// let mut explainer = Explainer::new(&model, method, &[], MethodOptions::default(), 8, &Options::default())?;
/// let image = vec![0.5; 32 * 32 * 3];
/// let maps = explainer.maps(&image, &[Target::Class(2)])?;
/// assert_eq!(maps[0].size(), [32, 32]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Explainer {
    method: Method,
    options: MethodOptions,
    network: Network,
}

impl Explainer {
    /// Compiles `model` for `method` and batches of up to `batch` images. `layers` are those of a class activation map, by
    /// default the [`default_layer`]; other methods have none.
    ///
    /// # Errors
    /// If a layer is not known or has a single pixel, the method takes no layers, or the network cannot be run.
    pub fn new(
        model: &Model,
        method: Method,
        layers: &[&str],
        options: MethodOptions,
        batch: usize,
        engine: &Options,
    ) -> Result<Self, ExplainError> {
        let usual;
        let layers: &[&str] = match (method.has_layers(), layers) {
            (true, []) => {
                usual = default_layer(model)?;
                &[&usual]
            }
            (true, layers) => layers,
            (false, []) => &[Network::IMAGE],
            (false, [layer, ..]) => {
                return Err(ExplainError::setting("layers", format!("none for {}", method.name()), layer));
            }
        };
        let network = Network::new(model, layers, batch, engine)?;
        match network.layers().iter().find(|layer| layer.shape.height * layer.shape.width <= 1) {
            Some(Layer { name, shape, .. }) => Err(ExplainError::Vector { layer: name.clone(), shape: *shape }),
            None => Ok(Self { method, options, network }),
        }
    }

    /// The map of each target, for its image of `images` (n × height × width × channels, normalised). Maps have the size of
    /// the image. Those of class activation are scaled to 0..1; the others have the units of the score, or of its gradient.
    ///
    /// # Errors
    /// If there is not a target for each image, a class is not known, or a setting of the method is out of range.
    pub fn maps(&mut self, images: &[f32], targets: &[Target]) -> Result<Vec<Map>, ExplainError> {
        let (network, options) = (&mut self.network, self.options);
        let (len, size) = (network.image().len(), [network.image().height, network.image().width]);
        if images.len() != targets.len() * len {
            return Err(ExplainError::Images { expected: targets.len() * len, got: images.len() });
        }
        let pairs = || images.chunks_exact(len).zip(targets);
        let maps: Vec<Map> = match self.method {
            Method::Cam(method) => cams(network, method, images, targets, size)?,
            Method::Saliency => {
                let gradients = input_gradients(network, images, targets)?;
                gradients.iter().map(|gradient| channel_max(gradient, size)).collect()
            }
            Method::SmoothGrad => pairs()
                .map(|(image, &target)| {
                    let MethodOptions { samples, noise, seed, .. } = options;
                    let gradient = smooth_gradient(network, image, target, samples, noise, seed)?;
                    Ok(channel_max(&gradient, size))
                })
                .collect::<Result<_, ExplainError>>()?,
            Method::IntegratedGradients => pairs()
                .map(|(image, &target)| {
                    Ok(channel_sum(&integrated_gradients(network, image, target, options.steps)?, size))
                })
                .collect::<Result<_, ExplainError>>()?,
            Method::Occlusion => {
                let window = options.occlusion.unwrap_or_else(|| Occlusion::for_image(size));
                pairs().map(|(image, &target)| occlusion(network, image, target, window)).collect::<Result<_, _>>()?
            }
        };
        for (index, map) in maps.iter().enumerate() {
            if let Some(&got) = map.values.iter().find(|value| !value.is_finite()) {
                return Err(ExplainError::NotFinite { index, what: "map", got });
            }
        }
        Ok(maps)
    }

    /// The network, for logits and for the scores of maps.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Replaces all weights, as the randomisation check does.
    ///
    /// # Errors
    /// If a tensor is missing or mis-shaped.
    pub fn load(&mut self, tensors: &NamedTensors) -> Result<(), ExplainError> {
        self.network.load(tensors)
    }

    /// The layers that are explained; empty for methods of the image.
    pub fn layers(&self) -> &[Layer] {
        if self.method.has_layers() { self.network.layers() } else { &[] }
    }
}

/// The maps of a class-activation method.
fn cams(
    network: &mut Network,
    method: CamMethod,
    images: &[f32],
    targets: &[Target],
    size: [usize; 2],
) -> Result<Vec<Map>, ExplainError> {
    let layers = network.layers().to_vec();
    let mut maps = Vec::with_capacity(targets.len());
    network.gradients(images, targets, |pass| {
        let mut of_images: Vec<Vec<Map>> = vec![Vec::new(); pass.images];
        for (index, layer) in layers.iter().enumerate() {
            for ((maps, value), gradient) in
                of_images.iter_mut().zip(pass.values(index)).zip(pass.layer_gradients(index))
            {
                maps.push(class_activation(method, value, gradient, layer.shape));
            }
        }
        maps.extend(of_images.into_iter().map(|layers| combined(layers, size)));
        Ok(())
    })?;
    Ok(maps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_found_by_their_names_and_usual_spellings() {
        for (name, method) in Method::NAMES {
            assert_eq!((Method::from_name(name), method.name()), (Some(method), name));
        }
        for (name, expected) in [("gradcam", "grad-cam"), ("GradCAM++", "grad-cam++"), ("ig", "integrated-gradients")] {
            assert_eq!(Method::from_name(name).map(Method::name), Some(expected));
        }
        assert_eq!(Method::from_name("lime"), None);
    }
}
