//! The state of one connection, owned by its task.
//!
//! What others may see or ask of it stands in [`Client`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clients::{Client, client_flags};
use super::pubsub::Subscriptions;
use super::tracking::Tracker;
use super::transaction::{Transaction, Watches};
use crate::base::rng::Rng;
use crate::cluster::ask::DatabaseTotal;
use crate::cluster::node::NodeId;
use crate::resp::reply::{Mark, Output, Protocol};

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// Replies are sent.
    On,
    /// None until ON.
    Off,
    /// None for the command after this one.
    SkipNext,
    /// None for this command.
    Skip,
}

/// What a connection does after a command, before it takes the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Goes on.
    Nothing,
    /// Sends what is there and closes.
    Close,
    /// Closes at once; what is not sent is lost.
    Drop,
    /// Sleeps first (DEBUG SLEEP).
    Sleep(Duration),
    /// Has peers end other clients' waits first, and waits for what comes of it: [`Session::asking`].
    Unblock,
}

/// What peers are to be asked for CLIENT UNBLOCK and CLIENT KILL.
#[derive(Debug)]
pub struct Asking {
    /// Where the reply begins, which is 0, if it is to be replaced by whether a wait was ended.
    pub mark: Option<Mark>,
    /// Whose waits are to end.
    pub clients: Vec<Arc<Client>>,
    /// Whether with an error.
    pub with_error: bool,
}

/// How many keys the nodes of a ring hold together.
#[derive(Clone, Debug, Default)]
pub struct KeyTotals {
    /// In each database.
    pub databases: Vec<DatabaseTotal>,
    /// Nodes that did not say.
    pub missing: usize,
}

/// One connection's state.
pub struct Session {
    /// The part that others see.
    pub client: Arc<Client>,
    /// Selected database.
    pub database: u32,
    /// RESP2 or RESP3.
    pub protocol: Protocol,
    /// Whether it may run commands that need authentication.
    pub authenticated: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// Whether its requests were let through by CLIENT PAUSE already.
    pub is_past_pause: bool,
    /// Gets every command of the others.
    pub monitor: bool,
    /// Set by a handler for its connection; taken after the command.
    pub after: After,
    /// The keys of WATCH.
    pub watches: Option<Watches>,
    /// The slots of the keys that it watches at a peer.
    pub watched_elsewhere: Vec<u16>,
    /// What it is subscribed to; none when it is empty.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// How it tracks; none when it does not.
    pub tracker: Option<Box<Tracker>>,
    /// For whom the keys that it reads are remembered when it does not track itself (requests of a peer's client); 0 for
    /// nobody.
    pub reads_for: u64,
    /// Messages of a command whose reply CLIENT REPLY suppresses: they are sent in its place.
    pub messages: Output,
    /// Since MULTI.
    transaction: Option<Box<Transaction>>,
    /// That of the transaction before, empty: its memory serves again.
    spare: Option<Box<Transaction>>,
    /// Whether a script of this connection runs: what it calls is shown as its own.
    pub in_script: bool,
    /// Whether the batch has published something to somebody: its replies do not wait for those of others, since subscribers
    /// gather what is published until nothing more comes.
    pub has_published: bool,
    /// What was asked of all nodes for the command that runs next, which takes it.
    pub totals: Option<Box<KeyTotals>>,
    /// Belongs to [`After::Unblock`]; several of a transaction.
    pub asking: Vec<Asking>,
    /// Chance.
    pub rng: Rng,
}

impl Session {
    /// The state of a connection at its start.
    pub fn new(client: Arc<Client>, authenticated: bool) -> Session {
        Session {
            client,
            database: 0,
            protocol: Protocol::Resp2,
            authenticated,
            reply_mode: ReplyMode::On,
            no_touch: false,
            no_evict: false,
            is_past_pause: false,
            monitor: false,
            after: After::Nothing,
            watches: None,
            watched_elsewhere: Vec::new(),
            subscriptions: None,
            tracker: None,
            reads_for: 0,
            messages: Output::new(),
            transaction: None,
            spare: None,
            in_script: false,
            has_published: false,
            totals: None,
            asking: Vec::new(),
            rng: Rng::from_system(),
        }
    }

