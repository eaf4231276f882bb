//! Three nodes that are one server: `cargo run --example three_nodes`. Keys are written through one node and read through
//! another; then a node leaves, and its keys are still there.

use std::error::Error;
use std::time::Duration;

use quoit::base::clock::Clock;
use quoit::config::{Config, Machine, Seed, Settings};
use quoit::server::{self, Running};
use redis::AsyncCommands;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let kept = std::env::temp_dir().join(format!("quoit-three-nodes-{}", std::process::id()));
    // The first forms a ring alone, the others are told where it is.
    let first = node(&kept.join("1"), Vec::new()).await?;
    let seed = Seed {
        host: "127.0.0.1".to_owned(),
        port: first.port(),
        bus_port: first.bus_port(),
    };
    let second = node(&kept.join("2"), vec![seed.clone()]).await?;
    let third = node(&kept.join("3"), vec![seed]).await?;
    let mut one = client(&first).await?;
    let mut two = client(&second).await?;
    let nodes = [&first, &second, &third];
    while !nodes.iter().all(|node| has_slots(node)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    for number in 0..1000 {
        let _: () = one.set(format!("user:{number}"), number).await?;
    }
    let sum: u64 = redis::cmd("DBSIZE").query_async(&mut two).await?;
    let name: u64 = two.get("user:41").await?;
    println!("1000 keys written through the first node; the second counts {sum} and reads {name}");
    for (number, node) in nodes.iter().enumerate() {
        let here = node.server().keyspace.database(0).len();
        println!("node {} holds {here}", number + 1);
    }

    third.server().shutdown.ask();
    third.finished(Duration::from_secs(10)).await;
    let sum: u64 = redis::cmd("DBSIZE").query_async(&mut one).await?;
    println!("the third has left; {sum} keys are there");

    for node in [second, first] {
        node.server().shutdown.request();
        node.finished(Duration::from_secs(5)).await;
    }
    std::fs::remove_dir_all(kept)?;
    Ok(())
}

async fn node(dir: &std::path::Path, seeds: Vec<Seed>) -> Result<Running, Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let mut settings = Settings::new(Machine::probe());
    settings.port = 0;
    settings.dir = dir.to_owned();
    settings.cluster_enabled = true;
    settings.cluster_seeds = seeds;
    let threads = settings.worker_threads();
    Ok(server::start(Config::new(settings), Clock::system(), threads).await?)
}

async fn client(node: &Running) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    let address = format!("redis://127.0.0.1:{}", node.port());
    redis::Client::open(address)?
        .get_multiplexed_async_connection()
        .await
}

/// Whether it has its part of the ring.
fn has_slots(node: &Running) -> bool {
    let cluster = node.server().cluster.get();
    cluster.is_some_and(|cluster| {
        let map = &cluster.view().map;
        map.nodes.len() == 3 && map.owners == map.targets
    })
}
