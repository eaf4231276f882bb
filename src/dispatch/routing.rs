//! Where a request runs when the server is part of a ring: here, at the peer that owns its keys, or at several.
//!
//! A request is routed after the checks and before anything is locked, by one [`View`] of the ring; once its partitions are
//! locked, [`Runner::has_moved`] says whether that view is still the present one, and if it is not, the request begins
//! again. What becomes of a request whose keys are elsewhere depends on who asks ([`Face`]).

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Handler, Runner, Step, is_exec, keys_of};
use crate::admin::cluster::view::endpoint;
use crate::admin::{self, Named};
use crate::cluster::map::NOBODY;
use crate::cluster::node::NodeState;
use crate::cluster::route::{Route, route};
use crate::cluster::slots::{Pins, slot_of};
use crate::cluster::{Cluster, DOWN, NOT_SERVED, Owner, View};
use crate::commands;
use crate::config::EndpointType;
use crate::resp::decode::{Arguments, OwnedArguments};
use crate::state::pubsub::Topic;
use crate::state::session::{ReplyMode, Session};
use crate::state::transaction::{Transaction, Watches};
use crate::table::keys::{channels, locate};
use crate::table::lookup::Entry;
use crate::table::{Across, Args, CommandError, Flags, Merge, Scope, Table};

/// As what a node of a ring shows itself to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// As one big server: what is elsewhere is forwarded.
    Single,
    /// As a node of a Redis Cluster: clients are sent to the owner.
    Cluster,
    /// As what it is, to its peers: it runs what is here, and nothing else.
    Peer,
}

/// How a request that several nodes have a part in is spread over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Cut by its keys.
    Keys {
        /// How the parts become one.
        merge: Merge,
    },
    /// All of it for every node.
    Nodes {
        /// How the parts become one.
        merge: Merge,
    },
    /// For one node after the other, as the cursor says.
    Cursor,
}

/// How the requests of a connection find their node.
pub(super) struct Routing {
    cluster: Arc<Cluster>,
    view: Arc<View>,
    face: Face,
    /// Whether the lease ran when the batch began.
    has_lease: bool,
    /// Whether the batch relied on it.
    relied: bool,
    /// Whether a peer whose request is run may know the text of a script that this node does not.
    wants_texts: bool,
    /// Whether others' requests wait for those that are run.
    is_among_others: bool,
    /// Of the command that was routed last.
    flags: Flags,
}

/// What the router says.
pub(super) enum Routed {
    /// Run it.
    Here,
    /// Somebody else runs it, or it has to wait.
    Elsewhere(Step),
    /// Nobody does.
    Refuse(CommandError),
}

type Slots = SmallVec<[u16; 8]>;

impl Routing {
    pub(super) fn new(cluster: &Arc<Cluster>) -> Box<Routing> {
        Box::new(Routing {
            view: cluster.view(),
            cluster: Arc::clone(cluster),
            face: Face::Single,
            has_lease: false,
            relied: false,
            wants_texts: false,
            is_among_others: false,
            flags: Flags::empty(),
        })
    }

    /// Begins a batch.
    pub(super) fn begin(&mut self) {
        self.has_lease = self.cluster.has_lease();
    }

    /// Whether a slot alone says where a request runs.
    fn is_plain(&self) -> bool {
        self.view.is_covered && self.view.map.pins.is_empty()
    }

    /// Takes over the present view.
    pub(super) fn refresh(&mut self) {
        if self.cluster.version() != self.view.version {
            self.view = self.cluster.view();
        }
    }

    /// The same, unless the session has been told of a command of its transaction already: all are answered by one view, as
    /// clients follow redirections of a transaction only where its commands were told the same. EXEC goes by the present one.
    pub(super) fn refresh_between(&mut self, session: &Session) {
        if !session.transaction().is_some_and(Transaction::has_begun) {
            self.refresh();
        }
    }

    /// Whether this node answers for a slot.
    pub(super) fn is_here(&self, slot: u16) -> bool {
        self.view.owner(slot) == Owner::Here
    }

    pub(super) fn slot(&self, database: u32, key: &[u8]) -> u16 {
        self.view.map.pins.slot(database, key)
    }
}

impl Runner {
    /// The same for requests that come by this face. Without a ring there is none.
    pub fn of_face(mut self, face: Face) -> Runner {
        if let Some(routing) = &mut self.routing {
            routing.face = face;
        }
        self
    }