    /// What is queued since MULTI.
    #[inline]
    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_deref()
    }

    /// The same, to add to it. What the others see of it is told by [`Session::show_queued`].
    pub fn transaction_mut(&mut self) -> Option<&mut Transaction> {
        self.transaction.as_deref_mut()
    }

    /// MULTI.
    pub fn begin_transaction(&mut self) {
        self.transaction = Some(self.spare.take().unwrap_or_default());
        self.client.set_flag(client_flags::MULTI, true);
        self.show_queued();
    }

    /// EXEC, DISCARD.
    pub fn take_transaction(&mut self) -> Option<Box<Transaction>> {
        let taken = self.transaction.take();
        self.client.set_flag(client_flags::MULTI, false);
        self.show_queued();
        taken
    }

    /// Keeps what a transaction took for the next one.
    pub fn keep_spare(&mut self, mut transaction: Box<Transaction>) {
        transaction.clear();
        self.spare = Some(transaction);
    }

    /// Shows the others how many commands are queued since MULTI.
    pub fn show_queued(&self) {
        let queued = self
            .transaction()
            .map(|transaction| transaction.len() as i64);
        self.client
            .queued
            .store(queued.unwrap_or(-1), Ordering::Relaxed);
    }

    /// Takes the keys of WATCH; they are watched until what is returned is dropped.
    pub fn take_watches(&mut self) -> Option<Watches> {
        let had_others = !std::mem::take(&mut self.watched_elsewhere).is_empty();
        let taken = self.watches.take();
        if taken.is_some() || had_others {
            self.client.watched.store(0, Ordering::Relaxed);
        }
        taken
    }

    /// Notes keys that it watches at a peer, by their slots.
    pub fn watches_elsewhere(&mut self, slots: Vec<u16>) {
        self.watched_elsewhere.extend(slots);
        let count = self.watched_elsewhere.len() as u32;
        self.client.watched.store(count, Ordering::Relaxed);
    }

    /// For whom the keys that it reads are to be remembered: the client's id, as a rule; 0 for nobody.
    #[inline]
    pub fn reader(&self) -> u64 {
        match &self.tracker {
            Some(tracker) => tracker.reader(),
            None => self.reads_for,
        }
    }

    /// Keys that it reads at a peer are remembered there.
    pub fn reads_at(&mut self, peer: NodeId) {
        if let Some(tracker) = &mut self.tracker {
            tracker.reads_at(peer);
        }
    }

    /// The command that CLIENT CACHING was for has run, unless a transaction is queued: then it is for all of that.
    pub fn end_caching(&mut self) {
        if self.transaction.is_none()
            && let Some(tracker) = &mut self.tracker
        {
            tracker.is_caching = false;
        }
    }

    /// Whether it is subscribed to something.
    #[inline]
    pub fn is_subscribed(&self) -> bool {
        self.subscriptions.is_some()
    }

    /// Changes the protocol of the replies from here on. What was delivered in the one before has to be sent first.
    #[must_use]
    pub fn set_protocol(&mut self, protocol: Protocol) -> Option<Output> {
        self.protocol = protocol;
        self.client.switch_protocol(self.protocol_number())
    }

    /// 2 or 3.
    pub fn protocol_number(&self) -> u8 {
        match self.protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        }
    }

    /// What RESET does: the state of a fresh connection without its name; its library keeps its own. A reply that CLIENT
    /// REPLY SKIP suppresses stays suppressed.
    pub fn reset(&mut self, authenticated: bool) {
        let fresh = Session::new(self.client.clone(), authenticated);
        let Session {
            after, reply_mode, ..
        } = *self;
        *self = fresh;
        self.after = after;
        if reply_mode == ReplyMode::Skip {
            self.reply_mode = reply_mode;
        }
        // RESET has taken what there was, and nobody is subscribed any more.
        let _ = self.set_protocol(Protocol::Resp2);
        self.show_queued();
        let client = &self.client;
        client.watched.store(0, Ordering::Relaxed);
        client.labels.lock().name.clear();
        client.database.store(0, Ordering::Relaxed);
        for flag in [
            client_flags::MULTI,
            client_flags::MONITOR,
            client_flags::NO_EVICT,
            client_flags::NO_TOUCH,
        ] {
            client.set_flag(flag, false);
        }
    }
}
