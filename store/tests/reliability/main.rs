//! What the store promises where disks, machines and files do not: after faults in each change
//! that a mutation makes ([`faults`]), on stores that are damaged in each way ([`damage`]), and with
//! the files that earlier versions wrote ([`format`]).

mod bench;
mod damage;
mod faults;
mod format;
mod state;
