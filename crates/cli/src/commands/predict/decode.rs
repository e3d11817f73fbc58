//! Reads and prepares inputs in several threads, and returns them in the order typed.

use super::Input;
use super::array::Array;
use super::picture::reduced;
use super::stdin::{Content, Paths};
use crate::failure::Failure;
use residual::data::{DataError, read_image};
use residual::files::{FileError, load_npy};
use residual::preprocess::{Image, Preprocessor, Views};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, Scope};

/// Prepared inputs that a thread queues while the network is busy.
const AHEAD: usize = 8;

/// An input that was read.
pub(super) enum Prepared {
    /// One image.
    Image(Result<Decoded, DataError>),
    /// Images that are prepared batch by batch.
    Array(Result<Array, FileError>),
    /// Paths on stdin.
    Paths(Paths),
}

/// An image that was decoded.
pub(super) struct Decoded {
    /// Its normalised views: views × height × width × channels.
    pub(super) values: Vec<f32>,
    /// The image itself, if it is to be saved.
    pub(super) picture: Option<Image>,
}

/// The preprocessor, set once the weights are read; `None` inside if they cannot be.
pub(super) type Ready = OnceLock<Option<Preprocessor>>;

/// What decoding depends on.
#[derive(Clone, Copy)]
pub(super) struct Decoding<'a> {
    pub(super) ready: &'a Ready,
    /// Decoding threads.
    pub(super) workers: usize,
    /// The views of an image.
    pub(super) views: Views,
    /// Whether images are saved.
    pub(super) pictures: bool,
}

/// The decoding threads: thread `i` of `n` reads the inputs `i`, `i + n`, `i + 2 n` … Without any, the caller's thread
/// reads them.
pub(super) struct Decoder<'a> {
    inputs: &'a [Input],
    decoding: Decoding<'a>,
    threads: Vec<Receiver<Prepared>>,
    next: usize,
}

impl<'a> Decoder<'a> {
    /// Starts the threads; with 0, inputs are read on the caller's thread.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, 'a>,
        inputs: &'a [Input],
        decoding: Decoding<'a>,
    ) -> Result<Self, Failure> {
        let workers = decoding.workers.min(inputs.len());
        let mut threads = Vec::new();
        for worker in 0..workers {
            let (send, receive) = sync_channel(AHEAD);
            let work = move || {
                // Sending fails when the receiver is gone.
                let _ended = inputs
                    .iter()
                    .skip(worker)
                    .step_by(workers)
                    .try_for_each(|input| send.send(prepare(input, decoding)));
            };
            let thread = Builder::new().name(format!("decoder-{worker}")).spawn_scoped(scope, work);
            thread.map_err(|error| Failure::at("a decoder thread", &error))?;
            threads.push(receive);
        }
        Ok(Self { inputs, decoding, threads, next: 0 })
    }
}

impl Iterator for Decoder<'_> {
    type Item = Prepared;

    fn next(&mut self) -> Option<Prepared> {
        let input = self.inputs.get(self.next)?;
        let thread = if self.threads.is_empty() { None } else { Some(&self.threads[self.next % self.threads.len()]) };
        self.next += 1;
        match thread {
            Some(thread) => thread.recv().ok(),
            None => Some(prepare(input, self.decoding)),
        }
    }
}

fn prepare(input: &Input, decoding: Decoding<'_>) -> Prepared {
    let image = match input {
        Input::Array(path) => return Prepared::Array(load_npy(path).map(Array::new)),
        Input::Image(path) => read_image(path),
        Input::Stdin => match Content::read() {
            Ok(Content::Paths(paths)) => return Prepared::Paths(paths),
            Ok(Content::Image(bytes)) => {
                Image::decode(&bytes).map_err(|cause| DataError::Image { place: "stdin".into(), cause })
            }
            Err(error) => Err(error),
        },
    };
    Prepared::Image(image.and_then(|image| {
        // Without weights the command ends, and this is not used.
        let Some(preprocessor) = decoding.ready.wait() else {
            return Ok(Decoded { values: Vec::new(), picture: None });
        };
        let mut values = vec![0.0; decoding.views.count() * preprocessor.output_len()];
        let run = preprocessor.run_views(&image, decoding.views, &mut values);
        run.map_err(|cause| DataError::Image { place: input.name(), cause })?;
        let picture =
            decoding.pictures.then(|| reduced(preprocessor.orient(&image).into_owned(), preprocessor.description()));
        Ok(Decoded { values, picture })
    }))
}
