//! `pocker logs`: what a run in the background said, on the streams that it said it on.

use super::now;
use crate::cli::args::Logs;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::text;
use crate::life::log::{Line, read};
use crate::life::time::Stamp;
use crate::sandbox::Source;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

/// How often a log is looked at that is followed.
const EVERY: Duration = Duration::from_millis(50);

pub fn logs(settings: &Settings, args: &Logs) -> Result<(), CliError> {
    let since = args.since.as_deref().map(since).transpose()?;
    let run = super::runs(settings)?.find(&args.of.run)?;
    if !run.record.detached {
        let name = &run.record.name;
        return Err(
            CliError::new(format!("run {name} was started in the foreground"))
                .hint("what it says is where it was started; a log is kept with `run --detach`"),
        );
    }
    let mut begun = [true; 2];
    let mut give = |line: &Line| show(line, args.timestamps, &mut begun);
    let shown = read(run.dir(), since, args.tail, &mut give).and_then(|mut follow| {
        if !args.follow {
            return Ok(());
        }
        loop {
            // Before the last look: what it said until then is there.
            let over = run.again().is_none_or(|run| !run.live());
            follow.more(&mut give)?;
            if over {
                return Ok(());
            }
            std::thread::sleep(EVERY);
        }
    });
    match shown {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::from_error("cannot show the log", &e))
        }
        _ => Ok(()),
    }
}

/// `begun`: the next part on that stream begins a line.
fn show(line: &Line, timestamps: bool, begun: &mut [bool; 2]) -> io::Result<()> {
    let begins = &mut begun[usize::from(line.from == Source::Errors)];
    let time = match timestamps && *begins {
        true => format!("{} ", line.at.rfc3339()),
        false => String::new(),
    };
    *begins = line.whole;
    let put = |to: &mut dyn Write| {
        to.write_all(time.as_bytes())?;
        to.write_all(&line.text)?;
        to.flush()
    };
    match line.from {
        Source::Output => put(&mut io::stdout().lock()),
        Source::Errors => put(&mut io::stderr().lock()),
    }
}

fn since(text: &str) -> Result<Stamp, CliError> {
    if let Ok(span) = text::span(text) {
        let span = i64::try_from(span).unwrap_or(i64::MAX);
        return Ok(Stamp {
            secs: now().saturating_sub(span),
            nanos: 0,
        });
    }
    Stamp::parse(text).ok_or_else(|| {
        CliError::usage(format!("--since {text}: neither a span nor a time"))
            .hint("30m, or 2026-01-31T12:00:00Z")
    })
}
