//! The parameters that a session reads: packed for inference, where sessions share them, or in buckets, which training changes.

use crate::layout::lay_out_bytes;
use crate::parameters::{Filters, Parameters};
use crate::plan::{
    ConvId, Folded, NormId, ParameterPlace, Plan, PlannedQuantization, PlannedQuantizedConv, QuantizationId,
    QuantizedConvId,
};
use crate::{EngineError, Memory};
use residual_kernels::batch_norm;
use residual_kernels::conv::Requantize;
use residual_kernels::quantize::Quantization;
use residual_tensor::AlignedBuffer;
use residual_tensor::NamedTensors;
use residual_threads::Pool;
use std::ops::Range;
use std::sync::Arc;

/// The parameters of a plan.
#[derive(Debug)]
pub(crate) enum Weights {
    /// Those of an inference plan.
    Packed(Arc<PackedWeights>),
    /// Those of a plan with gradients.
    Buckets(Box<Parameters>),
}

/// The weights of an inference plan in the order in which its kernels read them.
#[derive(Debug)]
pub(crate) struct PackedWeights {
    values: AlignedBuffer,
    /// The weights of the convolutions, shared with the model, if they are packed on use.
    filters: Vec<Filters>,
    quantizations: Vec<Quantization>,
}

impl PackedWeights {
    /// Packs the weights of a folded model, for which `plan` was compiled.
    pub(crate) fn new(plan: &Plan, folded: &Folded<'_>, pool: &Arc<Pool>) -> Result<Self, EngineError> {
        let len = plan.layers.packing.kept;
        let memory = Memory { packed: len.saturating_mul(size_of::<f32>()), ..Memory::default() };
        let values = AlignedBuffer::try_zeros(len).ok_or_else(|| memory.refused())?;
        let mut packed = Self { values, filters: Vec::new(), quantizations: Vec::new() };
        packed.fill(plan, folded, pool)?;
        Ok(packed)
    }

    /// Replaces the weights by those of another model of the same graph.
    pub(crate) fn fill(&mut self, plan: &Plan, folded: &Folded<'_>, pool: &Arc<Pool>) -> Result<(), EngineError> {
        let Folded { tensors, scales, .. } = folded;
        let Parameters { values, statistics, .. } =
            &Parameters::new(Arc::clone(&plan.parameters), tensors, scales, pool)?;
        let layers = &plan.layers;
        let number = |node: &String, name: &str| &tensors[format!("{node}.{name}").as_str()];
        // One that a batch determines multiplies the constants of its readers then.
        let quantization = |node: &PlannedQuantization| match node.is_dynamic {
            true => Quantization { scale: 1.0, zero: 1 },
            false => Quantization {
                scale: number(&node.name, "scale").as_f32().expect("checked: scales are floats")[0],
                zero: number(&node.name, "zero_point").as_u8().expect("checked: zero points are bytes")[0],
            },
        };
        self.quantizations = layers.quantizations.iter().map(quantization).collect();
        for planned in &layers.quantized {
            let bias = planned.bias.as_ref().map(|bias| &values[bias.clone()]);
            self.fill_quantized(planned, tensors, bias, pool);
        }
        let packed = &mut self.values;
        for planned in &layers.convs {
            if let Some(weight) = &planned.weight {
                let packed = &mut packed[weight.packed.clone()];
                planned.conv.pack_forward(pool, &values[weight.bucket.clone()], packed);
            }
        }
        let biases = layers.convs.iter().filter_map(|planned| planned.bias.as_ref());
        let layer_norms = layers.layer_norms.iter().flat_map(|norm| [&norm.weight, &norm.bias]);
        for ParameterPlace { bucket, packed: place } in biases.chain(layer_norms).chain(&layers.scales) {
            packed[place.clone()].copy_from_slice(&values[bucket.clone()]);
        }
        for norm in &layers.norms {
            let [scale, shift] = packed.get_disjoint_mut(norm.affine.clone()).expect("places do not overlap");
            let [weight, bias] = [&values[norm.weight.clone()], &values[norm.bias.clone()]];
            let [mean, variance] = [&statistics[norm.running_mean.clone()], &statistics[norm.running_var.clone()]];
            batch_norm::scale_and_shift(weight, bias, mean, variance, norm.eps, scale, shift);
        }
        self.filters = match layers.packing.on_use {
            true => {
                let filters = layers.convs.iter();
                filters.map(|planned| Filters::new(&planned.key, planned.layout.clone(), tensors, scales)).collect()
            }
            false => Vec::new(),
        };
        Ok(())
    }

