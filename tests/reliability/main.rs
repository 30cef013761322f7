//! `pocker serve` where disks fill up, calls fail, processes die, and others are there already:
//! what a command reported is so afterwards, what it did not report is not half there.

mod copies;
mod damage;
mod faults;
mod kills;
mod race;
#[path = "../support/mod.rs"]
mod support;
mod world;
