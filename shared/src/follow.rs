//! Follows a run: all that it publishes, from any position, through reconnections, to its end.

use std::collections::VecDeque;

use crate::backoff::{Backoff, FOLLOWING};
use crate::error::{Error, Result};
use crate::log;
use crate::partitions::Home;
use crate::published::{Position, Published, What};
use crate::store::{CallerStore, EventReader};

/// Reads what a run publishes, entry by entry. [`RunHandle::follow`](crate::client::RunHandle::follow) makes one.
///
/// It opens a separate connection when it has to wait. Any number of followers may read the same
/// run; each sees everything, whenever it comes, for as long as the run is readable.
pub struct Follower {
    home: Home<dyn CallerStore>,
    asked: String,
    /// The run's own id, once the run exists.
    run: Option<String>,
    position: Position,
    /// The number of the entry at the position; None if that is not known.
    number: Option<u64>,
    /// Whether the number was looked up.
    placed: bool,
    read: VecDeque<Published>,
    reader: Option<Box<dyn EventReader>>,
    backoff: Backoff,
    over: bool,
}

impl Follower {
    pub(crate) fn new(home: Home<dyn CallerStore>, run: String, after: Position) -> Self {
        Self {
            home,
            asked: run,
            run: None,
            position: after,
            number: (after == Position::BEGINNING).then_some(0),
            placed: after == Position::BEGINNING,
            read: VecDeque::new(),
            reader: None,
            backoff: Backoff::new(FOLLOWING),
            over: false,
        }
    }

    /// The position of the last entry that was returned. To go on from there later, or elsewhere, use
    /// [`RunHandle::follow_from`](crate::client::RunHandle::follow_from).
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns the next entry; None when the run has ended and everything was read.
    ///
    /// Waits as long as it takes for the run to exist, for something to be published, and for Redis while it is away.
    /// Entries that were trimmed before they were read are reported in their place as [`What::Missed`]. May be dropped
    /// at any moment without losing anything. The end of a run that has published nothing is noticed within about two
    /// seconds.
    ///
    /// Fails with [`Error::is_not_found`] if the run's retention ends before everything was read, and if Redis
    /// refuses the call.
    pub async fn next(&mut self) -> Result<Option<Published>> {
        loop {
            if let Some(next) = self.take() {
                return Ok(Some(next));
            }
            if self.over {
                return Ok(None);
            }
            match self.read_more().await {
                Ok(()) => {
                    self.backoff.succeeds();
                }
                Err(error) if error.is_unavailable() => {
                    log::debug!(run = self.asked, %error, "following goes on as soon as Redis is back");
                    self.backoff.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the first entry that was read; or says first that others before it are missing.
    fn take(&mut self) -> Option<Published> {
        let number = self.read.front()?.number;
        let last = self.number.unwrap_or(0);
        // Numbers begin anew with another run of the same id.
        if number > last + 1 {
            self.number = Some(number - 1);
            let what = What::Missed { count: number - last - 1 };
            return Some(Published { position: self.position, number: number - 1, what });
        }
        let entry = self.read.pop_front()?;
        if number > 0 {
            self.number = Some(number);
        }
        self.position = entry.position;
        self.over = matches!(entry.what, What::End { .. });
        Some(entry)
    }

    async fn read_more(&mut self) -> Result<()> {
        // Not kept while it is waited for: dropped in the middle, its connection would still be waiting.
        if let Some(mut reader) = self.reader.take() {
            let entries = reader.next().await?;
            if !entries.is_empty() {
                self.reader = Some(reader);
                self.read.extend(entries);
                return Ok(());
            }
            return self.look(Some(reader)).await;
        }
        self.look(None).await
    }

    /// Looks up the run's status, and what it has published meanwhile.
    async fn look(&mut self, reader: Option<Box<dyn EventReader>>) -> Result<()> {
        let partitions = self.home.known().await?;
        let found = partitions.run(&self.asked).await?;
        if found.is_none() && self.run.is_some() {
            return Err(Error::not_found(format!("the run {} expired while it was being followed", self.asked)));
        }
        // Seen before the entries are read: what is over has them all.
        let over = found.as_ref().is_some_and(|run| run.status.is_over());
        let is_known = self.run.is_some();
        self.run = found.map(|run| run.id);
        let run = self.run.clone().unwrap_or_else(|| self.asked.clone());
        let store = partitions.of(&run);
        if !self.placed {
            let at = store.published(&run, self.position.before(), 1).await?;
            self.number = at.first().filter(|entry| entry.position == self.position).map(|entry| entry.number);
            self.placed = true;
        }
        if over {
            self.read.extend(store.published(&run, self.position, u64::MAX).await?);
            self.over = self.read.is_empty();
            return Ok(());
        }
        // A request may turn out to be a run of another id.
        let same = reader.filter(|_| is_known || run == self.asked);
        self.reader = Some(match same {
            Some(reader) => reader,
            None => store.event_reader(&run, self.position).await?,
        });
        Ok(())
    }
}
