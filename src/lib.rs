//! The program: command line, builder, runner, daemon.

pub mod control;
pub mod sandbox;
pub mod sys;
