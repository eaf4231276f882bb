//! Listening sockets: bound with their final mode, accepting whatever happens.

use std::fmt;
use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs,
};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::connection::{self, Stream};
use crate::config::{BindAddress, ClusterFace, Settings};
use crate::dispatch::{Face, error_bytes};
use crate::state::Server;
use crate::state::clients::Client;

/// How long an acceptor rests after an error that would come again at once (no descriptors left).
const REST: Duration = Duration::from_millis(50);

/// Why a server could not listen.
#[derive(Debug)]
pub struct ListenError {
    pub(super) place: String,
    pub(super) source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot listen on {}: {}; is another server running there, and may this user listen there?",
            self.place, self.source
        )
    }
}

impl std::error::Error for ListenError {}

/// A bound socket. A unix socket's file is removed when it goes.
pub enum Bound {
    /// TCP, and what clients see there.
    Tcp(Arc<TcpListener>, Face),
    /// A unix socket and its file.
    Unix(Arc<UnixListener>, SocketFile),
}

/// The file of a unix socket.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already; there is nobody left to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What an acceptor works on.
pub enum Acceptor {
    /// TCP, and what clients see there.
    Tcp(Arc<TcpListener>, Face),
    /// Unix, with the path that clients are listed under.
    Unix(Arc<UnixListener>, PathBuf),
}

impl Bound {
    /// The port of a TCP socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Bound::Tcp(listener, _) => listener.local_addr().ok().map(|addr| addr.port()),
            Bound::Unix(..) => None,
        }
    }

    /// What accepts on it.
    pub fn socket(&self) -> Acceptor {
        match self {
            Bound::Tcp(listener, face) => Acceptor::Tcp(Arc::clone(listener), *face),
            Bound::Unix(listener, file) => Acceptor::Unix(Arc::clone(listener), file.0.clone()),
        }
    }
}

/// Binds all sockets that the parameters name. An address marked optional (`-::1`) may be missing on this machine.
pub fn bind(server: &Server) -> Result<Vec<Bound>, ListenError> {
    let settings = server.config.settings();
    let mut bound = Vec::new();
    // Port 0 asks for any free port in tests and embedding only when no unix socket is given; as in Redis it means no TCP
    // otherwise.
    if settings.port != 0 || settings.unixsocket.is_none() {
        let face = match settings.cluster_face {
            ClusterFace::Cluster if settings.cluster_enabled => Face::Cluster,
            _ => Face::Single,
        };
        bind_port(&settings, settings.port, face, &mut bound)?;
    }
    if settings.cluster_enabled && settings.cluster_port != 0 {
        bind_port(&settings, settings.cluster_port, Face::Cluster, &mut bound)?;
    }
    if let Some(path) = &settings.unixsocket {
        let listener =
            bind_unix(path, settings.unixsocketperm, settings.tcp_backlog).map_err(|source| {
                ListenError {
                    place: path.display().to_string(),
                    source,
                }
            })?;
        bound.push(Bound::Unix(Arc::new(listener), SocketFile(path.clone())));
    }
    if bound.is_empty() {
        let source = io::Error::from(io::ErrorKind::AddrNotAvailable);
        return Err(ListenError {
            place: "any address (none is available on this machine)".to_owned(),
            source,
        });
    }
    Ok(bound)
}

