//! docs/security.md names tests that are there.

use std::path::Path;

#[test]
fn each_test_that_is_named_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(top.join("docs/security.md")).expect("docs/security.md");
    let mut named = 0;
    let mut file: Option<String>;
    for row in text.lines().filter(|line| line.starts_with('|')) {
        file = None;
        for quoted in row.split('`').skip(1).step_by(2) {
            if quoted.contains('/') && quoted.ends_with(".rs") {
                let path = top.join(quoted);
                file = Some(
                    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{quoted}: {e}")),
                );
                continue;
            }
            let test = |b: u8| b.is_ascii_lowercase() || b == b'_';
            if quoted.contains('_')
                && quoted.bytes().all(test)
                && let Some(text) = &file
            {
                named += 1;
                assert!(text.contains(&format!("fn {quoted}(")), "no test {quoted}");
            }
        }
    }
    assert!(named > 20, "only {named} were looked for");
}
