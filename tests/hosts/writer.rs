//! A run that writes, and counts what it was told is written: nothing of that may be lost.

use super::lab::Host;
use super::support::{until, wait};
use std::path::PathBuf;
use std::process::Child;

/// Appends a number to the tree's file, and says so outside once the write was answered.
const WRITE: &str = "i=0; while [ ! -e /said/stop ]; do i=$((i+1)); \
    echo $i >>/log && echo $i >>/said/done; [ $((i%10)) = 0 ] && sleep 0.02; done; cat /log >/said/seen";

pub struct Writer<'a> {
    host: &'a Host,
    name: &'static str,
    child: Child,
    said: PathBuf,
}

impl<'a> Writer<'a> {
    pub fn start(host: &'a Host, pocker: &str, name: &'static str) -> Writer<'a> {
        let said = host.world.path(&format!("said-{name}"));
        std::fs::create_dir(&said).expect("mkdir");
        let graft = format!("{}:/said", said.display());
        let args = [
            "run", "--name", name, "-d", &graft, pocker, "--", "sh", "-c", WRITE,
        ];
        let mut writer = Writer {
            child: host.start(&args),
            host,
            name,
            said,
        };
        until("it writes", || {
            let ended = writer.child.try_wait().expect("looked");
            if ended.is_some() {
                let mut said = String::new();
                let mut err = writer.child.stderr.take().expect("a pipe");
                let _ = std::io::Read::read_to_string(&mut err, &mut said);
                panic!("it has ended: {said}");
            }
            writer.done() > 0
        });
        writer
    }

    fn numbers(&self, file: &str) -> Vec<u64> {
        let text = std::fs::read_to_string(self.said.join(file)).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub fn done(&self) -> usize {
        self.numbers("done").len()
    }

    /// It writes, from now on.
    pub fn goes_on(&self) {
        let before = self.done();
        until("it writes", || self.done() > before + 20);
    }

    /// Writes that were acknowledged and that the server's tree lacks.
    pub fn lost(&self) -> usize {
        let log = format!("{}:/log", self.name);
        // Before the server is asked: it goes on.
        let done = self.numbers("done");
        let kept = self.host.pocker(&["cat", &log]).ok().out;
        let kept: Vec<u64> = kept.lines().filter_map(|line| line.parse().ok()).collect();
        done.iter().filter(|n| !kept.contains(n)).count()
    }

    /// Ends it, when what it wrote was compared with what the server has; how many were acknowledged.
    pub fn end(self) -> usize {
        assert_eq!(self.lost(), 0, "acknowledged writes are lost");
        std::fs::write(self.said.join("stop"), "").expect("write");
        let (done, seen) = (self.said.join("done"), self.said.join("seen"));
        wait(self.child).ok();
        let done = std::fs::read_to_string(done).expect("it wrote");
        // As its own kernel has it: in order, each once.
        assert_eq!(std::fs::read_to_string(seen).expect("it read"), done);
        done.lines().count()
    }
}
