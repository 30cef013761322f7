//! The program: command line, builder, runner, daemon.

pub mod build;
pub mod cli;
pub mod control;
pub mod copy;
pub mod daemon;
pub mod image;
pub mod life;
pub mod limits;
pub mod net;
pub mod pockerfile;
pub mod registry;
pub mod run;
pub mod sandbox;
pub mod sync;
pub mod sys;
pub mod tls;
