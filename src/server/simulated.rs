//! Whole servers on the hosts of a simulated network (turmoil), for tests of rings: feature `simulation`, never for a server.
//!
//! Everything is as in a server of its own but what belongs to the process: clients and peers come by the simulated network,
//! the file of the ring is in memory that outlives the node, the clock is moved by the simulation, and chance is the
//! calling thread's, which a simulation seeds.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::listener::{self, ListenError};
use super::ring::Ring;
use super::{Running, StartError, background};
use crate::base::clock::Clock;
use crate::cluster::agree::disk::{Memory, Place};
use crate::cluster::bus::net::TcpListener;
use crate::config::{ClusterFace, Config};
use crate::dispatch::{self, Face};
use crate::state::Server;

/// Starts a node in tasks of the current host. It listens at the parameters' `port`, which must not be 0, with the bus beside
/// it; `cluster-announce-ip` has to name the host, and seeds are addresses. `kept` is what it has on its disk.
pub async fn start(config: Config, clock: Clock, kept: Memory) -> Result<Running, StartError> {
    let commands = dispatch::renamed_directory(&config.settings().rename_command)
        .map_err(StartError::Rename)?;
    let server = Server::new(config, clock, commands, 1);
    let settings = server.config.settings();
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.port));
    let listener = TcpListener::bind(address).await.map_err(|source| {
        let place = address.to_string();
        StartError::Listen(ListenError { place, source })
    })?;
    server.tcp_port.store(settings.port, Ordering::Relaxed);
    let face = match settings.cluster_face {
        ClusterFace::Cluster => Face::Cluster,
        ClusterFace::Single => Face::Single,
    };
    let ring = Ring::start(&server, settings.port, 1, Place::Memory(kept)).await;
    server.shutdown.hands_over.store(true, Ordering::Release);
    let ring = Some(ring.map_err(StartError::Ring)?);
    drop(settings);
    let accepting = vec![tokio::spawn(accept(Arc::clone(&server), listener, face))];
    let background = tokio::spawn(background::run(Arc::clone(&server)));
    Ok(Running {
        server,
        bound: Vec::new(),
        ring,
        accepting,
        background,
    })
}

async fn accept(server: Arc<Server>, listener: TcpListener, face: Face) {
    while let Ok((stream, peer)) = listener.accept().await {
        let local = stream.local_addr().unwrap_or(peer);
        listener::admit_simulated(&server, stream, [local, peer], face);
    }
}
