//! What a node has to do with all its peers at once, whatever its clients ask for: it tells them what it has subscribers for
//! and which prefixes of keys its clients follow, and learns from them ([`learn`]).
//!
//! One task follows the map; each peer has a task of its own, so that one who is slow or away holds nobody up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

use super::learn;
use crate::cluster::Cluster;
use crate::cluster::bus::{CallError, Kind, Link};
use crate::cluster::node::{NodeId, NodeState};
use crate::state::Server;
use crate::state::pubsub::far::Teller;

/// How long a link rests that has just failed, before it is looked at again. It connects by itself.
const REST: Duration = Duration::from_millis(20);
/// Between two looks at a map that does not change.
const FOREVER: Duration = Duration::from_secs(3600);

/// Serves the peers of a node until it is aborted.
pub async fn run(server: Arc<Server>, cluster: Arc<Cluster>) {
    server.pubsub.join_ring();
    let mut tasks = JoinSet::new();
    let learning = learn::run(Arc::clone(&server), Arc::clone(&cluster));
    tasks.spawn(learning);
    let mut peers: HashMap<NodeId, AbortHandle> = HashMap::new();
    let mut before = cluster.view();
    loop {
        let view = cluster.view();
        let is_peer = |id: NodeId| {
            let node = view.map.node(id);
            id != cluster.me && node.is_some_and(|node| node.state != NodeState::Failed)
        };
        peers.retain(|id, task| {
            let stays = is_peer(*id);
            if !stays {
                task.abort();
            }
            stays
        });
        for node in view.map.nodes.iter().filter(|node| is_peer(node.id)) {
            peers.entry(node.id).or_insert_with(|| {
                let told = tell(Arc::clone(&server), Arc::clone(&cluster), node.id);
                tasks.spawn(told)
            });
        }
        // One that has failed may come back by the connection that it has; one that we have not heard of yet may have told us
        // what it wants already.
        let is_gone = |id: NodeId| before.map.node(id).is_some() && view.map.node(id).is_none();
        server.pubsub.retain_peers(&|id| !is_gone(id));
        before = Arc::clone(&view);
        while tasks.try_join_next().is_some() {}
        cluster
            .wait_for(FOREVER, |next| next.version != view.version)
            .await;
    }
}

/// Tells a peer what this node has subscribers for, for as long as it is in the map.
async fn tell(server: Arc<Server>, cluster: Arc<Cluster>, id: NodeId) {
    let mut teller = server.pubsub.teller();
    loop {
        let view = cluster.view();
        let Some(node) = view.map.node(id) else {
            return;
        };
        let link = cluster.link_for_all(node);
        server.pubsub.set_outlet(id, link.clone());
        if link.connected().await.is_ok() {
            let breaks = link.breaks();
            teller.begin();
            let why = tokio::select! {
                Err(why) = talk(&server, &mut teller, &link) => why,
                () = link.broken(breaks) => CallError::Broken,
            };
            teller.end();
            tracing::debug!(peer = %id, "a peer cannot be told of subscriptions for a moment: {why}");
        }
        tokio::time::sleep(REST).await;
    }
}

/// Says what there is to say, until it cannot.
async fn talk(
    server: &Server,
    teller: &mut Teller,
    link: &Arc<Link>,
) -> Result<std::convert::Infallible, CallError> {
    loop {
        while let Some(payload) = teller.say_next() {
            link.call(Kind::Publish, |frame| frame.extend_from_slice(&payload))?
                .await?;
        }
        if teller.heard() {
            server.tracking.lose_changes();
        }
        teller.news().await;
    }
}
