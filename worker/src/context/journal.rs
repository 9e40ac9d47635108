//! The replay machine as the calls of a body use it, with the waker of each call.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::task::Waker;

use stepfleet_shared::step::{Claimed, Wait};

use crate::replay::Machine;

/// The journal of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    machine: Machine,
    /// The wakers of the calls.
    wakers: BTreeMap<u64, Waker>,
}

impl Deref for Journal {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl DerefMut for Journal {
    fn deref_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Journal {
    pub(crate) fn of(step: &Claimed) -> Self {
        Self { machine: Machine::of(step), wakers: BTreeMap::new() }
    }

    /// See [`Machine::pass`].
    pub(super) fn pass(&mut self, number: u64, waker: &Waker) -> bool {
        let is_over = self.machine.pass(number);
        if is_over {
            self.wakers.remove(&number);
        } else {
            self.wakers.insert(number, waker.clone());
        }
        is_over
    }

    /// See [`Machine::pause`].
    pub(super) fn pause(&mut self, wait: &Wait, is_known: bool, waker: &Waker) -> bool {
        self.wakers.insert(wait.number, waker.clone());
        self.machine.pause(wait, is_known)
    }

    /// See [`Machine::wait`].
    pub(super) fn wait(&mut self, wait: Wait, waker: &Waker) {
        self.wakers.insert(wait.number, waker.clone());
        self.machine.wait(wait);
    }

    /// See [`Machine::let_go`].
    pub(super) fn let_go(&mut self, number: u64, name: &str) {
        self.wakers.remove(&number);
        self.machine.let_go(number, name);
    }

    /// See [`Machine::rest`].
    pub(crate) fn rest(&mut self) -> Option<Waker> {
        let number = self.machine.rest()?;
        self.wakers.get(&number).cloned()
    }

    /// See [`Machine::answer`].
    pub(super) fn answer(&mut self, answers: Vec<(u64, Vec<u8>)>) -> Vec<Waker> {
        let answered = self.machine.answer(answers);
        answered.iter().filter_map(|number| self.wakers.get(number).cloned()).collect()
    }

    /// See [`Machine::begin_again`].
    pub(super) fn begin_again(&mut self) {
        self.wakers.clear();
        self.machine.begin_again();
    }
}