/// Binds a port on all addresses.
fn bind_port(
    settings: &Settings,
    mut port: u16,
    face: Face,
    bound: &mut Vec<Bound>,
) -> Result<(), ListenError> {
    for address in &settings.bind {
        match bind_tcp(address, port, settings.tcp_backlog, settings.socket_mark_id) {
            Ok(listeners) => {
                for listener in listeners {
                    port = if port == 0 {
                        listener.local_addr().map_or(0, |addr| addr.port())
                    } else {
                        port
                    };
                    bound.push(Bound::Tcp(Arc::new(listener), face));
                }
            }
            Err(source) if address.optional && is_missing(&source) => {
                tracing::info!(address = %address.host, error = %source, "not listening on an optional address");
            }
            Err(source) => {
                return Err(ListenError {
                    place: format!("{}:{port}", address.host),
                    source,
                });
            }
        }
    }
    Ok(())
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bind_tcp(
    address: &BindAddress,
    port: u16,
    backlog: u32,
    mark: u32,
) -> io::Result<Vec<TcpListener>> {
    let addresses: Vec<SocketAddr> = match address.host.as_str() {
        "*" => vec![(Ipv4Addr::UNSPECIFIED, port).into()],
        "::*" => vec![(Ipv6Addr::UNSPECIFIED, port).into()],
        host => match host.parse::<IpAddr>() {
            Ok(ip) => vec![(ip, port).into()],
            Err(_) => (host, port).to_socket_addrs()?.collect(),
        },
    };
    addresses
        .into_iter()
        .map(|addr| listen_tcp(addr, backlog, mark))
        .collect()
}

fn listen_tcp(addr: SocketAddr, backlog: u32, mark: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if mark != 0 {
        set_mark(&socket, mark)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog as i32)?;
    TcpListener::from_std(StdTcpListener::from(socket))
}

#[cfg(target_os = "linux")]
fn set_mark(socket: &Socket, mark: u32) -> io::Result<()> {
    socket.set_mark(mark)
}

/// Only Linux marks sockets.
#[cfg(not(target_os = "linux"))]
fn set_mark(_: &Socket, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Binds a unix socket whose file has its mode from the first moment: bound under a umask that leaves only that mode
/// (CVE-2023-45145 was a change of mode after the fact). Mode 0 leaves it to the process's own umask.
fn bind_unix(path: &Path, mode: u32, backlog: u32) -> io::Result<UnixListener> {
    // Redis removes what stands there; we only remove a socket, so that a mistyped path costs no file.
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt;
        if meta.file_type().is_socket() {
            std::fs::remove_file(path)?;
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let own = (mode != 0)
        .then(|| rustix::process::umask(rustix::fs::Mode::from_bits_truncate(!mode & 0o777)));
    let done = socket.bind(&SockAddr::unix(path)?);
    if let Some(own) = own {
        rustix::process::umask(own);
    }
    done?;
    socket.listen(backlog as i32)?;
    UnixListener::from_std(StdUnixListener::from(socket))
}

/// Accepts for ever. Errors of one connection are that connection's; when descriptors run out it rests and goes on.
pub async fn accept(server: Arc<Server>, acceptor: Acceptor) {
    loop {
        let accepted = match &acceptor {
            Acceptor::Tcp(listener, face) => listener
                .accept()
                .await
                .map(|(stream, peer)| admit_tcp(&server, stream, peer, *face)),
            Acceptor::Unix(listener, path) => listener
                .accept()
                .await
                .map(|(stream, _)| admit_unix(&server, stream, path)),
        };
        if let Err(error) = accepted {
            let passing = matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::Interrupted
            );
            if !passing {
                tracing::warn!(%error, "cannot accept connections at the moment; raise the open-file limit or lower maxclients");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn admit_tcp(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr, face: Face) {
    let settings = server.config.settings();
    // A peer that is already gone shows in the first read.
    let _ = stream.set_nodelay(true);
    if !settings.tcp_keepalive.is_zero() {
        let keepalive = TcpKeepalive::new()
            .with_time(settings.tcp_keepalive)
            .with_interval((settings.tcp_keepalive / 3).max(Duration::from_secs(1)))
            .with_retries(3);
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    }
    let local = stream
        .local_addr()
        .map_or_else(|_| "?:0".to_owned(), printed);
    let ip = peer.ip().to_canonical();
    let protected = settings.protected_mode && settings.requirepass.is_none() && !ip.is_loopback();
    let client = client(
        server,
        printed(SocketAddr::new(ip, peer.port())),
        local,
        stream.as_raw_fd(),
        false,
    );
    admit(server, stream, client, protected, face);
}

/// Admits a connection that did not come by a socket of the system, as one of `face`.
#[cfg(feature = "simulation")]
pub(super) fn admit_simulated<S: Stream>(
    server: &Arc<Server>,
    stream: S,
    [local, peer]: [SocketAddr; 2],
    face: Face,
) {
    let client = client(server, printed(peer), printed(local), -1, false);
    admit(server, stream, client, false, face);
}

fn printed(addr: SocketAddr) -> String {
    addr.to_string()
}

fn admit_unix(server: &Arc<Server>, stream: UnixStream, path: &Path) {
    let addr = format!("{}:0", path.display());
    let client = client(server, addr.clone(), addr, stream.as_raw_fd(), true);
    admit(server, stream, client, false, Face::Single);
}

fn client(server: &Server, addr: String, laddr: String, fd: i32, is_unix: bool) -> Arc<Client> {
    Arc::new(Client::new(
        server.clients.next_id(),
        addr,
        laddr,
        fd,
        is_unix,
        server.clock.now(),
    ))
}

fn admit<S: Stream>(
    server: &Arc<Server>,
    stream: S,
    client: Arc<Client>,
    protected: bool,
    face: Face,
) {
    server.stats.connections.add(1);
    if !server.clients.add(
        Arc::clone(&client),
        server.config.settings().maxclients as usize,
    ) {
        server.stats.rejected_connections.add(1);
        tokio::spawn(turn_away(stream, "ERR max number of clients reached"));
        return;
    }
    if protected {
        server.clients.remove(client.id);
        server.stats.rejected_connections.add(1);
        tokio::spawn(turn_away(stream, PROTECTED_MODE));
        return;
    }
    tokio::spawn(connection::serve(Arc::clone(server), stream, client, face));
}

/// Says why and closes. Bounded in time: a peer that does not read must not keep the descriptor.
async fn turn_away<S: Stream>(mut stream: S, text: &'static str) {
    let said = async {
        stream.write_all(&error_bytes(text)).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), said).await;
}

/// Redis's text: clients and operators know it.
const PROTECTED_MODE: &str = "DENIED Redis is running in protected mode because protected mode is enabled and no password \
is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to \
connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode \
sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host \
the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE \
to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis \
configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the \
server manually just for testing, restart it with the '--protected-mode no' option. 4) Set up an authentication password \
for the default user. NOTE: You only need to do one of the above things in order for the server to start accepting \
connections from the outside.";
