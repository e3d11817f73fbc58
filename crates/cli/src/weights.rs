//! Weights on the command line: a file, or a name whose file is downloaded first.

use crate::args::{Download, Weights};
use crate::failure::Failure;
use crate::output::{bytes, complain, has_bar};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use residual::data::Format;
use residual::hub::{Hub, HubEvent, HubName};
use residual::infer::{self, ClassList, InferError, ModelRequest, OpenedModel, ResolvedModel};
use residual::model::Model;
use residual::zoo::Config;
use std::path::{Path, PathBuf};

/// What `MODEL|WEIGHTS` names: a model, or a network without weights.
pub(crate) enum Named {
    Model(Model),
    Network(Config),
}

/// The network of the registry or of a description that is called `name`, or the model of the weights `name`; `network` is
/// that of a bare state dict.
pub(crate) fn named(name: &str, network: Option<&str>, download: Download) -> Result<Named, Failure> {
    match infer::network(name) {
        Err(InferError::Zoo(_)) if is_weights(name) => {
            fetch(Path::new(name), download)?;
            let request = ModelRequest { model: network.map(str::to_owned), ..ModelRequest::new(name) };
            Ok(Named::Model(resolve(Path::new(name), request.open()?, None)?))
        }
        found => Ok(Named::Network(found?)),
    }
}

/// Opens the typed weights.
pub(crate) fn open(arguments: &Weights) -> Result<OpenedModel, Failure> {
    fetch(&arguments.weights, arguments.download)?;
    Ok(request(arguments)?.open()?)
}

/// The request for the typed weights.
pub(crate) fn request(arguments: &Weights) -> Result<ModelRequest, Failure> {
    Ok(ModelRequest {
        model: arguments.model.clone(),
        in_chans: arguments.in_chans,
        labels: arguments.labels.as_deref().map(ClassList::open).transpose()?,
        ..ModelRequest::new(&arguments.weights)
    })
}

/// The model of opened weights, for `images` where they are known. Notes about how it was read are printed to stderr.
pub(crate) fn resolve(weights: &Path, opened: OpenedModel, images: Option<&Format>) -> Result<Model, Failure> {
    let ResolvedModel { model, notes, .. } = opened.read(images)?;
    notes.iter().for_each(|note| complain(&format!("note: {}: {note}", weights.display())));
    Ok(model)
}

/// Whether `text` is a file or folder that exists, or a name of published weights.
fn is_weights(text: &str) -> bool {
    Path::new(text).exists() || HubName::parse(text).is_some()
}

/// Downloads the file of weights by name to the cache, unless it is there. Does nothing for a path.
pub(crate) fn fetch(weights: &Path, download: Download) -> Result<(), Failure> {
    let Some(name) = HubName::of_path(weights).transpose()? else { return Ok(()) };
    download_file(&name, download)?;
    Ok(())
}

/// The path of a file by name, which is downloaded to the cache unless it is there.
pub(crate) fn download_file(name: &HubName, download: Download) -> Result<PathBuf, Failure> {
    let mut hub = Hub::from_env()?;
    if download.offline {
        hub = hub.offline("--offline");
    }
    let mut show = Show::default();
    Ok(hub.fetch(name, &mut |event| show.event(event))?)
}

/// Shows a download on stderr: a bar on a terminal, lines elsewhere.
#[derive(Default)]
struct Show {
    bar: Option<ProgressBar>,
}

impl Show {
    fn event(&mut self, event: HubEvent<'_>) {
        match event {
            HubEvent::Waiting => self.line("another process is downloading this file; waiting for it"),
            HubEvent::Started { url, received, total } => {
                let size = total.map_or_else(String::new, |total| format!(", {}", bytes(total)));
                let rest = if received > 0 { format!(", from {}", bytes(received)) } else { String::new() };
                self.line(&format!("downloading {url}{size}{rest}"));
                if has_bar() {
                    let style =
                        ProgressStyle::with_template("{bar:16} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
                    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
                    bar.set_style(style.expect("the template is well formed").progress_chars("█▉▊▋▌▍▎▏ "));
                    bar.set_position(received);
                    bar.reset_eta();
                    self.bar = Some(bar);
                }
            }
            HubEvent::Received { received } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(received);
                }
            }
            HubEvent::Retrying { reason } => self.line(&format!("retrying: {reason}")),
            HubEvent::Finished { received, checked } => {
                let check = if checked { "SHA-256 verified" } else { "not verified, as no SHA-256 is published" };
                self.line(&format!("downloaded {}; {check}", bytes(received)));
            }
        }
    }

    /// A line in place of the bar.
    fn line(&mut self, text: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        complain(text);
    }
}