    /// The view by which the last request was routed.
    pub fn view(&self) -> Option<Arc<View>> {
        self.routing
            .as_ref()
            .map(|routing| Arc::clone(&routing.view))
    }

    /// The ring.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.routing.as_ref().map(|routing| &routing.cluster)
    }

    /// Whether who asks is shown a Redis Cluster.
    pub(super) fn sees_cluster(&self) -> bool {
        let routing = self.routing.as_ref();
        routing.is_some_and(|routing| routing.face == Face::Cluster)
    }

    /// Whether it runs the requests of a peer, or a part of a request that goes to several.
    pub(super) fn is_for_peer(&self) -> bool {
        let routing = self.routing.as_ref();
        routing.is_some_and(|routing| routing.face == Face::Peer)
    }

    /// Changes the face, and returns the one before.
    pub fn set_face(&mut self, face: Face) -> Face {
        match &mut self.routing {
            Some(routing) => std::mem::replace(&mut routing.face, face),
            None => face,
        }
    }

    /// The present view.
    pub fn fresh_view(&mut self) -> Option<Arc<View>> {
        let routing = self.routing.as_mut()?;
        routing.refresh();
        Some(Arc::clone(&routing.view))
    }

    /// The index of the peer that owns a key; `None` when it is this node's.
    pub fn owner_of(&mut self, database: u32, key: &[u8]) -> Result<Option<u16>, CommandError> {
        let Some(routing) = &mut self.routing else {
            return Ok(None);
        };
        routing.refresh();
        match routing.view.owner(routing.slot(database, key)) {
            Owner::Here | Owner::Held => Ok(None),
            Owner::Peer(index) => Ok(Some(index)),
            Owner::Nobody => Err(CommandError::fixed(NOT_SERVED)),
        }
    }

    /// How a request is spread over nodes.
    pub fn spread(&self, request: Arguments<'_>) -> Spread {
        let Some(entry) = self.table.find_request(&request) else {
            return Spread::Nodes {
                merge: Merge::First,
            };
        };
        let tips = entry.command.tips;
        let policy = tips
            .iter()
            .find_map(|tip| tip.strip_prefix("response_policy:"));
        let merge = match policy {
            Some("agg_sum") => Merge::Sum,
            Some("agg_logical_and") => Merge::And,
            Some("one_succeeded") => Merge::AnySuccess,
            Some("all_succeeded") => Merge::First,
            Some("special") => Merge::AnyOf,
            _ => Merge::Join,
        };
        if tips.contains(&"request_policy:special") {
            return Spread::Cursor;
        }
        match entry.command.across {
            Across::Split => Spread::Keys { merge },
            _ => Spread::Nodes {
                merge: entry.command.merge.unwrap_or(merge),
            },
        }
    }

    /// Where the keys of a request stand, and how many arguments belong to each, the key among them.
    pub fn split_positions(&mut self, request: Arguments<'_>) -> (Vec<usize>, usize) {
        let Some(entry) = self.table.find_request(&request) else {
            return (Vec::new(), 1);
        };
        let _ = locate(entry.command, &request, &mut self.keys);
        let positions: Vec<usize> = self.keys.iter().map(|(position, _)| *position).collect();
        let step = match positions[..] {
            [first, second, ..] => second - first,
            [first] => request.len() - first,
            [] => 1,
        };
        (positions, step)
    }

    /// The requests that follow come from a peer that may know the text of a script that this node does not.
    pub fn set_wants_texts(&mut self, wants_texts: bool) {
        if let Some(routing) = &mut self.routing {
            routing.wants_texts = wants_texts;
        }
    }

    /// Whether requests of others wait for those that follow: then what runs a script is not run ([`Step::Apart`]).
    pub fn set_among_others(&mut self, is_among_others: bool) {
        if let Some(routing) = &mut self.routing {
            routing.is_among_others = is_among_others;
        }
    }

    /// Whether a request runs a script, and others wait for its end.
    pub(super) fn should_be_apart(&self, session: &Session, entry: &Entry<Handler>) -> bool {
        let routing = self.routing.as_ref();
        if !routing.is_some_and(|routing| routing.is_among_others) {
            return false;
        }
        let transaction = session.transaction().filter(|_| is_exec(entry));
        let mut queued = transaction.into_iter().flat_map(Transaction::queued);
        named(entry).is_some() || queued.any(|(id, ..)| named(self.table.entry(id)).is_some())
    }

    /// The same request with the text of its script in place of the SHA-1. `None`: it has none, or the text is not known here.
    pub fn spelled_out(&self, request: Arguments<'_>) -> Option<OwnedArguments> {
        self.spell_out(self.table.find_request(&request)?, request)
    }

    /// As [`Runner::spelled_out`], for a queued request by its number in the table.
    pub fn spelled_out_queued(&self, id: u16, request: Arguments<'_>) -> Option<OwnedArguments> {
        self.spell_out(self.table.entry(id), request)
    }

    fn spell_out(&self, entry: &Entry<Handler>, request: Arguments<'_>) -> Option<OwnedArguments> {
        let Handler::Admin(admin::Handler::Script(call)) = entry.handler else {
            return None;
        };
        if call.named != Named::Sha1 {
            return None;
        }
        let known = self.server.scripts.find(request.get(1)?)?;
        let by_text = self.table.entries().iter().find(|other| {
            let handler = other.handler;
            matches!(handler, Handler::Admin(admin::Handler::Script(other))
                if other.named == Named::Text && other.is_read_only == call.is_read_only)
        })?;
        // A renamed command is not known by this name, here or at the peer.
        let name = by_text.full_name.as_bytes();
        self.table
            .find(name)
            .filter(|found| found.id == by_text.id)?;
        let mut spelled = OwnedArguments::default();
        spelled.push(name);
        spelled.push(&known.script.text);
        spelled.append(request.tail(2));
        Some(spelled)
    }

    /// Whether a request goes through whole databases, and waits for what is locked there.
    pub fn is_sweep(&self, request: Arguments<'_>) -> bool {
        let entry = self.table.find_request(&request);
        entry.is_some_and(|entry| matches!(entry.command.scope, Scope::Sweep))
    }

    /// What the row of a request says of it.
    pub fn flags(&self, request: Arguments<'_>) -> Flags {
        let entry = self.table.find_request(&request);
        entry.map_or(Flags::WRITE, |entry| entry.command.flags)
    }

    /// What the row of the request that was routed last says of it.
    pub fn routed_flags(&self) -> Flags {
        self.routing
            .as_ref()
            .map_or(Flags::WRITE, |routing| routing.flags)
    }

    /// Shows to those who watch (MONITOR) what goes to a peer: a request, or the transaction that it ends.
    pub fn show_sent(
        &self,
        session: &Session,
        transaction: Option<&Transaction>,
        request: Arguments<'_>,
    ) {
        if !self.server.monitors.any() {
            return;
        }
        for (id, queued, _) in transaction.iter().flat_map(|it| it.queued()) {
            self.show(session, self.table.entry(id).command, queued);
        }
        if let Some(entry) = self.table.find_request(&request) {
            self.show(session, entry.command, request);
        }
    }

    /// Whether the client wants the reply to the request that somebody else runs (CLIENT REPLY). Asked once for each.
    pub fn takes_reply(&mut self, session: &mut Session) -> bool {
        self.tally.skip();
        session.end_caching();
        match session.reply_mode {
            ReplyMode::On | ReplyMode::SkipNext => true,
            ReplyMode::Off => false,
            ReplyMode::Skip => {
                session.reply_mode = ReplyMode::On;
                false
            }
        }
    }

    /// Whether this node is alone: a member of the ring whose lease has been over for a while. Whom it cannot reach it need not
    /// try again. One that leaves is not: the ring may remove it before it hears of it, and grants it nothing any more.
    pub fn is_cut_off(&self) -> bool {
        self.routing.as_ref().is_some_and(|routing| {
            let nodes = &routing.view.map.nodes;
            let me = nodes.get(usize::from(routing.view.mine));
            let grace = self.settings.cluster_node_timeout / GRACE;
            me.is_some_and(|me| me.state != NodeState::Leaving)
                && !routing.cluster.had_lease_within(grace)
        })
    }

    /// Whether the batch ran requests by the lease, and the lease is over: then its replies must not be sent.
    pub fn has_lost_lease(&mut self) -> bool {
        self.routing.as_mut().is_some_and(|routing| {
            std::mem::take(&mut routing.relied) && !routing.cluster.has_lease()
        })
    }

    /// Whether the ring has changed since the request was routed. To be asked with its partitions locked.
    #[inline]
    pub(super) fn has_moved(&self) -> bool {
        let routing = self.routing.as_ref();
        routing.is_some_and(|routing| routing.cluster.version() != routing.view.version)
    }

    /// Where a request runs.
    #[inline(never)]
    pub(super) fn route(
        &mut self,
        session: &Session,
        entry: &'static Entry<Handler>,
        arguments: Arguments<'_>,
        foreseen: Option<u16>,
        is_queued: bool,
        round: u32,
    ) -> Routed {
        let Some(routing) = &mut self.routing else {
            return Routed::Here;
        };
        if is_queued {
            routing.refresh_between(session);
        } else {
            routing.refresh();
        }
        if round > 0 {
            routing.begin();
        }
        let command = entry.command;
        routing.flags = command.flags;
        // Nearly all requests: one key, in a ring that is whole. (A pinned database may have been selected since.)
        if let Some(slot) = foreseen
            && routing.is_plain()
            && !is_queued
        {
            match routing.view.owner(slot) {
                Owner::Here if routing.has_lease => {
                    routing.relied = true;
                    return Routed::Here;
                }
                Owner::Peer(index) if routing.face == Face::Single && !lives_on(entry) => {
                    return Routed::Elsewhere(Step::Forward(index));
                }
                _ => {}
            }
        }
        if routing.face == Face::Single
            && is_for_all(entry)
            && !(is_queued && matches!(command.across, Across::BroadcastUnlessQueued))
        {
            let has_pins = !routing.view.map.pins.databases.is_empty();
            return match command.across {
                _ if is_queued => Routed::Refuse(CommandError::fixed(
                    "ERR in a ring, commands for all nodes cannot run inside a transaction",
                )),
                Across::BroadcastUnlessPinned if has_pins => {
                    // What is wrong with the request itself comes first.
                    let begun = self.begin_sweep(session, entry, &mut Args::new(arguments, 1));
                    Routed::Refuse(begun.err().unwrap_or(CommandError::fixed(
                        "ERR databases cannot be exchanged while one of them is pinned to a slot (cluster-pin)",
                    )))
                }
                _ => Routed::Elsewhere(Step::Across),
            };
        }
        if let Across::WithTotals(wants_totals) = command.across
            && routing.face == Face::Single
            && !is_queued
            && session.totals.is_none()
            && wants_totals(&arguments)
        {
            return Routed::Elsewhere(Step::Totals);
        }
        let face = routing.face;
        let mut slots = Slots::new();
        if is_exec(entry) {
            // It will be refused.
            if session
                .transaction()
                .is_none_or(|transaction| transaction.is_refused)
            {
                return Routed::Here;
            }
            self.slots_of_transaction(session, &mut slots);
        } else if command.has_keys() {
            self.slots_of(session.database, entry, arguments, &mut slots);
            if is_watch(entry) {
                self.watched_slots(session, &mut slots);
            }
        } else if let Across::AtKey(find) = command.across
            && routing.face != Face::Cluster
            && let Some(key) = find(&arguments).and_then(|index| arguments.get(index))
        {
            slots.push(routing.slot(session.database, key));
        }
        if slots.is_empty() && face == Face::Cluster {
            // Who is subscribed stays so when the slot moves, and can end it here.
            let is_subscribed = |name: &[u8]| {
                let subscriptions = session.subscriptions.as_ref();
                subscriptions.is_some_and(|all| all.has(Topic::Shard, name))
            };
            let names = channels(entry.command.keys, arguments);
            slots.extend(names.filter(|name| !is_subscribed(name)).map(slot_of));
        }
        if slots.is_empty() && named(entry).is_some() {
            // Without keys of its own it can reach all that is where its database is pinned to.
            slots.extend(self.pinned_slot(session.database));
        }
        if slots.is_empty() {
            return Routed::Here;
        }
        let routed = self.by_slots(session, entry, &slots, is_queued, round);
        match (named(entry), &routed) {
            // Its client may name it by its SHA-1 from now on, wherever the keys are.
            (Some(Named::Text), Routed::Elsewhere(Step::Forward(_))) => {
                // The owner refuses what is not a script.
                let _ = self
                    .server
                    .scripts
                    .of_text(arguments.get(1).unwrap_or_default());
                routed
            }
            (Some(Named::Sha1), Routed::Here) if !is_queued && self.wants_text(arguments) => {
                Routed::Elsewhere(Step::NotHere)
            }
            _ => routed,
        }
    }

    /// Whether a request names a script that is not known here, and its sender may know it.
    fn wants_text(&self, request: Arguments<'_>) -> bool {
        let routing = self.routing.as_ref();
        let name = request.get(1).unwrap_or_default();
        routing.is_some_and(|routing| routing.wants_texts)
            && name.len() == 40
            && self.server.scripts.find(name).is_none()
    }

    fn by_slots(
        &mut self,
        session: &Session,
        entry: &'static Entry<Handler>,
        slots: &[u16],
        is_queued: bool,
        round: u32,
    ) -> Routed {
        let Some(routing) = &mut self.routing else {
            return Routed::Here;
        };
        let flags = match session.transaction() {
            Some(transaction) if is_exec(entry) => transaction.flags(),
            _ => entry.command.flags,
        };
        let transaction = session.transaction().filter(|_| is_queued);
        let was_refused = transaction.is_some_and(|transaction| transaction.is_refused);
        let settings = &self.settings;
        let reads_when_down =
            settings.cluster_allow_reads_when_down && !flags.contains(Flags::WRITE);
        if routing.face != Face::Peer
            && settings.cluster_require_full_coverage
            && !routing.view.is_covered
            && !reads_when_down
        {
            return Routed::Refuse(CommandError::fixed(DOWN));
        }
        if routing.face == Face::Cluster && slots.iter().any(|slot| *slot != slots[0]) {
            return Routed::Refuse(CROSS_SLOT);
        }
        match (route(&routing.view, slots.iter().copied()), routing.face) {
            (Route::Here, face) if !routing.has_lease && !reads_when_down => match face {
                Face::Peer => Routed::Elsewhere(Step::NotHere),
                Face::Single | Face::Cluster
                    if routing
                        .cluster
                        .had_lease_within(settings.cluster_node_timeout / GRACE) =>
                {
                    held(is_queued)
                }
                _ => Routed::Refuse(CommandError::fixed(DOWN)),
            },
            (Route::Here, _) if is_exec(entry) && !session.watched_elsewhere.is_empty() => {
                Routed::Refuse(CommandError::fixed("ERR the watched keys were moved"))
            }
            (Route::Here, _) => {
                routing.relied |= routing.has_lease;
                Routed::Here
            }
            // What is held without a lease is held until somebody else has it.
            (Route::Held, Face::Single | Face::Cluster)
                if !is_queued && !routing.has_lease && round > HELD_ROUNDS =>
            {
                Routed::Refuse(CommandError::fixed(DOWN))
            }
            (Route::Held, Face::Peer) if !is_queued && !routing.has_lease => {
                Routed::Elsewhere(Step::NotHere)
            }
            (Route::Held, _) => held(is_queued),
            (_, Face::Peer) => Routed::Elsewhere(Step::NotHere),
            (Route::Nobody, _) => Routed::Refuse(CommandError::fixed(NOT_SERVED)),
            (Route::Several, _) if matches!(entry.command.across, Across::Split) && !is_queued => {
                Routed::Elsewhere(Step::Across)
            }
            (Route::Several, _) => Routed::Refuse(CROSS_SLOT),
            (Route::Peer(_), Face::Single) if is_queued => Routed::Here,
            (Route::Peer(_), Face::Single)
                if lives_on(entry) && session.transaction().is_some() =>
            {
                Routed::Here
            }
            (Route::Peer(index), Face::Single)
                if lives_on(entry)
                    || is_exec(entry)
                        && (!session.watched_elsewhere.is_empty()
                            || has_some_of_entry(self.table, session)) =>
            {
                Routed::Elsewhere(Step::Tunnel(index))
            }
            (Route::Peer(index), Face::Single) => Routed::Elsewhere(Step::Forward(index)),
            // Its owner may have given it away before this node hears of it, and would send the client back here, to and fro.
            // A transaction that was told so before is told the same.
            (Route::Peer(_), Face::Cluster)
                if round <= HELD_ROUNDS
                    && !was_refused
                    && routing.cluster.may_own(&routing.view, slots[0]) =>
            {
                held(is_queued)
            }
            (Route::Peer(index), Face::Cluster) => {
                let kind = settings.cluster_preferred_endpoint_type;
                Routed::Refuse(moved(&routing.view, kind, slots[0], index))
            }
        }
    }

    /// Whether a queued command, by its number in the table, is about the connection that asks or its server, and not about
    /// keys: it runs there, wherever the keys of its transaction are. Messages are published among the changes of keys, where
    /// those are made.
    pub fn is_of_entry(&self, id: u16, request: Arguments<'_>) -> bool {
        is_of_entry(self.table.entry(id), request)
    }

    /// The slot that all keys of a database share, if it is pinned.
    fn pinned_slot(&self, database: u32) -> Option<u16> {
        let pins = &self.routing.as_ref()?.view.map.pins;
        let is_pinned = pins.databases.contains(&database);
        is_pinned.then(|| Pins::database_slot(database))
    }

    /// The slots of a request's keys.
    fn slots_of(
        &mut self,
        database: u32,
        entry: &Entry<Handler>,
        arguments: Arguments<'_>,
        slots: &mut Slots,
    ) {
        let Some(routing) = &self.routing else {
            return;
        };
        let other = match entry.command.scope {
            Scope::KeysAndDatabase(find) => find(&arguments).ok().flatten(),
            _ => None,
        };
        for key in keys_of(entry, arguments, &mut self.keys) {
            slots.push(routing.slot(database, key));
            if let Some(other) = other {
                slots.push(routing.slot(other as u32, key));
            }
        }
    }

    /// The slots of all that is queued, and of the watched keys.
    fn slots_of_transaction(&mut self, session: &Session, slots: &mut Slots) {
        let Some(transaction) = session.transaction() else {
            return;
        };
        let mut database = session.database;
        for (id, arguments, _) in transaction.queued() {
            let entry = self.table.entry(id);
            database = self.selected(entry, arguments).unwrap_or(database);
            if entry.command.has_keys() {
                self.slots_of(database, entry, arguments, slots);
            }
        }
        self.watched_slots(session, slots);
    }

    /// The database that a request selects, if there is one of that number.
    fn selected(&self, entry: &Entry<Handler>, arguments: Arguments<'_>) -> Option<u32> {
        let Scope::Selects(find) = entry.command.scope else {
            return None;
        };
        let count = self.server.keyspace.database_count();
        find(&arguments).filter(|database| (*database as usize) < count)
    }

    /// The database that is selected when a transaction has run.
    pub fn database_after(&self, session: &Session, transaction: &Transaction) -> u32 {
        let selected = transaction.queued().filter_map(|(id, arguments, _)| {
            let entry = self.table.entry(id);
            self.selected(entry, arguments)
        });
        selected.last().unwrap_or(session.database)
    }

    /// The slots of the watched keys.
    fn watched_slots(&self, session: &Session, slots: &mut Slots) {
        if let Some(routing) = &self.routing {
            let watched = session.watches.iter().flat_map(Watches::keys);
            slots.extend(watched.map(|(database, key, _)| routing.slot(*database, key)));
            slots.extend(session.watched_elsewhere.iter().copied());
        }
    }

    /// The slots of a request's keys.
    pub fn slots(&mut self, session: &Session, request: Arguments<'_>) -> Vec<u16> {
        let mut slots = Slots::new();
        if let Some(entry) = self.table.find_request(&request) {
            self.slots_of(session.database, entry, request, &mut slots);
        }
        slots.to_vec()
    }

    /// Whether the keys of a request are here, by the present view.
    pub(super) fn runs_here(
        &mut self,
        database: u32,
        entry: &Entry<Handler>,
        arguments: Arguments<'_>,
    ) -> bool {
        let Some(view) = self.fresh_view() else {
            return true;
        };
        let mut slots = Slots::new();
        self.slots_of(database, entry, arguments, &mut slots);
        route(&view, slots) == Route::Here
    }

    /// Whether a request watches keys.
    pub fn is_watch(&self, request: Arguments<'_>) -> bool {
        self.table.find_request(&request).is_some_and(is_watch)
    }

    /// Whether the keys of a script's call are here: those that it did not declare nobody has routed. `strays`: it has
    /// locked more than it began with.
    pub(super) fn check_local(
        &mut self,
        database: u32,
        entry: &Entry<Handler>,
        request: Arguments<'_>,
        strays: bool,
    ) -> Result<(), CommandError> {
        if self.routing.is_none() || !entry.command.has_keys() {
            return Ok(());
        }
        let mut slots = Slots::new();
        self.slots_of(database, entry, request, &mut slots);
        let Some(routing) = &self.routing else {
            return Ok(());
        };
        match route(&routing.cluster.view(), slots) {
            Route::Here => Ok(()),
            // What was locked from the beginning was locked before the hold, which waits for it.
            Route::Held if !strays => Ok(()),
            Route::Held => Err(CommandError::fixed(
                "TRYAGAIN the slot of an undeclared key is being moved",
            )),
            _ => Err(CommandError::fixed(
                "ERR Script attempted to access a non local key in a cluster node",
            )),
        }
    }
}

