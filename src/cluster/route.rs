//! From the keys of a request to who runs it. Pure.

use super::{Owner, View};

/// Who runs a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// This node.
    Here,
    /// The node of this index in the map.
    Peer(u16),
    /// Nobody at the moment: a slot is being handed over.
    Held,
    /// Its keys lie on several nodes.
    Several,
    /// A slot has no owner.
    Nobody,
}

/// The route of a request by the slots of its keys, without any: [`Route::Here`].
#[inline]
pub fn route(view: &View, slots: impl IntoIterator<Item = u16>) -> Route {
    let mut route = None;
    for slot in slots {
        let next = match view.owner(slot) {
            Owner::Here => Route::Here,
            Owner::Peer(index) => Route::Peer(index),
            // Whatever the others say, it has to wait.
            Owner::Held => return Route::Held,
            Owner::Nobody => return Route::Nobody,
        };
        match route {
            None => route = Some(next),
            Some(first) if first == next => {}
            Some(_) => return Route::Several,
        }
    }
    route.unwrap_or(Route::Here)
}
