//! Strangers, wrong secrets, and peers that send what no peer sends: they get nothing and harm nothing.

use bytes::BytesMut;
use quoit::cluster::bus::net::{TcpListener, TcpStream};
use quoit::cluster::bus::{
    CallError, FRAME_MAX, HANDSHAKE_MAX, HANDSHAKE_TIME, Identity, Kind, STRANGERS_MAX, auth, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::peers::{Event, Node, assert_unharmed, identity, links, node_id, proven};
use super::support::seed;

/// Reads until the other side closes; what it sent.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // It may be reset instead, when it is closed before it has read what was sent.
    let _ = stream.read_to_end(&mut all).await;
    all
}

fn forward(payload: &[u8]) -> BytesMut {
    let mut frames = BytesMut::new();
    frame::append(&mut frames, Kind::Forward, 7, |frame| {
        frame.extend_from_slice(payload)
    })
    .expect("it is small");
    frames
}

#[tokio::test]
async fn wrong_identities_are_refused() {
    let node = Node::start(identity(2)).await;
    let wrong = [
        (
            "secret",
            Identity {
                secret: b"secreu".to_vec(),
                ..identity(1)
            },
        ),
        (
            "no secret",
            Identity {
                secret: Vec::new(),
                ..identity(1)
            },
        ),
        (
            "longer secret",
            Identity {
                secret: b"secret\0".to_vec(),
                ..identity(1)
            },
        ),
        (
            "ring",
            Identity {
                ring: "rinh".to_owned(),
                ..identity(1)
            },
        ),
        (
            "version",
            Identity {
                version: 2,
                ..identity(1)
            },
        ),
        (
            "name of the ring too long",
            Identity {
                ring: "r".repeat(2000),
                ..identity(1)
            },
        ),
    ];
    for (what, identity) in wrong {
        let links = links(identity);
        let link = links.link(node_id(2), &node.address, 0);
        assert_eq!(
            link.connected().await,
            Err(CallError::NotConnected),
            "{what}"
        );
        let refused = link.call(Kind::Forward, |_| {}).map(|ticket| ticket.id());
        assert_eq!(refused, Err(CallError::NotConnected), "{what}");
    }
    assert_unharmed(&node).await;
    assert!(node.bus.counters.refused.value() >= 5);
}

#[tokio::test]
async fn who_does_not_know_the_secret_gets_no_byte() {
    let node = Node::start(identity(2)).await;
    for identity in [
        Identity {
            secret: b"guess".to_vec(),
            ..identity(1)
        },
        Identity {
            ring: "other".to_owned(),
            ..identity(1)
        },
    ] {
        let mut stream = TcpStream::connect(&node.address).await.expect("it listens");
        // The stranger's handshake goes through a pipe that shows what came back.
        let (mut near, mut far) = tokio::io::duplex(4096);
        let stranger =
            tokio::spawn(async move { auth::connect(&mut near, &identity).await.is_ok() });
        let mut hello = vec![0; 4];
        far.read_exact(&mut hello).await.expect("a length");
        let length = u32::from_le_bytes([hello[0], hello[1], hello[2], hello[3]]);
        hello.resize(4 + length as usize, 0);
        far.read_exact(&mut hello[4..]).await.expect("a hello");
        stream.write_all(&hello).await.expect("it is open");
        assert_eq!(rest(&mut stream).await, b"");
        drop(far);
        assert!(!stranger.await.expect("no panic"));
    }
    assert_unharmed(&node).await;
}

#[tokio::test]
async fn another_node_at_the_address_gets_no_frame() {
    // Aim: a process that took over an address is not asked what was meant for the one before.
    let node = Node::start(identity(3)).await;
    let links = links(identity(1));
    let link = links.link(node_id(2), &node.address, 0);
    assert_eq!(link.connected().await, Err(CallError::NotConnected));
    assert_eq!(link.peer(), None);
    assert!(link.send(Kind::Forward, |_| {}).is_err());
}

