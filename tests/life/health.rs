//! `--health-cmd`.

use crate::support::until;
use crate::{detach, inspect, world};

#[test]
fn health_is_asked_for_and_shown() {
    let w = world();
    let flags = [
        "--health-cmd",
        "test ! -e /slow || sleep 100; test -e /fine",
        "--health-interval",
        "100ms",
        "--health-timeout",
        "1s",
        "--health-retries",
        "2",
    ];
    let name = detach(&w, &flags);
    let verdict = |verdict: &str| {
        until(verdict, || inspect(&w, &name)["health"] == verdict);
    };
    verdict("unhealthy");
    assert!(inspect(&w, &name)["details"]["health"]["failures"].as_u64() >= Some(2));
    w.pocker(&["exec", &name, "touch", "/fine"]).ok();
    verdict("healthy");
    assert!(w.pocker(&["ps"]).ok().out.contains("(healthy)"));
    w.pocker(&["exec", &name, "touch", "/slow"]).ok();
    verdict("unhealthy");
    assert_eq!(inspect(&w, &name)["details"]["health"]["status"], 124);
    w.pocker(&["stop", &name]).ok();
    assert_eq!(inspect(&w, &name)["health"], serde_json::Value::Null);
    // Until it has been asked for.
    let later = ["--health-cmd", "true", "--health-interval", "1h"];
    let name = detach(&w, &later);
    assert_eq!(inspect(&w, &name)["health"], "starting");
    w.pocker(&["stop", &name]).ok();
}
