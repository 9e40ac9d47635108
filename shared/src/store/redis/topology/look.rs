//! Asks Sentinels and nodes of a cluster where the masters are.

use std::time::Duration;

use rand::seq::SliceRandom;
use redis::aio::MultiplexedConnection;
use redis::{Client, Value};

use super::address::Address;
use super::node::{config, host};
use super::slots::{Table, read_slots};
use crate::error::{Error, Result};

/// A server that does not answer in this time is skipped.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks one Sentinel after the other, beginning with another each time (`turn`), since one that was cut off reports
/// an old state.
pub(super) async fn ask_sentinels(sentinels: &[Client], turn: usize, master: &str) -> Result<Table<Address>> {
    let mut failure = None;
    for n in 0..sentinels.len() {
        let sentinel = &sentinels[(turn + n) % sentinels.len()];
        match ask_sentinel(sentinel, master).await {
            Ok(address) => return Ok(Table::of_one(address)),
            Err(error) => failure = Some(more_telling(failure, (sentinel, error))),
        }
    }
    Err(nobody("no Sentinel says where the master is", failure))
}

async fn ask_sentinel(sentinel: &Client, master: &str) -> Result<Address> {
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let reply: Option<(String, u16)> = ask.query_async(&mut connect(sentinel).await?).await?;
    let address = reply.and_then(|(ip, port)| Address::new(&ip, port));
    let address = address.ok_or_else(|| Error::unavailable(format!("it knows no master named {master:?}")))?;
    Ok(address.or_host(host(sentinel)))
}

/// Asks one node after the other, in any order. One that is cut off from the majority says that its cluster is down;
/// its answer counts only if no other gives a better one.
pub(super) async fn ask_cluster(mut nodes: Vec<Client>) -> Result<Table<Address>> {
    nodes.shuffle(&mut rand::rng());
    let (mut second_best, mut failure) = (None, None);
    for node in &nodes {
        match ask_node(node).await {
            Ok((true, table)) => return Ok(table),
            Ok((false, table)) => second_best = Some(table),
            Err(error) => failure = Some(more_telling(failure, (node, error))),
        }
    }
    second_best.ok_or_else(|| nobody("no node of the cluster says who owns which slots", failure))
}

/// Also whether the node finds its cluster in order.
async fn ask_node(node: &Client) -> Result<(bool, Table<Address>)> {
    let mut connection = connect(node).await?;
    let slots: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    let table = read_slots(&slots, host(node))?;
    let info = redis::cmd("CLUSTER").arg("INFO").query_async::<String>(&mut connection).await;
    // If the ACL denies it, the table is good enough.
    Ok((info.map_or(true, |info| info.contains("cluster_state:ok")), table))
}

async fn connect(client: &Client) -> Result<MultiplexedConnection> {
    Ok(client.get_multiplexed_async_connection_with_config(&config(PATIENCE, PATIENCE)).await?)
}

/// Who was asked, and why there is no answer.
type Failure<'a> = (&'a Client, Error);

/// One who refuses says more than one who is away. Of two, the first one counts.
fn more_telling<'a>(known: Option<Failure<'a>>, new: Failure<'a>) -> Failure<'a> {
    known.filter(|(_, known)| !known.is_unreachable() || new.1.is_unreachable()).unwrap_or(new)
}

/// A login or a certificate that was refused stays what it is, as it is of one server. That somebody does not understand the question may
/// change: another server may come to be at this address.
fn nobody(what: &str, failure: Option<Failure<'_>>) -> Error {
    match failure {
        None => Error::unavailable(what),
        Some((asked, error)) => {
            let what = format!("{what}; {}", asked.get_connection_info().addr());
            if error.is_passing() { error.told_as(&what) } else { Error::unavailable(format!("{what}: {error}")) }
        }
    }
}
