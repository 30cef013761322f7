//! What processes take, as values.

use std::time::Duration;

#[derive(Clone, Debug, serde::Serialize)]
pub struct Process {
    /// On the host, and in its own namespace.
    pub pid: u32,
    pub inner: u32,
    pub uid: u32,
    pub state: String,
    /// Of processor time.
    pub cpu_ms: u64,
    /// Resident bytes.
    pub memory: u64,
    pub command: String,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct Usage {
    pub processes: Vec<Process>,
    pub cpu_ms: u64,
    pub memory: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// The kernel counted, not we.
    pub cgroup: bool,
}

impl Usage {
    /// In hundredths of one processor, since an earlier look.
    pub fn percent_since(&self, before: &Usage, between: Duration) -> f64 {
        let used = self.cpu_ms.saturating_sub(before.cpu_ms) as f64;
        100.0 * used / (between.as_millis().max(1) as f64)
    }
}