    /// Packs the weight of a quantised layer and computes its constants.
    fn fill_quantized(
        &mut self,
        planned: &PlannedQuantizedConv,
        tensors: &NamedTensors,
        bias: Option<&[f32]>,
        pool: &Pool,
    ) {
        let PlannedQuantizedConv { conv, keys: [weight, scale], layout, input, add, output, constants, .. } = planned;
        let weight = tensors[weight.as_str()].as_i8().expect("checked: quantised weights are signed bytes");
        let scales = tensors[scale.as_str()].as_f32().expect("checked: scales are floats");
        let quantization = |id: QuantizationId| self.quantizations[id.0];
        let (x, added, y) = (quantization(*input), add.map(quantization), output.map(quantization));
        let (y_scale, y_zero) = y.map_or((1.0, 0.0), |y| (f64::from(y.scale), f64::from(y.zero)));
        let shift = added.map_or(0.0, |added| f64::from(added.scale) * f64::from(added.zero));
        let [start, scale, offset] =
            self.values.get_disjoint_mut(constants.clone()).expect("constants have places of their own");
        for (channel, filter) in weight.chunks_exact(weight.len() / scales.len()).enumerate() {
            let sum: i32 = filter.iter().map(|&byte| i32::from(byte)).sum();
            start[channel] = f32::from_bits((-i32::from(x.zero) * sum) as u32);
            scale[channel] = (f64::from(x.scale) * f64::from(scales[channel]) / y_scale) as f32;
            let bias = bias.map_or(0.0, |bias| f64::from(bias[channel]));
            offset[channel] = ((bias - shift) / y_scale + y_zero) as f32;
        }
        conv.pack(pool, &lay_out_bytes(layout, weight), &mut self.values[planned.weight.clone()]);
    }

    /// Bytes of the packed weights.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<f32>() * self.values.len()
    }
}

impl Weights {
    /// The packed weights of a convolution's forward pass, packed into `current` if they are not kept, and its bias.
    /// `conversion` is memory of the session, too.
    pub(crate) fn conv<'a>(
        &'a self,
        plan: &Plan,
        conv: ConvId,
        pool: &Pool,
        conversion: &mut [f32],
        current: &'a mut [f32],
    ) -> (&'a [f32], Option<&'a [f32]>) {
        let planned = &plan.layers.convs[conv.0];
        let bias = planned.bias.as_ref().map(|bias| self.values(bias));
        if let (Self::Packed(packed), Some(weight)) = (self, &planned.weight) {
            return (&packed.values[weight.packed.clone()], bias);
        }
        let current = &mut current[..planned.conv.packed_forward_len()];
        match self {
            Self::Packed(packed) => packed.filters[conv.0].pack(pool, &planned.conv, conversion, current),
            Self::Buckets(parameters) => {
                let weight = planned.weight.as_ref().expect("a plan with gradients has all weights in its bucket");
                planned.conv.pack_forward(pool, &parameters.values[weight.bucket.clone()], current);
            }
        }
        (current, bias)
    }

    /// The packed weight of a quantised layer and its constants; `added` is what its kernel adds.
    pub(crate) fn quantized_conv<'a>(
        &'a self,
        plan: &Plan,
        conv: QuantizedConvId,
        added: Option<&'a [u8]>,
    ) -> (&'a [f32], Requantize<'a>) {
        let PlannedQuantizedConv { add, output, relu, weight, constants, .. } = &plan.layers.quantized[conv.0];
        let values = |place: &Range<usize>| &self.packed().values[place.clone()];
        let [start, scale, bias] = constants.each_ref().map(values);
        let y = output.map(|id| self.quantization(id));
        let factor = |id: QuantizationId| self.quantization(id).scale / y.map_or(1.0, |y| y.scale);
        let least = match (relu, y) {
            (true, Some(y)) => f32::from(y.zero),
            (true, None) => 0.0,
            (false, _) => f32::NEG_INFINITY,
        };
        let add = added.zip(add.map(factor));
        (values(weight), Requantize { start: bytemuck::cast_slice(start), scale, bias, add, least })
    }

    /// A quantisation of an inference plan; of one that a batch determines, the one that its readers' constants are for.
    pub(crate) fn quantization(&self, id: QuantizationId) -> Quantization {
        self.packed().quantizations[id.0]
    }

    fn packed(&self) -> &PackedWeights {
        match self {
            Self::Packed(packed) => packed,
            Self::Buckets(_) => unreachable!("only inference plans are quantised"),
        }
    }

    /// The values of a parameter that is not packed: one number per channel.
    pub(crate) fn values(&self, place: &ParameterPlace) -> &[f32] {
        match self {
            Self::Packed(packed) => &packed.values[place.packed.clone()],
            Self::Buckets(parameters) => &parameters.values[place.bucket.clone()],
        }
    }

    /// Scale and shift of a batch norm that was not folded, in inference.
    pub(crate) fn affine(&self, plan: &Plan, norm: NormId) -> Option<[&[f32]; 2]> {
        match self {
            Self::Packed(packed) => Some(plan.layers.norms[norm.0].affine.clone().map(|place| &packed.values[place])),
            Self::Buckets(_) => None,
        }
    }

    /// The buckets of a plan with gradients; `None` in inference.
    pub(crate) fn buckets(&self) -> Option<&Parameters> {
        match self {
            Self::Packed(_) => None,
            Self::Buckets(parameters) => Some(parameters),
        }
    }

    /// As [`buckets`](Self::buckets).
    pub(crate) fn buckets_mut(&mut self) -> Option<&mut Parameters> {
        match self {
            Self::Packed(_) => None,
            Self::Buckets(parameters) => Some(parameters),
        }
    }
}
