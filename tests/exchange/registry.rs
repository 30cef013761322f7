//! The registry of Debian.