/// Rounds for which a held slot without a lease is waited for, a second or more: one that leaves loses its lease a moment before
/// it hears who has its slots. Also those for a slot whose keys are all here, and which is not this node's yet.
const HELD_ROUNDS: u32 = 1000;

/// The part of cluster-node-timeout for which a lease that is over is waited for: when the leader leaves, the next one may lead a
/// moment later than that.
const GRACE: u32 = 4;

const CROSS_SLOT: CommandError =
    CommandError::fixed("CROSSSLOT Keys in request don't hash to the same slot");

/// What becomes of a request for a slot that nobody serves at the moment: it waits, or is queued for its EXEC, which will.
fn held(is_queued: bool) -> Routed {
    match is_queued {
        true => Routed::Here,
        false => Routed::Elsewhere(Step::Contended),
    }
}

/// See [`Runner::is_of_entry`].
fn is_of_entry(entry: &Entry<Handler>, request: Arguments<'_>) -> bool {
    let is_of_server = matches!(
        entry.handler,
        Handler::Admin(
            admin::Handler::Admin(_) | admin::Handler::Immediate(_) | admin::Handler::Ending(_)
        )
    );
    let names_key = match entry.command.across {
        Across::AtKey(find) => find(&request).is_some(),
        _ => false,
    };
    let publishes = entry.command.flags.contains(Flags::MAY_REPLICATE);
    is_of_server && matches!(entry.command.scope, Scope::None) && !names_key && !publishes
}

