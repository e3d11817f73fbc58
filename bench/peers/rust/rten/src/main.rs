//! rten on an ONNX file.

use peer_serve::{Arguments, Images, Peer, Result, serve};
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, ValueOrView};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use std::sync::Arc;

struct Rten {
    model: Model,
    ends: (NodeId, NodeId),
    input: NdTensor<f32, 4>,
    options: RunOptions,
}

impl Rten {
    fn run(&self, input: ValueOrView<'_>) -> Result<Vec<f32>> {
        let [output] = self.model.run_n(vec![(self.ends.0, input)], [self.ends.1], Some(self.options.clone()))?;
        let output: NdTensor<f32, 2> = output.try_into()?;
        Ok(output.to_vec())
    }
}

impl Peer for Rten {
    fn pass(&mut self) -> Result<()> {
        self.run(self.input.view().into()).map(drop)
    }

    fn logits(&mut self, images: Images) -> Result<Vec<f32>> {
        self.run(NdTensor::from_data(images.shape, images.values).into())
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    if arguments.train {
        return Err("rten does not train".into());
    }
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(&arguments.weights)?;
    let pool = Arc::new(ThreadPool::with_num_threads(arguments.threads));
    let mut rten = Rten {
        ends: (model.input_ids()[0], model.output_ids()[0]),
        input: NdTensor::from_data(arguments.input.shape, arguments.input.values),
        options: RunOptions::default().with_thread_pool(Some(pool)),
        model,
    };
    serve(&mut rten, r#"{"versions": {"rten": "0.27.0"}, "weights": "prepacked"}"#)
}
