//! Replies that wait for those of other connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// A server's end of a pipe that notes, whenever it is written to, how many commands another client has run.
struct Watched {
    stream: DuplexStream,
    other: Arc<Client>,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let commands = this.other.commands.load(Ordering::Relaxed);
        this.seen.lock().push(commands);
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// What the second of two connections that were ready at once had run whenever the first one sent a reply to `request`.
async fn seen_by_replies(host: &Host, request: &[u8], reply: &[u8]) -> Vec<u64> {
    let mut second = Peer::connect(host, 1 << 16);
    let (mut first, stream) = tokio::io::duplex(1 << 16);
    let seen = Arc::<Mutex<Vec<u64>>>::default();
    let served = tokio::spawn(serve(
        Arc::clone(&host.server),
        Watched {
            stream,
            other: Arc::clone(&second.client),
            seen: Arc::clone(&seen),
        },
        host.client().session.client,
        Face::Single,
    ));
    pause().await;
    for _ in 0..3 {
        first
            .write_all(request)
            .await
            .expect("the connection is served");
        second.send(b"PING\r\n").await;
        pause().await;
    }
    let mut replies = vec![0; 3 * reply.len()];
    first
        .read_exact(&mut replies)
        .await
        .expect("they are there");
    assert_eq!(replies, reply.repeat(3));
    drop(first);
    served.await.expect("the connection does not panic");
    assert_eq!(second.rest().await, b"+PONG\r\n+PONG\r\n+PONG\r\n");
    let seen = seen.lock();
    seen.clone()
}

/// Aim: of two connections that are ready at once the first sends when both have run.
#[tokio::test]
async fn replies_go_out_when_all_that_were_ready_have_run() {
    let host = host(&[]);
    let seen = seen_by_replies(&host, b"PING\r\n", b"+PONG\r\n").await;
    assert_eq!(seen, [1, 2, 3]);
}

/// Aim: who has published goes on to publish while subscribers still gather. When its reply waited, a message to 100 subscribers
/// cost a tenth to a quarter more. What nobody is told is a request as any other.
#[tokio::test]
async fn who_has_published_sends_at_once() {
    let cases: [(&[u8], &[u8], _); 4] = [
        (b"PUBLISH channel x\r\n", b":1\r\n", [0, 1, 2]),
        (
            b"EVAL \"return redis.call('PUBLISH', 'channel', 'x')\" 0\r\n",
            b":1\r\n",
            [0, 1, 2],
        ),
        (
            b"MULTI\r\nPUBLISH channel x\r\nEXEC\r\n",
            b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n",
            [0, 1, 2],
        ),
        (b"PUBLISH other x\r\n", b":0\r\n", [1, 2, 3]),
    ];
    for (request, reply, expected) in cases {
        let host = host(&[]);
        let mut subscriber = Peer::connect(&host, 1 << 16);
        let mut company = Peer::connect(&host, 1 << 16);
        subscriber.send(b"SUBSCRIBE channel\r\n").await;
        company.send(b"PING\r\n").await;
        pause().await;
        let seen = seen_by_replies(&host, request, reply).await;
        let request = String::from_utf8_lossy(request);
        assert_eq!(seen, expected, "{request}");
    }
}
