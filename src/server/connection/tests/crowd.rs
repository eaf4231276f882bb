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

/// Aim: of two connections that are ready at once the first sends when both have run.
#[tokio::test]
async fn replies_go_out_when_all_that_were_ready_have_run() {
    let host = host(&[]);
    let mut second = Peer::connect(&host, 1 << 16);
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
            .write_all(b"PING\r\n")
            .await
            .expect("the connection is served");
        second.send(b"PING\r\n").await;
        pause().await;
    }
    assert_eq!(*seen.lock(), [1, 2, 3]);
    let mut replies = [0; 21];
    first
        .read_exact(&mut replies)
        .await
        .expect("they are there");
    assert_eq!(&replies, b"+PONG\r\n+PONG\r\n+PONG\r\n");
    drop(first);
    served.await.expect("the connection does not panic");
    assert_eq!(second.rest().await, b"+PONG\r\n+PONG\r\n+PONG\r\n");
}
