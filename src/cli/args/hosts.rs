//! Other hosts.

use crate::control::hosts::Role;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make one, and show it: once
    Create(TokenCreate),
    /// List them: their roles, until when they are good, and who showed them last
    Ls(super::Json),
    /// End one now
    Revoke {
        /// As `pocker token ls` has it
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct TokenCreate {
    /// What it is good for
    #[arg(long, value_enum)]
    pub role: Role,
    /// For how long: 12h, 30d, 52w
    #[arg(long, value_name = "SPAN", value_parser = crate::cli::text::span)]
    pub expires: u64,
    /// What the log and `token ls` call it [default: eight random digits]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}
