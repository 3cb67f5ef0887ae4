//! What the demo says: progress on stderr (a bar on a terminal, plain lines elsewhere), results on stdout.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

/// Speaks for the demo.
pub struct Voice {
    bar: Option<ProgressBar>,
    acts: u64,
    act: u64,
}

impl Voice {
    pub fn new(acts: u64) -> Self {
        Self { bar: stderr().is_terminal().then(|| bar(acts)), acts, act: 0 }
    }

    /// The next act begins.
    pub fn begin(&mut self, what: &str) {
        self.act += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.act - 1);
                bar.set_message(what.to_owned());
            }
            None => eprintln!("[{}/{}] {what}", self.act, self.acts),
        }
    }

    /// Something was found to be as expected.
    pub fn good(&self, what: impl Display) {
        let line = format!("  ✓ {what}");
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// A result for stdout.
    pub fn show(&self, what: impl Display) -> anyhow::Result<()> {
        let write = || writeln!(stdout(), "{what}").context("the results cannot be printed");
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// No half-drawn bar is left, above an error or the summary.
impl Drop for Voice {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(acts: u64) -> ProgressBar {
    let bar = ProgressBar::new(acts);
    // The template is a constant: a fault in it shows in the test below, and the default style would do.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

const TEMPLATE: &str = "{spinner} [{bar:24}] {pos}/{len} {msg}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_can_be_drawn() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
