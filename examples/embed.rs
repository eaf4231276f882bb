//! A server inside your own process, on a free port, and one request to it: `cargo run --example embed`.

use std::error::Error;

use quoit::base::clock::Clock;
use quoit::config::{Config, Machine, Settings};
use quoit::server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut settings = Settings::new(Machine::probe());
    settings.port = 0;
    let threads = settings.worker_threads();
    let running = server::start(Config::new(settings), Clock::system(), threads).await?;
    println!("listening on port {}", running.port());

    let mut client = TcpStream::connect(("127.0.0.1", running.port())).await?;
    client
        .write_all(b"SET greeting hello EX 60\r\nGET greeting\r\n")
        .await?;
    let mut replies = [0; b"+OK\r\n$5\r\nhello\r\n".len()];
    client.read_exact(&mut replies).await?;
    print!("{}", String::from_utf8_lossy(&replies));

    running.server().shutdown.request();
    running.finished(std::time::Duration::from_secs(5)).await;
    Ok(())
}
