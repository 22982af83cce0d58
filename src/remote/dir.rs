//! A plain directory as a remote.
