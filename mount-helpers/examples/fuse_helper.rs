//! The FUSE helper process alone, for the tests. `cargo test -p pocker-mount-helpers` builds
//! it; `--test fuse` alone does not build it anew.

fn main() {
    std::process::exit(pocker_mount_helpers::fuse::fuse_helper_main(None));
}
