//! The handshake: both sides prove that they know the secret of the ring, and get keys for what follows.
//!
//! ```text
//!     1. connector -> acceptor   hello: nonce, ring, id, version    HMAC(secret, "hello"  | 1)
//!     2. acceptor -> connector   hello: nonce, ring, id, version    HMAC(secret, "accept" | 1 | 2)
//!     3. connector -> acceptor   nothing                            HMAC(secret, "finish" | 1 | 2)
//!        keys                    HMAC(secret, "key to acceptor" | 1 | 2), HMAC(secret, "key to connector" | 1 | 2)
//! ```
//!
//! Each message is `u32 length | body | 32 bytes HMAC`; what is hashed has the length of each part before it. The acceptor answers
//! only to a right first message: who does not know the secret gets no byte. A first message that was recorded and is sent again
//! gets the second, which helps nobody: it is about a new nonce, and the third cannot be made. Bodies are looked into after their
//! HMAC was found right, so that strangers' bytes reach no decoder.
//!
//! A node that takes part in two rings with one secret is refused by the ring's name, one with other messages by its version. A
//! node may connect to itself: that is how it finds itself among the seeds.

use std::fmt;
use std::io;
use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::{Key, Opener, Sealer, Violation};
use super::{HANDSHAKE_MAX, Identity};
use crate::cluster::node::NodeId;

const TAG: usize = 32;

/// Goes into every proof: a node with another form of handshake or frames knows no right one.
const FORMAT: &[u8] = b"quoit cluster bus 1";

/// A connection whose other side has proven itself.
#[derive(Debug)]
pub struct Session {
    /// The other side.
    pub peer: NodeId,
    /// For what is sent.
    pub sealer: Sealer,
    /// For what comes.
    pub opener: Opener,
}

/// Why a connection was not made, or ended.
#[derive(Debug)]
pub enum Refused {
    /// The network said so. At the end of a stream: the other side closed it.
    Io(io::Error),
    /// Longer than [`HANDSHAKE_MAX`], or not to be decoded.
    Malformed,
    /// The proof is wrong: another secret, or another format of the handshake.
    Secret,
    /// It belongs to another ring.
    Ring(String),
    /// It speaks another version.
    Version(u32),
    /// It is not the node that was to be here.
    Node(NodeId),
    /// It is not on this machine, and there is no secret.
    NotLoopback,
    /// It took too long.
    TimedOut,
    /// Too many others.
    TooMany,
    /// Nothing came any more.
    Silent,
    /// A bad frame after the handshake.
    Violation(Violation),
    /// It does not read what it asked for.
    Slow,
    /// This side closed it.
    Closed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the other side closed the connection")
            }
            Refused::Io(error) => write!(f, "{error}"),
            Refused::Malformed => f.write_str("no handshake of a cluster bus"),
            Refused::Secret => f.write_str("wrong cluster-secret"),
            Refused::Ring(ring) => write!(f, "a node of another ring, {ring:?}"),
            Refused::Version(version) => write!(f, "a node that speaks version {version}"),
            Refused::Node(id) => write!(f, "another node than expected, {id}"),
            Refused::NotLoopback => {
                f.write_str("without cluster-secret only loopback peers are accepted")
            }
            Refused::TimedOut => f.write_str("no handshake in time"),
            Refused::TooMany => f.write_str("too many connections"),
            Refused::Silent => f.write_str("nothing came any more"),
            Refused::Violation(violation) => write!(f, "a bad frame ({violation:?})"),
            Refused::Slow => f.write_str("it does not read its answers"),
            Refused::Closed => f.write_str("closed"),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::Io(error)
    }
}

impl From<Violation> for Refused {
    fn from(violation: Violation) -> Refused {
        Refused::Violation(violation)
    }
}

/// Whether a peer at this address may be spoken with at all.
pub fn may_speak(identity: &Identity, peer: IpAddr) -> bool {
    // A loopback address of IPv4 may come as one of IPv6 that stands for it.
    !identity.secret.is_empty() || peer.to_canonical().is_loopback()
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    nonce: [u8; 32],
    ring: String,
    id: NodeId,
    version: u32,
}

/// The side that made the connection. When it returns, the acceptor has proven itself; whether it accepts this side shows with
/// the first answer. Reads no byte beyond the handshake. The caller limits the time.
pub async fn connect<S>(stream: &mut S, identity: &Identity) -> Result<Session, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = hello(identity)?;
    send(stream, &first, &tag(identity, "hello", &[&first])).await?;
    let (second, proof) = receive(stream).await?;
    verify(identity, "accept", &[&first, &second], &proof)?;
    let peer = read_hello(identity, &second)?;
    send(stream, &[], &tag(identity, "finish", &[&first, &second])).await?;
    let (to_acceptor, to_connector) = keys(identity, &first, &second);
    Ok(Session {
        peer,
        sealer: Sealer::new(to_acceptor),
        opener: Opener::new(to_connector),
    })
}

