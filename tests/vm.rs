//! A guest with Linux's own NFS client does what a host does: builds, runs, mounts.

use std::process::Command;

#[test]
fn a_pocker_lives_over_the_kernels_own_nfs_client() {
    let vm = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm");
    let output = Command::new(format!("{vm}/run"))
        .args([env!("CARGO_BIN_EXE_pocker"), &format!("{vm}/smoke.sh")])
        .output()
        .expect("tests/vm/run starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{why}");
    assert!(said.contains("all of it held"), "{said}\n{why}");
}
