//! Each change that a mutation of the store makes to files fails once, or is where the process
//! dies, or is where the disk is full or gone from then on; SQLite's own changes too. Whatever
//! was acknowledged before is there afterwards, nothing half-made is, a check finds nothing
//! wrong, and what failed succeeds when it is tried again.
//!
//! A mutation is a [`script::Script`]: steps that are acknowledged one by one. The state
//! between any two of them is known from a run without faults, so that after a fault the store
//! must be in the state of the last acknowledged step, or of the one that was under way.

mod copies;
mod index;
mod points;
mod repair;
mod script;
mod trees;
mod volumes;
