//! The command line: one file a command. Only this module prints.

pub mod args;
pub mod defaults;
pub mod error;
