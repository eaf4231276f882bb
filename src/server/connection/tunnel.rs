//! Requests that leave something behind at a peer.

use super::{Connection, Stream};
use crate::resp::reply::Reply;

impl<S: Stream> Connection<S> {
    /// Runs the request that was just decoded at the peer of this index.
    pub(super) async fn tunnel(&mut self, _index: u16) {
        Reply::new(&mut self.output, self.session.protocol)
            .error("ERR this command cannot be forwarded yet");
    }
}
