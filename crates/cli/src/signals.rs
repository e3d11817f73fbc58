//! Signals that end a command, and the one of the file-size limit.

use crate::failure::Failure;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a command that a signal ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// The handlers of Ctrl-C and SIGTERM. Until a command [listens](Self::listen), the first signal ends the process at once:
/// downloads, exports and measurements have nothing to save.
pub(crate) struct Stop {
    /// The command does not listen yet: the first signal ends the process.
    at_once: Arc<AtomicBool>,
    /// A signal was received.
    asked: Arc<AtomicBool>,
    /// SIGINT or SIGTERM was received: the next of them ends the process. The other signals do not count, as a closed
    /// terminal or a batch system may send several.
    insisted: Arc<AtomicBool>,
}

impl Stop {
    /// Installs the handlers. A write past the file-size limit becomes an error of that write instead of ending the
    /// process.
    pub(crate) fn new() -> Result<Self, Failure> {
        let stop = Self { at_once: Arc::new(AtomicBool::new(true)), asked: Arc::default(), insisted: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            // In this order the first signal still finds `insisted` unset.
            flag::register_conditional_shutdown(signal, INTERRUPTED.into(), stop.insisted.clone())?;
            flag::register(signal, stop.insisted.clone())?;
            stop.handle(signal)?;
        }
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
        Ok(stop)
    }

    /// The flag that a signal sets from now on. The command polls it, saves what it has and ends. A second SIGINT or
    /// SIGTERM ends the process at once.
    pub(crate) fn listen(&self) -> &Arc<AtomicBool> {
        self.at_once.store(false, Ordering::SeqCst);
        &self.asked
    }

    /// Handles the signals of batch systems and closed terminals like SIGTERM, for a command that can be resumed.
    /// A SIGHUP that is ignored (nohup) stays ignored.
    pub(crate) fn handle_warnings(&self) -> Result<(), Failure> {
        #[cfg(unix)]
        {
            self.handle(signal_hook::consts::SIGUSR1)?;
            if hangup_ends_the_process() {
                self.handle(signal_hook::consts::SIGHUP)?;
            }
        }
        Ok(())
    }

    fn handle(&self, signal: i32) -> Result<(), Failure> {
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), self.at_once.clone())?;
        flag::register(signal, self.asked.clone())?;
        Ok(())
    }
}

/// Whether the process was not started with SIGHUP ignored; `false` where that cannot be told.
#[cfg(unix)]
fn hangup_ends_the_process() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (signal_hook::consts::SIGHUP - 1)) == 0)
}
