//! The numbers of keys of all nodes, for what runs here and tells them (INFO).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Stream};
use crate::admin::info::database_totals;
use crate::cluster::ask::{DatabaseTotal, Question, read_answer};
use crate::cluster::bus::Kind;
use crate::cluster::node::NodeState;
use crate::state::session::KeyTotals;

/// How long all peers together may take to answer: one that is well takes a millisecond, and who watches a server by INFO
/// must not wait for one that is not.
const PATIENCE: Duration = Duration::from_millis(100);

impl<S: Stream> Connection<S> {
    /// Leaves the numbers of keys with the session. Peers that do not answer in time are counted as missing.
    pub(super) async fn ask_totals(&mut self) {
        self.runner.end_batch();
        let mut sum = Sum::default();
        sum.add(&database_totals(self.server()));
        let mut missing = 0;
        if let (Some(view), Some(cluster)) =
            (self.runner.fresh_view(), self.runner.cluster().cloned())
        {
            let deadline = Instant::now() + PATIENCE;
            let payload = Question::Totals.to_payload();
            let peers = view
                .map
                .nodes
                .iter()
                .filter(|node| node.id != cluster.me && node.state != NodeState::Failed);
            let asked: Vec<_> = peers
                .map(|node| {
                    let link = cluster.link_for_all(node);
                    link.call(Kind::Ask, |frame| frame.extend_from_slice(&payload))
                })
                .collect();
            for ticket in asked {
                let answer = match ticket {
                    Ok(ticket) => tokio::time::timeout_at(deadline, ticket).await.ok(),
                    Err(_) => None,
                };
                let totals = answer.and_then(Result::ok);
                match totals.and_then(|totals| read_answer::<Vec<DatabaseTotal>>(&totals)) {
                    Some(totals) => sum.add(&totals),
                    None => missing += 1,
                }
            }
        }
        self.session.totals = Some(Box::new(KeyTotals {
            databases: sum.databases(),
            missing,
        }));
        self.runner.begin_batch();
    }
}

/// By database: keys, those with an expiry, and what these have left together.
#[derive(Default)]
struct Sum(BTreeMap<u32, (u64, u64, u128)>);

impl Sum {
    fn add(&mut self, totals: &[DatabaseTotal]) {
        for total in totals {
            let (keys, expires, left) = self.0.entry(total.database).or_default();
            *keys = keys.saturating_add(total.keys);
            *expires = expires.saturating_add(total.expires);
            let of_node = u128::from(total.expires) * u128::from(total.average_ttl_ms);
            *left = left.saturating_add(of_node);
        }
    }

    fn databases(self) -> Vec<DatabaseTotal> {
        let total = |(database, (keys, expires, left)): (u32, (u64, u64, u128))| DatabaseTotal {
            database,
            keys,
            expires,
            average_ttl_ms: u64::try_from(left / u128::from(expires.max(1))).unwrap_or(u64::MAX),
        };
        self.0.into_iter().map(total).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Aim: keys are added up, the time that is left is averaged over the keys that have one.
    #[test]
    fn totals_are_added_up() {
        let total = |database, keys, expires, average_ttl_ms| DatabaseTotal {
            database,
            keys,
            expires,
            average_ttl_ms,
        };
        let mut sum = Sum::default();
        sum.add(&[total(0, 10, 3, 1000), total(5, 1, 0, 0)]);
        sum.add(&[total(0, 20, 1, 5000), total(2, 7, 7, u64::MAX)]);
        sum.add(&[total(2, u64::MAX, u64::MAX, u64::MAX)]);
        assert_eq!(
            sum.databases(),
            [
                total(0, 30, 4, 2000),
                total(2, u64::MAX, u64::MAX, u64::MAX),
                total(5, 1, 0, 0)
            ]
        );
    }
}
