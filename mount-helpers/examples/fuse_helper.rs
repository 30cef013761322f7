//! The FUSE helper process alone, for the tests.

fn main() {
    std::process::exit(pocker_mount_helpers::fuse::fuse_helper_main());
}
