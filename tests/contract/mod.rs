//! Contracts that several implementations keep to.

pub(crate) mod local_fs;
