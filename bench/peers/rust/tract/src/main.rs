//! tract on an ONNX file.

use peer_serve::{Arguments, Images, Peer, Result, serve};
use std::sync::Arc;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

struct Tract {
    plan: Arc<TypedRunnableModel>,
    input: Tensor,
}

impl Tract {
    fn run(&self, input: Tensor) -> Result<Vec<f32>> {
        let outputs = self.plan.run(tvec![input.into_tvalue()])?;
        Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}

impl Peer for Tract {
    fn pass(&mut self) -> Result<()> {
        self.run(self.input.clone()).map(drop)
    }

    fn logits(&mut self, images: Images) -> Result<Vec<f32>> {
        self.run(Tensor::from_shape(&images.shape, &images.values)?)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    if arguments.train {
        return Err("tract does not train".into());
    }
    set_default_executor(Executor::multithread(arguments.threads));
    let model = tract_onnx::onnx()
        .model_for_path(&arguments.weights)?
        .with_input_fact(0, f32::fact(arguments.input.shape).into())?
        .into_optimized()?;
    let input = Tensor::from_shape(&arguments.input.shape, &arguments.input.values)?;
    serve(&mut Tract { plan: model.into_runnable()?, input }, r#"{"versions": {"tract": "0.23.9"}}"#)
}