#[tokio::test]
async fn a_recorded_handshake_opens_nothing() {
    let mut node = Node::start(identity(2)).await;
    // Between a peer and the node stands somebody who writes down what the peer sends.
    let between = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let links = links(identity(1));
    let link = links.link(
        node_id(2),
        &between.local_addr().expect("it is bound").to_string(),
        0,
    );
    let (mut peer, _) = between.accept().await.expect("the link connects");
    let mut server = TcpStream::connect(&node.address).await.expect("it listens");
    let mut recorded = Vec::new();
    let ticket = {
        let (mut from_peer, mut to_peer) = peer.split();
        let (mut from_server, mut to_server) = server.split();
        let back = tokio::io::copy(&mut from_server, &mut to_peer);
        let forth = async {
            let mut piece = [0; 1024];
            loop {
                let count = from_peer.read(&mut piece).await.expect("the peer is there");
                recorded.extend_from_slice(&piece[..count]);
                to_server
                    .write_all(&piece[..count])
                    .await
                    .expect("the node is there");
            }
        };
        let talk = async {
            assert_eq!(link.connected().await, Ok(node_id(2)));
            let ticket = link.call(Kind::Forward, |frame| frame.extend_from_slice(b"pay"));
            (ticket.expect("it is connected"), node.frame().await)
        };
        tokio::select! {
            (ticket, got) = talk => {
                assert_eq!(got.payload, b"pay".as_slice());
                ticket
            }
            _ = back => unreachable!("the node keeps the connection"),
            _ = forth => unreachable!("the peer keeps the connection"),
        }
    };
    let mut again = TcpStream::connect(&node.address).await.expect("it listens");
    again.write_all(&recorded).await.expect("it is open");
    // It is told the node's hello, which is about another nonce, and no more; nothing of it reaches the service.
    assert!(rest(&mut again).await.len() <= HANDSHAKE_MAX);
    assert_unharmed(&node).await;
    assert!(matches!(node.event().await, Event::Left(_)));
    drop(ticket);
}

#[tokio::test]
async fn bad_frames_end_the_connection() {
    let mut node = Node::start(identity(2)).await;
    type Spoil = fn(&mut frame::Sealer) -> Vec<u8>;
    fn seal(sealer: &mut frame::Sealer, mut frames: BytesMut) -> Vec<u8> {
        sealer.seal(&mut frames, usize::MAX);
        frames.to_vec()
    }
    let spoils: [(&str, Spoil); 9] = [
        ("repeated", |sealer| seal(sealer, forward(b"one")).repeat(2)),
        ("left out", |sealer| {
            let first = seal(sealer, forward(b"one"));
            seal(sealer, forward(b"lost"));
            [first, seal(sealer, forward(b"three"))].concat()
        }),
        ("flipped in the payload", |sealer| {
            let mut frames =
                [seal(sealer, forward(b"one")), seal(sealer, forward(b"two"))].concat();
            let at = frames.len() - 18;
            frames[at] ^= 1;
            frames
        }),
        ("flipped in the MAC", |sealer| {
            let mut frames =
                [seal(sealer, forward(b"one")), seal(sealer, forward(b"two"))].concat();
            *frames.last_mut().expect("it is not empty") ^= 128;
            frames
        }),
        ("shorter than a frame", |sealer| {
            let mut frames = seal(sealer, forward(b"one"));
            frames.extend_from_slice(&[24, 0, 0, 0]);
            frames
        }),
        ("longer than a frame", |sealer| {
            let mut frames = seal(sealer, forward(b"one"));
            frames.extend_from_slice(&(FRAME_MAX as u32 + 1).to_le_bytes());
            frames
        }),
        ("longer than memory", |sealer| {
            let mut frames = seal(sealer, forward(b"one"));
            frames.extend_from_slice(&[255; 4]);
            frames
        }),
        ("of an unknown kind", |sealer| {
            let first = seal(sealer, forward(b"one"));
            let mut second = forward(b"two");
            second[4] = 77;
            [first, seal(sealer, second)].concat()
        }),
        ("of a kind for the other side", |sealer| {
            let first = seal(sealer, forward(b"one"));
            let mut second = forward(b"two");
            second[4] = Kind::Answer as u8;
            [first, seal(sealer, second)].concat()
        }),
    ];
    for (index, (what, spoil)) in spoils.into_iter().enumerate() {
        let (mut stream, mut session) = proven(&node).await;
        stream
            .write_all(&spoil(&mut session.sealer))
            .await
            .expect("it is open");
        let got = node.frame().await;
        assert_eq!(got.payload, b"one".as_slice(), "{what}");
        assert!(matches!(node.event().await, Event::Left(_)), "{what}");
        assert_eq!(rest(&mut stream).await, b"", "{what}");
        drop(got);
        super::support::eventually("the violation is counted", || {
            (node.bus.counters.violations.value() == index as u64 + 1).then_some(())
        });
    }
    assert_unharmed(&node).await;
}