/// The side that accepted the connection. Sends nothing unless the other side knows the secret and means this ring. Reads no byte
/// beyond the handshake. The caller limits the time.
pub async fn accept<S>(stream: &mut S, identity: &Identity) -> Result<Session, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (first, proof) = receive(stream).await?;
    verify(identity, "hello", &[&first], &proof)?;
    let hello_of_peer: Hello = postcard::from_bytes(&first).map_err(|_| Refused::Malformed)?;
    if hello_of_peer.ring != identity.ring {
        return Err(Refused::Ring(hello_of_peer.ring));
    }
    let second = hello(identity)?;
    send(
        stream,
        &second,
        &tag(identity, "accept", &[&first, &second]),
    )
    .await?;
    // After the answer, so that the other side can tell its people why.
    let peer = read_hello(identity, &first)?;
    let (third, proof) = receive(stream).await?;
    verify(identity, "finish", &[&first, &second], &proof)?;
    if !third.is_empty() {
        return Err(Refused::Malformed);
    }
    let (to_acceptor, to_connector) = keys(identity, &first, &second);
    Ok(Session {
        peer,
        sealer: Sealer::new(to_connector),
        opener: Opener::new(to_acceptor),
    })
}

fn hello(identity: &Identity) -> Result<Vec<u8>, Refused> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| Refused::Io(io::Error::other(error)))?;
    let hello = Hello {
        nonce,
        ring: identity.ring.clone(),
        id: identity.id,
        version: identity.version,
    };
    postcard::to_stdvec(&hello).map_err(|_| Refused::Malformed)
}

fn read_hello(identity: &Identity, body: &[u8]) -> Result<NodeId, Refused> {
    let hello: Hello = postcard::from_bytes(body).map_err(|_| Refused::Malformed)?;
    if hello.ring != identity.ring {
        return Err(Refused::Ring(hello.ring));
    }
    if hello.version != identity.version {
        return Err(Refused::Version(hello.version));
    }
    Ok(hello.id)
}

async fn send<S>(stream: &mut S, body: &[u8], proof: &[u8; TAG]) -> Result<(), Refused>
where
    S: AsyncWrite + Unpin,
{
    let length = body.len() + TAG;
    if length > HANDSHAKE_MAX {
        // The ring's name is too long.
        return Err(Refused::Malformed);
    }
    let mut message = Vec::with_capacity(4 + length);
    message.extend_from_slice(&(length as u32).to_le_bytes());
    message.extend_from_slice(body);
    message.extend_from_slice(proof);
    stream.write_all(&message).await?;
    Ok(())
}

