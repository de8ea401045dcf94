//! The real binary, run as a user or a script runs it.

#[cfg(test)]
mod local_cloud;
#[cfg(test)]
mod support;
#[cfg(test)]
mod usage;
