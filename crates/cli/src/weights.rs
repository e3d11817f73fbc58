//! Weights as typed: a file, or a name whose file is brought here first.

use crate::args::{Download, Weights};
use crate::failure::Failure;
use crate::output::{bytes, complain};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use residual::data::Format;
use residual::hub::{Hub, HubEvent, HubName};
use residual::infer::{ClassList, ModelRequest, OpenedModel, ResolvedModel};
use residual::model::Model;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// The model of the weights that were typed, with what should be known about how it was read on stderr. `images` are those
/// that it is for, where they are known.
pub(crate) fn read(arguments: &Weights, images: Option<&Format>) -> Result<Model, Failure> {
    fetch(&arguments.weights, arguments.download)?;
    resolve(&arguments.weights, request(arguments)?.open()?, images)
}

/// Which model was typed.
pub(crate) fn request(arguments: &Weights) -> Result<ModelRequest, Failure> {
    Ok(ModelRequest {
        model: arguments.model.clone(),
        in_chans: arguments.in_chans,
        labels: arguments.labels.as_deref().map(ClassList::open).transpose()?,
        ..ModelRequest::new(&arguments.weights)
    })
}

/// The model of opened weights, as they were typed.
pub(crate) fn resolve(weights: &Path, opened: OpenedModel, images: Option<&Format>) -> Result<Model, Failure> {
    let ResolvedModel { model, notes, .. } = opened.read(images)?;
    notes.iter().for_each(|note| complain(&format!("note: {}: {note}", weights.display())));
    Ok(model)
}

/// Whether `text` means weights: a file or folder that is there, or a name of weights that lie elsewhere.
pub(crate) fn is_weights(text: &str) -> bool {
    Path::new(text).exists() || HubName::parse(text).is_some()
}

/// The file of some weights: their path, or where the file of their name is, to which it is downloaded if it must be.
pub(crate) fn fetch(weights: &Path, download: Download) -> Result<PathBuf, Failure> {
    let Some(name) = HubName::of_path(weights).transpose()? else { return Ok(weights.to_owned()) };
    let mut hub = Hub::from_env()?;
    if download.offline {
        hub = hub.offline("--offline");
    }
    let mut show = Show::default();
    Ok(hub.fetch(&name, &mut |event| show.event(event))?)
}

/// How a download is shown on stderr: a bar on a terminal, lines elsewhere.
#[derive(Default)]
struct Show {
    bar: Option<ProgressBar>,
}

impl Show {
    fn event(&mut self, event: HubEvent<'_>) {
        match event {
            HubEvent::Waiting => self.line("another process downloads this file; waiting for it"),
            HubEvent::Started { url, received, total } => {
                let size = total.map_or_else(String::new, |total| format!(", {}", bytes(total)));
                let rest = if received > 0 { format!(", from {}", bytes(received)) } else { String::new() };
                self.line(&format!("downloading {url}{size}{rest}"));
                if std::io::stderr().is_terminal() {
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
            HubEvent::Retrying { reason } => self.line(&format!("asking again: {reason}")),
            HubEvent::Finished { received, checked } => {
                let check =
                    if checked { "its SHA-256 is the published one" } else { "no SHA-256 is known to check it by" };
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