#[tokio::test]
async fn a_frame_that_is_cut_off_does_nothing() {
    let mut node = Node::start(identity(2)).await;
    let length = forward(b"one").len();
    for cut in [1, 3, 4, 5, 13, 16, length - 16, length - 1] {
        let (mut stream, mut session) = proven(&node).await;
        let mut frames = forward(b"one");
        session.sealer.seal(&mut frames, usize::MAX);
        stream.write_all(&frames[..cut]).await.expect("it is open");
        drop(stream);
        assert!(matches!(node.event().await, Event::Left(_)), "cut at {cut}");
    }
    assert_unharmed(&node).await;
}

#[tokio::test]
async fn random_bytes_harm_nothing() {
    let mut node = Node::start(identity(2)).await;
    let mut rng = fastrand::Rng::with_seed(seed());
    for round in 0..200 {
        let mut noise: Vec<u8> = (0..rng.usize(1..3000)).map(|_| rng.u8(..)).collect();
        if rng.bool() {
            // A length that is believed for a while.
            let length = rng.u32(32..HANDSHAKE_MAX as u32);
            noise.splice(..noise.len().min(4), length.to_le_bytes());
        }
        if round % 2 == 0 {
            let mut stream = TcpStream::connect(&node.address).await.expect("it listens");
            // It may close while this is written.
            let _ = stream.write_all(&noise).await;
            let _ = stream.shutdown().await;
            assert_eq!(rest(&mut stream).await, b"");
        } else {
            let (mut stream, _) = proven(&node).await;
            let _ = stream.write_all(&noise).await;
            let _ = stream.shutdown().await;
            assert_eq!(rest(&mut stream).await, b"");
            assert!(matches!(node.event().await, Event::Left(_)));
        }
    }
    assert_unharmed(&node).await;
}

#[tokio::test]
async fn a_link_survives_a_peer_that_sends_noise() {
    // As above, but the peer is the accepting side.
    let mut rng = fastrand::Rng::with_seed(seed());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let links = links(identity(1));
    let link = links.link(node_id(2), &address, 0);
    for round in 0..12 {
        let (mut stream, _) = listener.accept().await.expect("the link connects");
        let noise: Vec<u8> = (0..rng.usize(1..3000)).map(|_| rng.u8(..)).collect();
        let mut ticket = None;
        if round % 2 == 0 {
            auth::accept(&mut stream, &identity(2))
                .await
                .expect("it knows the secret");
            while link.peer().is_none() {
                tokio::task::yield_now().await;
            }
            ticket = Some(link.call(Kind::Forward, |_| {}).expect("it is connected"));
        }
        let _ = stream.write_all(&noise).await;
        let _ = stream.shutdown().await;
        rest(&mut stream).await;
        if let Some(ticket) = ticket {
            assert_eq!(ticket.await, Err(CallError::Broken));
        }
    }
    drop(listener);
    let _node = Node::start_at(identity(2), &address).await;
    while link.connected().await.is_err() {}
    let echoed = link.call(Kind::Forward, |frame| frame.extend_from_slice(b"echo"));
    assert_eq!(
        echoed.expect("it is connected").await.as_deref(),
        Ok(b"echo".as_slice())
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_handshake_ends() {
    let node = Node::start(identity(2)).await;
    let began = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(&node.address).await.expect("it listens");
    stream.write_all(&[100, 0]).await.expect("it is open");
    assert_eq!(rest(&mut stream).await, b"");
    let took = began.elapsed();
    assert!(
        took >= HANDSHAKE_TIME && took < 2 * HANDSHAKE_TIME,
        "{took:?}"
    );
}

#[tokio::test]
async fn strangers_do_not_keep_peers_out() {
    let node = Node::start(identity(2)).await;
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS_MAX + 10 {
        strangers.push(TcpStream::connect(&node.address).await.expect("it listens"));
    }
    // The ten oldest go, and the eleventh when the peer comes.
    assert_unharmed(&node).await;
    for stranger in &mut strangers[..11] {
        assert_eq!(rest(stranger).await, b"");
    }
    assert_eq!(node.bus.counters.refused.value(), 11);
    for stranger in &strangers[11..] {
        let mut byte = [0];
        let still = stranger.try_read(&mut byte);
        assert_eq!(
            still.map_err(|error| error.kind()),
            Err(std::io::ErrorKind::WouldBlock)
        );
    }
}
