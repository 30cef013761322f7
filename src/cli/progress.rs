//! A build as a person watches it: one line a step, output under it, a bar while bytes move.

use super::text;
use crate::build::{Event, Outcome, Phase, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Prints to standard error; a bar only where that is a terminal.
pub struct Printer {
    quiet: bool,
    terminal: bool,
    bar: Option<(Phase, ProgressBar)>,
    began: Instant,
}

impl Printer {
    pub fn new(quiet: bool) -> Printer {
        let terminal = std::io::stderr().is_terminal();
        Printer {
            quiet,
            terminal,
            bar: None,
            began: Instant::now(),
        }
    }

    fn line(&self, line: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some((_, bar)) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn bytes(&mut self, phase: Phase, done: u64, total: Option<u64>) {
        if self.quiet || !self.terminal {
            return;
        }
        if self.bar.as_ref().is_none_or(|(p, _)| *p != phase) {
            self.clear();
            let bar = match total {
                Some(total) => ProgressBar::new(total),
                None => ProgressBar::new_spinner(),
            };
            let template = "  {spinner} {msg} {decimal_bytes} ({decimal_bytes_per_sec})";
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_spinner()),
            );
            bar.set_message(verb(phase));
            bar.enable_steady_tick(Duration::from_millis(200));
            self.bar = Some((phase, bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(done);
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn verb(phase: Phase) -> &'static str {
    match phase {
        Phase::Ingest => "taking in",
        Phase::Copy => "copying",
        Phase::Seal => "sealing",
    }
}

impl Progress for Printer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Step { number, of, step } => {
                self.began = Instant::now();
                self.line(&format!("[{number}/{of}] {}", step.text));
            }
            Event::Why { number: _, why } => self.line(&format!("  why: {why}")),
            Event::Output(output) => self.line(&format!("  | {output}")),
            Event::Note(note) => self.line(&format!("  {note}")),
            Event::Bytes { phase, done, total } => self.bytes(phase, done, total),
            Event::Done { info, outcome, .. } => {
                self.clear();
                let how = match outcome {
                    Outcome::Cached => "cached".to_string(),
                    Outcome::Shared => "built by another create".to_string(),
                    Outcome::Built => {
                        format!("built in {:.1} s", self.began.elapsed().as_secs_f64())
                    }
                };
                let key = info.key.get(..12).unwrap_or(&info.key);
                self.line(&format!(
                    "  {how}: {key}, {} files, {}",
                    info.nodes,
                    text::bytes(info.bytes)
                ));
            }
        }
    }
}
