//! The commands of `hedgerow`, one file for each command.

pub mod account;
pub mod audit;
pub mod build;
pub mod calibrate;
pub mod check;
pub mod clusters;
pub mod convert;
pub mod decisions;
pub mod diff;
pub mod docs;
pub mod evaluate;
pub mod explain;
pub mod indicators;
pub mod keygen;
pub mod policy;
pub mod push;
pub mod release;
pub mod replay;
pub mod score;
pub mod seeds;
pub mod simulate;
pub mod status;
pub mod stop;
pub mod tail;
pub mod test;
pub mod vendor;