async fn receive<S>(stream: &mut S) -> Result<(Vec<u8>, [u8; TAG]), Refused>
where
    S: AsyncRead + Unpin,
{
    let length = stream.read_u32_le().await? as usize;
    if !(TAG..=HANDSHAKE_MAX).contains(&length) {
        return Err(Refused::Malformed);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let mut proof = [0; TAG];
    proof.copy_from_slice(&body[length - TAG..]);
    body.truncate(length - TAG);
    Ok((body, proof))
}

fn hmac(identity: &Identity, label: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
    // Hashed first: HMAC itself takes a secret and the same with zeros behind it for one.
    let key = Sha256::digest(&identity.secret);
    let mut hmac = Hmac::new_from_slice(&key).expect("HMAC takes keys of any length");
    for part in [FORMAT, label.as_bytes()].iter().chain(parts) {
        hmac.update(&(part.len() as u64).to_le_bytes());
        hmac.update(part);
    }
    hmac
}

fn tag(identity: &Identity, label: &str, parts: &[&[u8]]) -> [u8; TAG] {
    hmac(identity, label, parts).finalize().into_bytes().into()
}

/// In a time that does not tell how much of the proof is right.
fn verify(
    identity: &Identity,
    label: &str,
    parts: &[&[u8]],
    proof: &[u8; TAG],
) -> Result<(), Refused> {
    hmac(identity, label, parts)
        .verify_slice(proof)
        .map_err(|_| Refused::Secret)
}

/// To the acceptor, and to the connector.
fn keys(identity: &Identity, first: &[u8], second: &[u8]) -> (Key, Key) {
    let key = |label| {
        let whole = tag(identity, label, &[first, second]);
        let mut key = Key::default();
        key.copy_from_slice(&whole[..16]);
        key
    };
    (key("key to acceptor"), key("key to connector"))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::duplex;

    use super::*;
    use crate::cluster::bus::Kind;
    use crate::cluster::bus::frame;

    fn identity(number: u8, secret: &[u8]) -> Identity {
        Identity {
            id: NodeId([number; 20]),
            ring: "ring".to_owned(),
            secret: secret.to_vec(),
            version: 1,
        }
    }

    async fn meet(one: &Identity, other: &Identity) -> [Result<Session, Refused>; 2] {
        let (mut near, mut far) = duplex(4096);
        // Each end is dropped when it is done, as a socket would be.
        let (connected, accepted) = tokio::join!(
            async move {
                let session = connect(&mut near, one).await;
                drop(near);
                session
            },
            async move {
                let session = accept(&mut far, other).await;
                drop(far);
                session
            },
        );
        [connected, accepted]
    }

    fn sent(sealer: &mut Sealer) -> BytesMut {
        let mut frames = BytesMut::new();
        frame::append(&mut frames, Kind::Ask, 1, |_| {}).expect("it is empty");
        sealer.seal(&mut frames, usize::MAX);
        frames
    }

    #[tokio::test]
    async fn two_who_know_the_secret_meet() {
        for secret in [b"".as_slice(), b"secret", &[0; 1000]] {
            let (one, other) = (identity(1, secret), identity(2, secret));
            let [Ok(mut near), Ok(mut far)] = meet(&one, &other).await else {
                panic!("they know the secret");
            };
            assert_eq!((near.peer, far.peer), (other.id, one.id));
            let there = sent(&mut near.sealer);
            assert!(matches!(far.opener.next(&mut there.clone()), Ok(Some(_))));
            // What was sent in one direction is nothing in the other.
            assert_eq!(near.opener.next(&mut there.clone()), Err(Violation::Mac));
            let back = sent(&mut far.sealer);
            assert!(matches!(near.opener.next(&mut back.clone()), Ok(Some(_))));
        }
    }

    #[tokio::test]
    async fn no_two_connections_have_the_same_keys() {
        let (one, other) = (identity(1, b"secret"), identity(2, b"secret"));
        let [Ok(mut first), Ok(_)] = meet(&one, &other).await else {
            panic!("they know the secret");
        };
        let [Ok(_), Ok(mut second)] = meet(&one, &other).await else {
            panic!("they know the secret");
        };
        let refused = second.opener.next(&mut sent(&mut first.sealer));
        assert_eq!(refused, Err(Violation::Mac));
    }

    #[tokio::test]
    async fn each_difference_is_told_from_the_others() {
        let here = identity(1, b"secret");
        let refused = meet(&identity(2, b"other"), &here).await;
        assert!(matches!(
            refused,
            [Err(Refused::Io(_)), Err(Refused::Secret)]
        ));
        // To HMAC itself these two are one key.
        let refused = meet(&identity(2, b"secret\0"), &here).await;
        assert!(matches!(
            refused,
            [Err(Refused::Io(_)), Err(Refused::Secret)]
        ));
        let other = Identity {
            ring: "other".to_owned(),
            ..identity(2, b"secret")
        };
        let refused = meet(&other, &here).await;
        assert!(
            matches!(&refused, [Err(Refused::Io(_)), Err(Refused::Ring(ring))] if ring == "other")
        );
        let newer = Identity {
            version: 2,
            ..identity(2, b"secret")
        };
        let refused = meet(&newer, &here).await;
        assert!(matches!(
            refused,
            [Err(Refused::Version(1)), Err(Refused::Version(2))]
        ));
    }

    #[tokio::test]
    async fn what_one_side_said_is_no_proof_of_the_other() {
        // Aim: a stranger who sends back to a connector what that sent is refused.
        let here = identity(1, b"secret");
        let (mut near, mut far) = duplex(4096);
        let mirror = async {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = far.read(&mut piece).await {
                if far.write_all(&piece[..count]).await.is_err() {
                    break;
                }
            }
        };
        let refused = tokio::select! {
            refused = connect(&mut near, &here) => refused,
            () = mirror => panic!("the connector goes first"),
        };
        assert!(matches!(refused, Err(Refused::Secret)));
    }

    #[tokio::test]
    async fn messages_are_bounded() {
        let here = identity(1, b"secret");
        for length in [0, TAG as u32 - 1, HANDSHAKE_MAX as u32 + 1, u32::MAX] {
            let (mut near, mut far) = duplex(4096);
            near.write_all(&length.to_le_bytes())
                .await
                .expect("there is room");
            // Refused for its length: nothing more is waited for.
            assert!(matches!(
                accept(&mut far, &here).await,
                Err(Refused::Malformed)
            ));
        }
        let long = Identity {
            ring: "r".repeat(HANDSHAKE_MAX),
            ..here.clone()
        };
        let refused = meet(&long, &long).await;
        assert!(matches!(
            refused,
            [Err(Refused::Malformed), Err(Refused::Io(_))]
        ));
        let longest = Identity {
            ring: "r".repeat(255),
            ..here
        };
        assert!(matches!(meet(&longest, &longest).await, [Ok(_), Ok(_)]));
    }

    #[test]
    fn without_a_secret_only_loopback_is_spoken_with() {
        let peers = [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("192.168.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("fe80::1", false),
        ];
        for (peer, is_loopback) in peers {
            let peer = peer.parse().expect("an address");
            assert_eq!(may_speak(&identity(1, b""), peer), is_loopback, "{peer}");
            assert!(may_speak(&identity(1, b"secret"), peer), "{peer}");
        }
    }
}
