//! Links over a network that fails: `cargo test --features simulation --test bus`.

use std::sync::Arc;
use std::time::Duration;

use quoit::cluster::bus::{Bus, CallError, Kind, Link, Links};
use tokio::time::Instant;

use super::peers::{Node, identity, node_id};

const SILENCE: Duration = Duration::from_secs(2);

/// A ring of one server and one client that asks it.
fn simulate<F>(client: impl FnOnce(Arc<Link>) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let mut sim = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(60))
        .rng_seed(5)
        .build();
    sim.host("server", || async {
        let mut node = Node::start_at(identity(2), "0.0.0.0:16379").await;
        loop {
            // What is not an echo is not answered.
            drop(node.event().await);
        }
    });
    sim.client("client", async move {
        let links = Links::new(Bus::new(identity(1), SILENCE), Arc::new(()));
        let link = links.link(node_id(2), "server:16379", 0);
        while link.connected().await.is_err() {}
        client(link).await;
        links.close();
        Ok(())
    });
    sim.run().expect("it ends well");
}

async fn assert_echoes(link: &Arc<Link>) {
    let ticket = link.call(Kind::Forward, |frame| frame.extend_from_slice(b"echo"));
    let echoed = ticket.expect("it is connected").await;
    assert_eq!(echoed.as_deref(), Ok(b"echo".as_slice()));
}

#[test]
fn a_network_that_falls_silent_breaks_the_link_in_time() {
    simulate(|link| async move {
        assert_echoes(&link).await;
        turmoil::partition("client", "server");
        let cut = Instant::now();
        let ticket = link.call(Kind::Forward, |frame| frame.extend_from_slice(b"echo"));
        assert_eq!(
            ticket.expect("it is not noticed yet").await,
            Err(CallError::Broken)
        );
        assert!(cut.elapsed() <= SILENCE, "{:?}", cut.elapsed());
        assert_eq!(link.peer(), None);

        turmoil::repair("client", "server");
        let repaired = Instant::now();
        while link.connected().await.is_err() {}
        assert!(repaired.elapsed() <= SILENCE + Duration::from_secs(1));
        assert_echoes(&link).await;
    });
}

#[test]
fn a_connection_without_calls_stays() {
    simulate(|link| async move {
        let since = link.info();
        let wait = tokio::time::timeout(10 * SILENCE, std::future::pending::<()>());
        assert!(wait.await.is_err());
        assert_eq!(link.info().errors, since.errors);
        assert_echoes(&link).await;
    });
}

#[test]
fn a_network_that_is_slow_for_less_than_the_silence_breaks_nothing() {
    simulate(|link| async move {
        turmoil::hold("client", "server");
        let ticket = link.call(Kind::Forward, |frame| frame.extend_from_slice(b"echo"));
        let mut ticket = ticket.expect("it is connected");
        assert!(
            tokio::time::timeout(SILENCE / 2, &mut ticket)
                .await
                .is_err()
        );
        turmoil::release("client", "server");
        assert_eq!(ticket.await.as_deref(), Ok(b"echo".as_slice()));
        assert_eq!(link.info().errors, 0);
    });
}
