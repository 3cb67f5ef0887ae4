//! Tests of the planner, on specs written by hand and on the shared request sets.

mod fixtures;
mod model;
mod offline;
mod parts;
mod restbench;
