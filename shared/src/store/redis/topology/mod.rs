//! Which server serves which partition: one server, the master that Sentinels name, or the masters of a cluster.
//!
//! Each call concerns one partition, whose keys share one hash tag and so one slot. So plain connections to the server
//! that owns the slot serve all three kinds. The pure parts decide: `url` reads where to ask, `slots` who owns what,
//! `trouble` what an error means, `pace` how often to look. `look` asks, `watch` listens, `node` has the connections.

mod address;
mod look;
mod node;
mod pace;
mod security;
mod slots;
mod tls;
mod trouble;
mod url;
mod watch;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Client, ConnectionInfo};

use self::address::Address;
pub(crate) use self::node::{Named, Node};
use self::pace::Pace;
use self::slots::Table;
pub(crate) use self::slots::slot_of;
pub(crate) use self::trouble::Trouble;
use self::url::{Login, Places};
use crate::error::{Error, Result};
use crate::log;

/// A task that waits longer for another's look continues with what is known: the other task may be blocked.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

const CLUSTER_NODE: &str = "this is one node of a cluster, and another node has the keys of this namespace: write \
                            redis+cluster:// in place of redis://";
const REPLICA: &str = "this is a replica: give the address of its master, or let Sentinels find it with \
                       redis+sentinel://host:port/name-of-the-master";
pub(super) const SENTINEL: &str =
    "this is a Sentinel, not a Redis that keeps data: write redis+sentinel://host:port/name-of-the-master";

/// The servers of one deployment, for all partitions of a process: where each is, and the connections to them. Cheap to
/// clone; clones share everything.
///
/// It connects at the first call, and looks again when an answer says that a master has changed: `MOVED`, `READONLY`,
/// `UNBLOCKED`, a connection that breaks. It looks seldom while that does not help. A slot that is being moved
/// (`ASK`, `TRYAGAIN`) is waited out; [`Error::is_unavailable`] is true for all of these.
#[derive(Clone)]
pub struct Topology(Arc<Inner>);

struct Inner {
    places: Places,
    /// The servers to ask for the others.
    guides: Vec<Client>,
    state: Mutex<State>,
    /// Whether somebody listens to the Sentinels.
    watched: AtomicBool,
    /// Held during a look.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    table: Table<Arc<Node>>,
    /// The result of the last answered look.
    addresses: Table<Address>,
    nodes: HashMap<Address, Arc<Node>>,
    /// Whether somebody has found the table to be wrong since the last look.
    wrong: bool,
    pace: Pace,
    looks: usize,
    failure: Option<Error>,
}

impl Topology {
    /// Reads where the servers are; connects later. All forms take `user:password@`:
    ///
    /// * `redis://host[:port][/db]`, `unix:///path`: one server.
    /// * `redis+sentinel://host:port,host:port/master-name[/db]`: the master of that name, as these Sentinels say. User
    ///   and password are the servers'; those of the Sentinels are given as `?sentinel_username=` and
    ///   `sentinel_password=`.
    /// * `redis+cluster://host:port,host:port`: a cluster; any of its nodes.
    ///
    /// With `rediss` instead of `redis`, connections are encrypted, and the server's certificate must be trusted by the
    /// system, or signed by the authority in the file `?ca=/path/ca.pem`. `&cert=` and `&key=` name the files of a
    /// client certificate and its key, if the server asks for one. `password_file=` names a file with the password,
    /// which is then in no environment and no process list. The files are read once, here.
    ///
    /// Fails only if the URL cannot be used; the error says why, without the password.
    pub fn new(url: &str) -> Result<Self> {
        let places = Places::parse(url)?;
        let open = |infos: &[ConnectionInfo]| -> Result<Vec<Client>> {
            infos.iter().map(|info| Ok(Client::open(info.clone())?)).collect()
        };
        let mut state = State::default();
        let guides = match &places {
            Places::Standalone(info, tls) => {
                state.table = Table::of_one(Arc::new(Node::new(info, tls.clone(), false)?));
                Vec::new()
            }
            Places::Sentinel { sentinels, .. } => open(sentinels)?,
            Places::Cluster { seeds, .. } => open(seeds)?,
        };
        Ok(Self(Arc::new(Inner {
            places,
            guides,
            state: Mutex::new(state),
            watched: AtomicBool::new(false),
            looking: tokio::sync::Mutex::default(),
        })))
    }

