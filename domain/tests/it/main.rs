//! The domain from outside.

mod golden;
