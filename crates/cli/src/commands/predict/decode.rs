//! Reads and prepares inputs in several threads, and returns them in the order typed.

use super::Input;
use super::array::Array;
use crate::failure::Failure;
use residual::data::{DataError, read_image};
use residual::files::{FileCause, FileError, load_npy};
use residual::preprocess::{Image, Preprocessor};
use std::io::Read;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, Scope};

/// Prepared inputs that a thread queues while the network is busy.
const AHEAD: usize = 8;
/// The longest image on stdin: as in files.
const MAX_BYTES: u64 = 256 << 20;

/// An input that was read.
pub(super) enum Prepared {
    /// One image, normalised: height × width × channels.
    Image(Result<Vec<f32>, DataError>),
    /// Images that are prepared batch by batch.
    Array(Result<Array, FileError>),
}

/// The preprocessor, set once the weights are read; `None` inside if they cannot be.
type Ready = OnceLock<Option<Preprocessor>>;

/// The decoding threads: thread `i` of `n` reads the inputs `i`, `i + n`, `i + 2 n` … Without any, the caller's thread
/// reads them.
pub(super) struct Decoder<'a> {
    inputs: &'a [Input],
    ready: &'a Ready,
    threads: Vec<Receiver<Prepared>>,
    next: usize,
}

impl<'a> Decoder<'a> {
    /// Starts `workers` threads; with 0, inputs are read on the caller's thread.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, 'a>,
        inputs: &'a [Input],
        ready: &'a Ready,
        workers: usize,
    ) -> Result<Self, Failure> {
        let workers = workers.min(inputs.len());
        let mut threads = Vec::new();
        for worker in 0..workers {
            let (send, receive) = sync_channel(AHEAD);
            let work = move || {
                // Sending fails when the receiver is gone.
                let _ended =
                    inputs.iter().skip(worker).step_by(workers).try_for_each(|input| send.send(prepare(input, ready)));
            };
            let thread = Builder::new().name(format!("decoder-{worker}")).spawn_scoped(scope, work);
            thread.map_err(|error| Failure::at("a decoder thread", &error))?;
            threads.push(receive);
        }
        Ok(Self { inputs, ready, threads, next: 0 })
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
            None => Some(prepare(input, self.ready)),
        }
    }
}

fn prepare(input: &Input, ready: &Ready) -> Prepared {
    let image = match input {
        Input::Array(path) => return Prepared::Array(load_npy(path).map(Array::new)),
        Input::Image(path) => read_image(path),
        Input::Stdin => read_stdin(),
    };
    Prepared::Image(image.and_then(|image| {
        // Without weights the command ends, and this is not used.
        let Some(preprocessor) = ready.wait() else { return Ok(Vec::new()) };
        let mut values = vec![0.0; preprocessor.output_len()];
        let run = preprocessor.run(&image, &mut values);
        run.map_err(|cause| DataError::Image { place: input.name(), cause })?;
        Ok(values)
    }))
}

/// The image on stdin.
fn read_stdin() -> Result<Image, DataError> {
    let fail = |cause| DataError::File(FileError { path: "stdin".into(), cause });
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|cause| fail(FileCause::Read(cause)))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fail(FileCause::TooLarge { limit: MAX_BYTES }));
    }
    Image::decode(&bytes).map_err(|cause| DataError::Image { place: "stdin".into(), cause })
}
