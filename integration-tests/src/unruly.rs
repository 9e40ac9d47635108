//! Steps that misbehave, each in the way that its input says.

use std::time::Duration;

use stepfleet::prelude::*;

use crate::workflows::End;

/// Ten million characters, ten times the limit.
const LONG: usize = 10_000_000;
const PAGE: usize = 4096;

/// Starts [`Unruly`] and [`Endless`].
#[derive(Event, Serialize, Deserialize)]
pub struct Misbehave {
    how: String,
    /// For `allocate`: how much.
    #[serde(default)]
    mebibytes: usize,
    /// How long it does so, or waits before it does so.
    #[serde(default)]
    ms: u64,
}

/// An event of any size.
#[derive(Event, Serialize, Deserialize)]
pub struct Bulk {
    text: String,
}

/// The state, with a field of any size.
#[derive(Serialize, Deserialize, Default)]
pub struct Ledger {
    lines: u64,
    notes: String,
}

/// The result of an attempt, if it has any.
#[derive(Emit)]
pub enum Next {
    /// One event.
    Bulk(Bulk),
    /// The end.
    End(End),
}

/// Misbehaves without a time limit; one retry.
pub struct Unruly;

#[workflow(start = Misbehave, stop = End)]
impl Unruly {
    #[step(retries = 1, backoff = "10ms")]
    async fn misbehave(&self, ctx: &Context<Ledger>, ev: Misbehave) -> Outcome<Next> {
        let long = || "x".repeat(LONG);
        match ev.how.as_str() {
            "panic" => panic!("a bug in the step"),
            "panic at length" => panic!("{}", long()),
            "abort" => {
                tokio::time::sleep(Duration::from_millis(ev.ms)).await;
                std::process::abort()
            }
            "be killed" => {
                tokio::time::sleep(Duration::from_millis(ev.ms)).await;
                // As the kernel does when memory runs out.
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                std::future::pending().await
            }
            "doze" => {
                tokio::time::sleep(Duration::from_millis(ev.ms)).await;
                Ok(end("rested"))
            }
            "allocate" => Ok(end(&format!("touched {} pages", touch(ev.mebibytes)))),
            "long error" => Err(Error::msg(long())),
            "long field" => ctx.state().set("notes", &long()).await.map(|()| end("written")),
            "long edit" => ctx.state().edit(move |ledger| ledger.notes = long()).await.map(|()| end("written")),
            "long event" => Ok(Next::Bulk(Bulk { text: long() })),
            "long result" => Ok(end(&long())),
            other => Err(Terminal(format!("{other:?} is no way to misbehave")))?,
        }
    }

    #[step]
    async fn measure(&self, ev: Bulk) -> Outcome<End> {
        Ok(End { answer: ev.text.len().to_string() })
    }
}

/// Does not return by itself, and has a time limit and no retries.
pub struct Endless;

#[workflow(start = Misbehave, stop = End)]
impl Endless {
    #[step(retries = 0, timeout = "300ms")]
    async fn go_on(&self, ev: Misbehave) -> Outcome<End> {
        match ev.how.as_str() {
            "await" => std::future::pending().await,
            "block" => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            "panic when dropped" => {
                let _late = PanicsWhenDropped;
                std::future::pending().await
            }
            other => Err(Terminal(format!("{other:?} is no way to go on")))?,
        }
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("a bug in a destructor");
    }
}

fn end(answer: &str) -> Next {
    Next::End(End { answer: answer.to_owned() })
}

/// Writes to each page, so that the memory is really used; returns how many pages.
fn touch(mebibytes: usize) -> usize {
    let mut blocks = Vec::new();
    for _ in 0..mebibytes {
        let mut block = vec![0u8; 1 << 20];
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        blocks.push(block);
    }
    blocks.iter().flat_map(|block| block.iter().step_by(PAGE)).map(|byte| usize::from(*byte)).sum()
}
