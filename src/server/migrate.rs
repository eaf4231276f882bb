//! Sends keys to another server: the part of MIGRATE that waits. See `commands::migrate`.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::base::clock::Clock;
use crate::base::hash::KeyHasher;
use crate::base::worker::give_worker_away;
use crate::commands::migrate::{Arrived, Migration};
use crate::resp::frame::{self, Frame};
use crate::resp::reply::Protocol;
use crate::table::CommandError;

/// The other server could not be reached in time.
const CONNECTING: CommandError =
    CommandError::fixed("IOERR error or timeout connecting to the client");
/// It is not there, or takes nothing.
const WRITING: CommandError =
    CommandError::fixed("IOERR error or timeout writing to target instance");
/// It left, says nothing, or something that is no reply.
const READING: CommandError =
    CommandError::fixed("IOERR error or timeout reading to target instance");
/// What has to be written within the timeout: the time for a large value grows with it.
const PIECE_BYTES: usize = 64 * 1024;
/// The longest reply: these are one line each.
const MOST_REPLY: usize = 64 * 1024;

/// Sends the keys and reads the replies. Nothing is locked meanwhile.
pub async fn send(migration: &Migration, clock: &Clock, hasher: &KeyHasher) -> Arrived {
    let mut arrived = Arrived::default();
    let sent = match connect(migration).await {
        Ok(stream) => {
            let mut link = Link {
                stream,
                input: BytesMut::new(),
                timeout: migration.timeout,
            };
            link.exchange(migration, clock, hasher, &mut arrived).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        arrived.error = Some(error);
    }
    arrived
}

async fn connect(migration: &Migration) -> Result<TcpStream, CommandError> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let host = text(&migration.host).ok_or(CONNECTING)?;
    // What is no port becomes 0, where nobody listens: the name is looked up first, as in Redis.
    let port = text(&migration.port).and_then(|port| port.parse::<u16>().ok());
    let port = port.unwrap_or(0);
    let reach = async {
        let addresses = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<_> = addresses.map_err(|_| CONNECTING)?.collect();
        if port == 0 {
            return Err(WRITING);
        }
        TcpStream::connect(&addresses[..])
            .await
            .map_err(|_| WRITING)
    };
    let stream = tokio::time::timeout(migration.timeout, reach).await;
    let stream = stream.map_err(|_| CONNECTING)??;
    // Requests are written whole; an error here is one that the write will meet.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

struct Link {
    stream: TcpStream,
    /// What was read and belongs to later replies.
    input: BytesMut,
    timeout: Duration,
}

impl Link {
    async fn exchange(
        &mut self,
        migration: &Migration,
        clock: &Clock,
        hasher: &KeyHasher,
        arrived: &mut Arrived,
    ) -> Result<(), CommandError> {
        // Not together with the keys: refused, it would leave them in another database than the one asked for.
        for request in &migration.greeting {
            self.write(request).await?;
            self.reply().await??;
        }
        let mut sent = Vec::new();
        for (number, moving) in migration.keys.iter().enumerate() {
            let request = give_worker_away(|| migration.restore(moving, clock.now(), hasher));
            if let Some(request) = request {
                self.write(&request).await?;
                sent.push(number);
            }
        }
        for number in sent {
            match self.reply().await? {
                Ok(()) => arrived.keys.push(number),
                Err(error) => arrived.error = Some(arrived.error.take().unwrap_or(error)),
            }
        }
        Ok(())
    }

    async fn write(&mut self, request: &[u8]) -> Result<(), CommandError> {
        for piece in request.chunks(PIECE_BYTES) {
            let written = tokio::time::timeout(self.timeout, self.stream.write_all(piece)).await;
            written.map_err(|_| WRITING)?.map_err(|_| WRITING)?;
        }
        Ok(())
    }

    /// The next reply: whether it is an error, in Redis's words.
    async fn reply(&mut self) -> Result<Result<(), CommandError>, CommandError> {
        loop {
            match frame::decode(&self.input, Protocol::Resp2) {
                Ok(Some((frame, length))) => {
                    bytes::Buf::advance(&mut self.input, length);
                    return match frame {
                        Frame::Simple(_) => Ok(Ok(())),
                        Frame::Error(text) => Ok(Err(refused(&text))),
                        _ => Err(READING),
                    };
                }
                Ok(None) if self.input.len() < MOST_REPLY => {}
                Ok(None) | Err(_) => return Err(READING),
            }
            let read = self.stream.read_buf(&mut self.input);
            let read = tokio::time::timeout(self.timeout, read).await;
            match read {
                Ok(Ok(1..)) => {}
                _ => return Err(READING),
            }
        }
    }
}

/// What the other server said, told to the client.
fn refused(text: &[u8]) -> CommandError {
    CommandError::quoting("Target instance replied with error: ", text, "")
}
