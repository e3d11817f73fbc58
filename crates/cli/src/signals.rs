//! What the process does when it is asked to stop, or a file would grow past its limit.

use crate::failure::Failure;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a command that a signal ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// How a command hears of Ctrl-C and SIGTERM. Until it [listens](Self::listen), the first signal ends the process at once,
/// as downloads, exports and measurements have nothing to save.
pub(crate) struct Stop {
    /// No one listens: the first signal ends the process.
    at_once: Arc<AtomicBool>,
    /// Some signal came.
    asked: Arc<AtomicBool>,
    /// SIGINT or SIGTERM came: the next of them ends the process. Warnings do not count, as a closed terminal or a batch
    /// system may send several.
    insisted: Arc<AtomicBool>,
}

impl Stop {
    /// Handles the signals from here on. A write past the file-size limit becomes an error of that write instead of the
    /// process's death.
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

    /// The flag that a signal sets from here on, for the command to look at, save what it has and end. A second SIGINT or
    /// SIGTERM ends the process at once.
    pub(crate) fn listen(&self) -> &Arc<AtomicBool> {
        self.at_once.store(false, Ordering::SeqCst);
        &self.asked
    }

    /// Takes the signals that batch systems and closed terminals send as SIGTERM too, for a command that can be resumed.
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
