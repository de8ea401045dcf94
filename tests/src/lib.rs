//! What the project's tests stand on: a chat that runs in the test's own process, clients that tell a story, the real
//! command line as a process, a judge of every frame that crosses the wire, and the load driver of the benchmark.

pub mod load;
pub mod process;
