//! The commands, a module each. What they print is made from plain data, so that tests compare text.

pub mod check;
