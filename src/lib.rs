//! The program: command line, builder, runner, daemon.

pub mod control;
pub mod run;
pub mod sandbox;
pub mod sys;
