//! The cluster bus: calls and answers between two nodes, links that break, and what strangers may do, over sockets; with the
//! feature `simulation`, networks that fail, over turmoil's.

#[path = "../support/mod.rs"]
mod support;

#[cfg(not(feature = "simulation"))]
mod calls;
#[cfg(not(feature = "simulation"))]
mod hostile;
mod peers;
#[cfg(feature = "simulation")]
mod simulated;
#[cfg(not(feature = "simulation"))]
mod storm;
