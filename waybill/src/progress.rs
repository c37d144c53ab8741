//! Shows the progress of a file: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// The progress of one file.
pub(crate) struct Progress {
    bars: Option<Bars>,
    phase: String,
}

struct Bars {
    stored: ProgressBar,
    delivered: ProgressBar,
}

impl Progress {
    /// Begins to show the progress of a file of `size` bytes on standard error.
    pub(crate) fn new(size: u64) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{msg:<10} [{bar:40}] {bytes:>10} of {total_bytes} {binary_bytes_per_sec:>12}",
            );
            // The template is a valid constant; a plain bar would do too.
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
            let bar = |name| all.add(ProgressBar::new(size).with_style(style.clone()).with_message(name));
            Bars { stored: bar("stored"), delivered: bar("delivered") }
        });
        Self { bars, phase: String::new() }
    }

    /// Shows the file as the gateway sees it now.
    pub(crate) fn show(&mut self, file: &Value) {
        let bytes = |which: &str| file["bytes"][which].as_u64().unwrap_or_default();
        let phase = file["phase"].as_str().unwrap_or_default();
        match &self.bars {
            Some(bars) => {
                bars.stored.set_position(bytes("stored"));
                bars.delivered.set_position(bytes("delivered"));
            }
            None if phase != self.phase => {
                let size = file["size"].as_u64().unwrap_or_default();
                eprintln!("{phase}: {} of {size} bytes stored, {} delivered", bytes("stored"), bytes("delivered"));
            }
            None => {}
        }
        phase.clone_into(&mut self.phase);
    }

    /// Stops updating, and leaves the bars on the screen.
    pub(crate) fn finish(self) {
        if let Some(bars) = self.bars {
            bars.stored.abandon();
            bars.delivered.abandon();
        }
    }
}