/// Whether a command of the session's transaction is [`Runner::is_of_entry`].
fn has_some_of_entry(table: &Table<Handler>, session: &Session) -> bool {
    let transaction = session.transaction().into_iter();
    let mut queued = transaction.flat_map(Transaction::queued);
    queued.any(|(id, request, _)| is_of_entry(table.entry(id), request))
}

/// Whether a plain client's request goes to every node.
fn is_for_all(entry: &Entry<Handler>) -> bool {
    let across = entry.command.across;
    let is_broadcast = matches!(
        across,
        Across::Broadcast | Across::BroadcastUnlessPinned | Across::BroadcastUnlessQueued
    );
    is_broadcast || matches!(entry.handler, Handler::Data(commands::Handler::Sweep(_)))
}

/// Whether what it leaves behind at the owner outlives the request (a place in a queue of waiting clients, watched keys), or it
/// waits for another server there.
fn lives_on(entry: &Entry<Handler>) -> bool {
    matches!(
        entry.handler,
        Handler::Data(commands::Handler::Block(_) | commands::Handler::Migrate(_))
            | Handler::Admin(admin::Handler::Immediate(_))
    )
}

/// How a request that runs a script names it.
fn named(entry: &Entry<Handler>) -> Option<Named> {
    match entry.handler {
        Handler::Admin(admin::Handler::Script(call)) => Some(call.named),
        _ => None,
    }
}

fn is_watch(entry: &Entry<Handler>) -> bool {
    entry.command.has_keys()
        && matches!(entry.handler, Handler::Admin(admin::Handler::Immediate(_)))
}

/// Where the owner is, in the form that clients are to be told; an empty host is the one that they asked.
fn moved(view: &View, kind: EndpointType, slot: u16, owner: u16) -> CommandError {
    debug_assert_ne!(owner, NOBODY);
    let node = &view.map.nodes[usize::from(owner)];
    let host = endpoint(node, kind).unwrap_or_default();
    CommandError::text_of(format!("MOVED {slot} {host}:{}", node.cluster_port))
}