    /// Whether partitions may be on different servers.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0.places, Places::Cluster { .. })
    }

    /// The server that owns a slot now, as far as is known. Looks if nothing is known or somebody has found it wrong,
    /// but not too often.
    pub(super) async fn node(&self, slot: u16) -> Result<Arc<Node>> {
        self.0.watch();
        let seen = match self.0.known(slot) {
            Known::Good(node) => return Ok(node),
            Known::Doubtful { looks } => looks,
        };
        // A look of another task may never end; then two look at once.
        let turn = tokio::time::timeout(LOOK_PATIENCE, self.0.looking.lock()).await;
        if self.0.lock().looks == seen {
            self.0.look().await;
        }
        drop(turn);
        let state = self.0.lock();
        let nobody = || Error::unavailable(format!("no server owns slot {slot} of the cluster"));
        state.table.owner(slot).cloned().ok_or_else(|| state.failure.clone().unwrap_or_else(nobody))
    }

    /// Notes an error that `node` answered for this slot, or that its shared connection with this number ran into.
    /// Returns the error for the caller.
    pub(super) fn heed(&self, slot: u16, node: &Arc<Node>, shared: Option<u64>, error: Error) -> Error {
        let trouble = error.trouble();
        if let Some(number) = shared.filter(|_| trouble.ends_connection()) {
            node.drop_shared(number);
        }
        if trouble.means_look_again() {
            self.0.doubt(slot, node, &trouble);
        }
        match (&self.0.places, trouble) {
            (Places::Standalone(..), Trouble::Moved { .. }) => error.advising(CLUSTER_NODE),
            (Places::Standalone(..), Trouble::ReadOnly) => error.advising(REPLICA),
            _ => error,
        }
    }

    /// Whether this is the only server there is, as far as the URL says.
    pub(super) fn is_one_server(&self) -> bool {
        matches!(self.0.places, Places::Standalone(..))
    }

    /// Refuses a node that no longer owns the slot, so that the holder of a connection to it opens another.
    pub(super) async fn check(&self, slot: u16, node: &Arc<Node>) -> Result<()> {
        match self.node(slot).await {
            Ok(owner) if !Arc::ptr_eq(&owner, node) => {
                Err(Error::unavailable(format!("{} no longer has this partition", node.address())))
            }
            // If no other owner is known, it is good enough.
            _ => Ok(()),
        }
    }

    /// How often the servers were looked up: for diagnosis and tests.
    pub fn looks(&self) -> usize {
        self.0.lock().looks
    }

    /// The address of the server that owns this key, as far as is known, without asking: for diagnosis and tests.
    pub fn address_of(&self, key: &str) -> Option<String> {
        self.0.lock().table.owner(slot_of(key)).map(|node| node.address())
    }
}

enum Known {
    Good(Arc<Node>),
    Doubtful { looks: usize },
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, slot: u16) -> Known {
        let state = self.lock();
        let good = !state.wrong || state.table.is_moved(slot) || !state.pace.may_look(Instant::now());
        match state.table.owner(slot) {
            Some(node) if good => Known::Good(node.clone()),
            _ => Known::Doubtful { looks: state.looks },
        }
    }

    fn doubt(&self, slot: u16, node: &Arc<Node>, trouble: &Trouble) {
        let Some(login) = self.login() else { return };
        let mut state = self.lock();
        if let Trouble::Moved { slot, to: Some(to) } = trouble {
            if let Ok(owner) = state.node_at(&to.clone().or_host(node.host()), login) {
                state.table.set_moved(*slot, owner);
            }
            state.wrong = true;
        } else if state.table.owner(slot).is_none_or(|owner| Arc::ptr_eq(owner, node)) {
            // A server that is no longer the owner reports nothing new.
            state.table.forget_moved(slot);
            state.wrong = true;
        }
    }

    fn login(&self) -> Option<&Login> {
        match &self.places {
            Places::Standalone(..) => None,
            Places::Sentinel { login, .. } | Places::Cluster { login, .. } => Some(login),
        }
    }

    async fn look(&self) {
        let (turn, nodes) = {
            let state = self.lock();
            if !state.pace.may_look(Instant::now()) {
                return;
            }
            (state.looks, state.nodes.values().map(|node| node.client().clone()).collect::<Vec<_>>())
        };
        let found = match &self.places {
            Places::Standalone(..) => return,
            Places::Sentinel { master, .. } => look::ask_sentinels(&self.guides, turn, master).await,
            Places::Cluster { .. } => {
                look::ask_cluster(nodes.into_iter().chain(self.guides.iter().cloned()).collect()).await
            }
        };
        let Some(login) = self.login() else { return };
        self.lock().learn(found, login);
    }
}

impl State {
    fn learn(&mut self, found: Result<Table<Address>>, login: &Login) {
        self.looks += 1;
        let known = found.and_then(|found| Ok((found.with(|address| self.node_at(address, login))?, found)));
        let mut is_new = false;
        match known {
            Ok((table, addresses)) => {
                is_new = addresses != self.addresses;
                if is_new && self.looks > 1 {
                    let masters: BTreeSet<_> = addresses.owners().map(ToString::to_string).collect();
                    let masters = masters.into_iter().collect::<Vec<_>>().join(", ");
                    log::info!(masters, "the masters, or the slots that they own, have changed");
                }
                let used: HashSet<_> = addresses.owners().collect();
                self.nodes.retain(|address, _| used.contains(address));
                (self.table, self.addresses, self.wrong, self.failure) = (table, addresses, false, None);
            }
            Err(error) => self.failure = Some(error),
        }
        self.pace.looked(Instant::now(), is_new);
    }

    /// The node at this address: the one there is, so that connections are shared.
    fn node_at(&mut self, address: &Address, login: &Login) -> Result<Arc<Node>> {
        if let Some(node) = self.nodes.get(address) {
            return Ok(node.clone());
        }
        let info = login.security.at(address, &login.settings)?;
        let node = Arc::new(Node::new(&info, login.security.tls(), true)?);
        self.nodes.insert(address.clone(), node.clone());
        Ok(node)
    }
}

/// Reads bytes as a URL, as an error and as a reply about slots: for the tests of all decoders.
pub(crate) fn read_all(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    drop(Places::parse(&text));
    drop(Trouble::read(&text));
    if let Ok(table) =
        redis::parse_redis_value(bytes).map_err(Error::from).and_then(|reply| slots::read_slots(&reply, "h"))
    {
        let _ = table.owner(slot_of(&text));
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology").finish_non_exhaustive()
    }
}
