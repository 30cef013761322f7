//! Files of starts whose process was killed.

use crate::control::sys::process_start;
use std::path::Path;

/// Removes them; those of processes that live are in use.
pub fn sweep(dir: &Path) {
    for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = file.file_name();
        let owner = name.to_str().and_then(owner);
        if owner.is_some_and(|pid| process_start(pid).is_none()) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

/// Whose file it is, by the names that `guard` and `resolver` give.
fn owner(name: &str) -> Option<u32> {
    let digits = match name.strip_prefix("resolv-") {
        Some(digits) => digits,
        None => name.strip_prefix("net-")?.split_once('.')?.0,
    };
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id();
        let gone = ["resolv-4294967295", "net-4294967295.log"].map(str::to_owned);
        let kept = [
            format!("resolv-{me}"),
            format!("net-{me}.sock"),
            "serve.log".to_owned(),
            "net-x.log".to_owned(),
            "resolv-".to_owned(),
        ];
        for name in gone.iter().chain(&kept) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        sweep(dir.path());
        assert!(gone.iter().all(|name| !dir.path().join(name).exists()));
        assert!(kept.iter().all(|name| dir.path().join(name).exists()));
    }
}
